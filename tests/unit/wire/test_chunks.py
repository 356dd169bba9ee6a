from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.domain.errors import InvalidInput
from fedn.wire.chunks import CHUNK_BYTES, frame, split, unframe
from fedn.wire.pb import fedn_pb2 as pb


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 65_536, CHUNK_BYTES - 1, CHUNK_BYTES])
def test_a_frame_is_what_protobuf_writes_and_reads(size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    assert frame(data) == pb.Chunk(data=data).SerializeToString()
    assert pb.Chunk.FromString(frame(data)).data == data
    assert unframe(pb.Chunk(data=data).SerializeToString()) == data


@given(st.binary(max_size=300))
def test_any_data_comes_back(data: bytes) -> None:
    assert unframe(frame(data)) == data
    assert unframe(frame(memoryview(data))) == data


def test_what_arrived_is_looked_at_and_not_copied() -> None:
    raw = frame(b"x" * 1000)
    assert unframe(raw).obj is raw


@pytest.mark.parametrize(
    "raw",
    [
        b"\x0a",  # no length
        b"\x0a\x80",  # length breaks off
        b"\x0a\x05abc",  # too short
        b"\x0a\x01ab",  # too long
        b"\x0a\x01a\x0a\x01b",  # two fields
        b"\x12\x01a",  # another field
        b"\x0a\x81\x00a",  # a length with a byte to spare
        b"\x0a\x80\x80\x00",  # a length of nothing, in three bytes
        b"\x0a\x80\x80\x80\x01" + b"x" * 2**21,  # a length of four bytes
        b"\x0a\xff\xff\xff\xff\x0f",  # 4 GiB announced
        b"\x0a" + b"\xff" * 9 + b"\x01",  # 2**64 - 1 announced
        b"\x0a" + b"\xff" * 20,  # a length without end
        b"\x0d\x01\x00\x00\x00",  # the right field, of another type
        b"\x8a\x00\x01a",  # the right tag with a byte to spare
        b"\x0a\x81\x80\x40" + b"x" * (CHUNK_BYTES + 1),  # a whole frame, but too large
    ],
)
def test_what_is_not_one_chunk_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match="chunk"):
        unframe(raw)


@given(st.binary(max_size=64))
def test_stray_bytes_are_read_like_protobuf_does_or_refused(raw: bytes) -> None:
    try:
        data = unframe(raw)
    except InvalidInput:
        return
    assert pb.Chunk.FromString(raw).data == data


def test_a_chunk_beyond_the_limit_is_not_framed() -> None:
    with pytest.raises(InvalidInput, match="at most"):
        frame(bytes(CHUNK_BYTES + 1))


def test_splitting_and_framing_lose_nothing() -> None:
    data = bytes(range(256)) * 10_000
    parts = [unframe(raw) for raw in map(frame, split(data, 7))]
    assert b"".join(parts) == data[7:]
    assert [len(part) for part in parts] == [CHUNK_BYTES, CHUNK_BYTES, len(data) - 7 - 2 * CHUNK_BYTES]
