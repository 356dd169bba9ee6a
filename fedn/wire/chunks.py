"""Bulk bytes as ``Chunk{bytes data = 1}``, framed by hand.

A frame is what protobuf would write (tag, varint length, payload), so any other language reads it,
but the receiver gets a view into the bytes gRPC delivered instead of a copy. Methods that carry
chunks use no serializer at all; `frame` and `unframe` are called where the bytes are.
"""

from __future__ import annotations

from collections.abc import Iterator

from fedn.domain.errors import InvalidInput

CHUNK_BYTES = 1024 * 1024
"""Largest payload of one frame."""

_TAG = 0x0A
_LENGTH_BYTES = 3
"""A varint of CHUNK_BYTES is three bytes long."""


def frame(data: bytes | bytearray | memoryview) -> bytes:
    """``data`` as a serialized Chunk, at the price of one copy. At most CHUNK_BYTES long."""
    size = len(data)
    if size == 0:
        return b""
    if size > CHUNK_BYTES:
        raise InvalidInput("chunk", f"{size} bytes", f"send at most {CHUNK_BYTES} in one chunk")
    return b"".join((_header(size), data))


def unframe(raw: bytes) -> memoryview:
    """The payload of a serialized Chunk, as a view into ``raw``.

    Raises:
        InvalidInput: when ``raw`` is anything but one data field of at most CHUNK_BYTES.
    """
    view = memoryview(raw)
    if not raw:
        return view
    start, size = _read_header(raw)
    if size > CHUNK_BYTES or len(raw) != start + size:
        raise InvalidInput("chunk", f"announces {size} bytes in a message of {len(raw)}", "send whole frames")
    return view[start:]


def split(data: bytes | bytearray | memoryview, offset: int = 0) -> Iterator[memoryview]:
    """Views of ``data`` from ``offset`` on, each at most CHUNK_BYTES long."""
    view = memoryview(data)
    for start in range(offset, len(view), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]


def _header(size: int) -> bytes:
    header = bytearray((_TAG,))
    while size >= 0x80:
        header.append(size & 0x7F | 0x80)
        size >>= 7
    header.append(size)
    return bytes(header)


def _read_header(raw: bytes) -> tuple[int, int]:
    """Where the payload starts and how long it says it is."""
    if raw[0] != _TAG:
        raise InvalidInput("chunk", f"starts with byte {raw[0]:#04x}", "send Chunk messages only")
    size = 0
    for index, byte in enumerate(raw[1 : 1 + _LENGTH_BYTES]):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if index and not byte:  # nobody writes a length longer than it is
                break
            return index + 2, size
    raise InvalidInput("chunk", "has no readable length", f"send at most {CHUNK_BYTES} bytes in one chunk")
