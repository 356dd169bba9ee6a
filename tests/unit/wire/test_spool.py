from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.domain.errors import InvalidInput, StoreUnavailable
from fedn.domain.ids import digest_of
from fedn.wire.spool import IN_MEMORY_BYTES, Spool

SMALL, LARGE = 1000, 3 * IN_MEMORY_BYTES


@pytest.fixture(params=[SMALL, LARGE], ids=["in memory", "in a file"])
def data(request: pytest.FixtureRequest) -> bytes:
    return bytes(index % 251 for index in range(request.param))


def _filled(directory: Path, data: bytes, step: int = 700) -> Spool:
    spool = Spool(directory, len(data))
    for start in range(0, len(data), step):
        spool.write(memoryview(data)[start : start + step])
    return spool


def test_what_arrives_piecewise_is_there_as_a_whole(tmp_path: Path, data: bytes) -> None:
    spool = _filled(tmp_path, data)
    assert (spool.offset, spool.digest()) == (len(data), digest_of(data))
    with spool.map() as view:
        assert view.readonly
        assert view == data
    spool.close()


def test_nothing_is_left_in_the_directory(tmp_path: Path) -> None:
    spool = _filled(tmp_path, bytes(LARGE))
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_a_small_one_needs_no_directory_at_all(tmp_path: Path) -> None:
    spool = _filled(tmp_path / "missing", bytes(SMALL))
    assert spool.offset == SMALL


def test_a_large_one_without_its_directory_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="missing"):
        Spool(tmp_path / "missing", LARGE)


def test_bytes_beyond_the_announced_size_are_refused_and_not_kept(tmp_path: Path, data: bytes) -> None:
    spool = _filled(tmp_path, data)
    with pytest.raises(InvalidInput, match=f"more than the {len(data)} bytes announced"):
        spool.write(b"!")
    assert spool.digest() == digest_of(data)
    spool.close()


def test_what_has_arrived_so_far_can_be_seen(tmp_path: Path, data: bytes) -> None:
    spool = Spool(tmp_path, len(data))
    with spool.map() as view:
        assert len(view) == 0
    spool.write(data[:500])
    with spool.map() as view:
        assert view == data[:500]
    assert spool.offset == 500
    spool.close()


def test_an_array_may_outlive_the_block(tmp_path: Path, data: bytes) -> None:
    spool = _filled(tmp_path, data)
    with spool.map() as view:
        array = np.frombuffer(view, dtype=np.uint8)
    spool.close()
    gc.collect()
    assert array.tobytes() == data


def test_closing_twice_is_harmless(tmp_path: Path, data: bytes) -> None:
    spool = _filled(tmp_path, data)
    spool.close()
    spool.close()


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_any_pieces_add_up(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    spool = Spool(Path(), len(whole))
    for piece in pieces:
        spool.write(piece)
    assert (spool.offset, spool.digest()) == (len(whole), digest_of(whole))


def test_a_write_that_fails_in_the_middle_leaves_no_trace(tmp_path: Path) -> None:
    """A disk that is full takes part of a chunk; the chunk comes again, and lands where it belongs."""
    import resource
    import signal

    data = bytes(range(256)) * 1024
    spool = Spool(tmp_path, len(data))
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        spool.write(data[:100_000])
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))
        with pytest.raises(StoreUnavailable):
            spool.write(data[100_000:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert spool.offset == 100_000
    spool.write(data[100_000:])
    with spool.map() as view:
        assert bytes(view) == data
    spool.close()
