from __future__ import annotations

from pathlib import Path

import pytest

from fedn.domain.ids import Digest, digest_of
from fedn.stores import s3_local
from fedn.stores.s3_local import LocalBlobs, released


def added(blobs: LocalBlobs, data: bytes) -> Digest:
    with blobs.incoming() as blob:
        blob.write(data)
        blobs.keep(blob.digest(), blob)
        return blob.digest()


def held(blobs: LocalBlobs, digest: Digest) -> bytes | None:
    view = blobs.mapped(digest)
    return None if view is None else bytes(view)


def test_those_used_longest_ago_make_room(tmp_path: Path):
    blobs = LocalBlobs(tmp_path / "cache", 10)
    first, second = added(blobs, b"1111"), added(blobs, b"2222")
    assert held(blobs, first) == b"1111"
    third = added(blobs, b"3333")
    assert [held(blobs, digest) for digest in (first, second, third)] == [b"1111", None, b"3333"]
    assert held(blobs, added(blobs, bytes(11))) is None
    assert list((tmp_path / "cache").iterdir()) == []
    blobs.close()


def test_many_small_ones_are_not_many_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(s3_local, "MOST_KEPT", 3)
    blobs, before = LocalBlobs(tmp_path, 1000), open_files()
    kept = [added(blobs, b"%d" % number) for number in range(9)]
    assert [held(blobs, digest) for digest in kept] == [None] * 6 + [b"6", b"7", b"8"]
    assert open_files() == before + 3
    blobs.close()
    assert open_files() == before


def test_what_is_not_kept_is_gone(tmp_path: Path):
    blobs, before = LocalBlobs(tmp_path, 1000), open_files()
    with blobs.incoming() as blob:
        blob.write(b"half")
    assert open_files() == before
    assert held(blobs, digest_of(b"half")) is None


def test_a_view_outlives_its_blob(tmp_path: Path):
    blobs = LocalBlobs(tmp_path, 10)
    digest = added(blobs, b"1111")
    view = blobs.mapped(digest)
    assert view is not None
    with released(view) as shown:
        blobs.forget(digest)
        added(blobs, b"2222")
        assert bytes(shown) == b"1111"
    blobs.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
