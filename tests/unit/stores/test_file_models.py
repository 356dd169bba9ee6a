from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fedn.stores.files as files
from fedn.domain.errors import Damaged, StoreUnavailable
from fedn.domain.ids import Digest, digest_of
from fedn.stores.files import STALE_SECONDS, FileModels
from fedn.testing.contracts.model_store import ModelStoreContract, whole

ROOT = Path(files.__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(root: Path) -> FileModels:
    return FileModels(root)


class TestFileModels(ModelStoreContract):
    @pytest.fixture
    def store(self, root: Path) -> FileModels:
        return FileModels(root)

    def spoil(self, store: FileModels, digest: Digest, blob: bytes) -> None:
        store._path(digest).write_bytes(blob)


def test_a_blob_lies_under_its_digest(root: Path, store: FileModels):
    digest, _ = store.put([b"abc"])
    assert [path for path in root.rglob("*") if path.is_file()] == [root / digest[:2] / digest]


def test_a_refused_blob_leaves_no_file(root: Path, store: FileModels):
    with pytest.raises(Damaged):
        store.put([b"abd"], digest_of(b"abc"))
    assert list(root.iterdir()) == []


def test_blobs_are_there_after_reopening(root: Path, store: FileModels):
    digest, _ = store.put([b"abc"])
    assert whole(FileModels(root), digest) == b"abc"
    assert whole(FileModels(root, read_only=True), digest) == b"abc"


def test_read_only_refuses_to_write(root: Path, store: FileModels):
    digest, _ = store.put([b"abc"])
    reader = FileModels(root, read_only=True)
    with pytest.raises(StoreUnavailable, match="reading only"):
        reader.put([b"xyz"])
    with pytest.raises(StoreUnavailable, match="reading only"):
        reader.delete(digest)
    assert list(store.digests()) == [digest]


def test_what_is_not_ours_is_not_listed_and_not_touched(root: Path, store: FileModels):
    digest, _ = store.put([b"abc"])
    strangers = [root / "notes.txt", root / ".incoming-mine", root / digest[:2] / "README", root / "zz"]
    for stranger in strangers:
        stranger.write_text("a person's")
        os.utime(stranger, (0, 0))
    misplaced = root / digest[:2] / ("00" + digest[2:])
    misplaced.write_text("in the wrong place")
    assert list(FileModels(root).digests()) == [digest]
    assert all(stranger.exists() for stranger in strangers)


def test_only_temporary_files_of_dead_writers_are_removed(root: Path, store: FileModels):
    dead, alive = root / f".incoming-{'0' * 32}", root / f".incoming-{'1' * 32}"
    for path in (dead, alive):
        path.write_text("half")
    old = time.time() - STALE_SECONDS - 60
    os.utime(dead, (old, old))
    FileModels(root, read_only=True)
    assert dead.exists()
    FileModels(root)
    assert not dead.exists()
    assert alive.exists()


def test_a_vanished_directory_is_an_unavailable_store(root: Path, store: FileModels):
    root.rmdir()
    with pytest.raises(StoreUnavailable, match="models"):
        store.put([b"abc"])


HALF_A_PUT = """
import sys
from fedn.stores.files import FileModels
def chunks():
    for _ in range(5):
        yield bytes(2**20)
    print("half", flush=True)
    sys.stdin.read()
    yield b"never"
FileModels(sys.argv[1]).put(chunks())
"""


def test_a_killed_writer_leaves_no_half_blob(root: Path, store: FileModels):
    writer = subprocess.Popen(
        [sys.executable, "-c", HALF_A_PUT, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"half\n"
    writer.kill()
    writer.communicate()
    (left,) = root.iterdir()
    assert left.name.startswith(".incoming-")
    assert list(store.digests()) == []

    old = time.time() - STALE_SECONDS - 60
    os.utime(left, (old, old))
    assert list(FileModels(root).digests()) == []
    assert list(root.iterdir()) == []
