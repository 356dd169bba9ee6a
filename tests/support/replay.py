"""Says what one client has said over TCP a second time, as `proxy.py` recorded it.

HTTP/1 is simply said again. HTTP/2 needs care, or the server would end the connection: data waits for
the windows that this server opens, and pings, which it counts, are left out.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD_BYTES = 9
_DATA, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 4, 6, 8
_INITIAL_WINDOW = 4
_ACK = 1
_MOST_SECONDS = 10.0


async def say_again(
    said: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, quiet: float
) -> None:
    """Say it; ends when nothing has been answered for ``quiet`` seconds, after some seconds in any case."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_MOST_SECONDS):
            if said.startswith(_PREFACE):
                await _say_frames(said, reader, writer, quiet)
            else:
                await _say_plainly(said, reader, writer, quiet)


async def _say_plainly(
    said: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, quiet: float
) -> None:
    async def speak() -> None:
        writer.write(said)
        await writer.drain()

    async with asyncio.TaskGroup() as group:
        group.create_task(speak())
        while await _heard(reader, quiet):
            pass


async def _heard(reader: asyncio.StreamReader, quiet: float) -> bytes:
    """Empty when nothing came for so long, and at the end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(quiet):
            return await reader.read(65536)
    return b""


async def _say_frames(
    said: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, quiet: float
) -> None:
    windows = _Windows()
    listening = asyncio.create_task(_listen(reader, windows, quiet))
    try:
        writer.write(_PREFACE)
        for frame in _frames(said[len(_PREFACE) :]):
            if frame.kind != _PING and (frame.kind != _DATA or await windows.room(frame, quiet)):
                writer.write(frame.raw)
                await writer.drain()
        await listening
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _listen(reader: asyncio.StreamReader, windows: _Windows, quiet: float) -> None:
    pending = b""
    while data := await _heard(reader, quiet):
        pending += data
        for frame in _frames(pending):
            pending = pending[len(frame.raw) :]
            windows.opened_by(frame)


@dataclass(frozen=True, slots=True)
class _Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes
    raw: bytes


def _frames(data: bytes) -> Iterator[_Frame]:
    """The whole frames at the start of ``data``."""
    at = 0
    while len(data) >= (start := at + _HEAD_BYTES):
        end = start + int.from_bytes(data[at : at + 3])
        if end > len(data):
            return
        stream = int.from_bytes(data[at + 5 : start]) & 0x7FFFFFFF
        yield _Frame(data[at + 3], data[at + 4], stream, data[start:end], data[at:end])
        at = end


@dataclass
class _Windows:
    """How much data this server takes now, in all (stream 0) and for each stream."""

    initial: int = 65535
    moved: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    closed: set[int] = field(default_factory=set)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def opened_by(self, frame: _Frame) -> None:
        """Note what a frame of the server allows."""
        if frame.kind == _WINDOW_UPDATE:
            self.moved[frame.stream] += int.from_bytes(frame.payload) & 0x7FFFFFFF
        elif frame.kind == _SETTINGS and not frame.flags & _ACK:
            for at in range(0, len(frame.payload), 6):
                if int.from_bytes(frame.payload[at : at + 2]) == _INITIAL_WINDOW:
                    self.initial = int.from_bytes(frame.payload[at + 2 : at + 6])
        self.changed.set()

    async def room(self, frame: _Frame, quiet: float) -> bool:
        """Take room for its data; False if the server no longer takes any of this stream."""
        size = len(frame.payload)
        while frame.stream not in self.closed:
            if size <= min(65535 + self.moved[0], self.initial + self.moved[frame.stream]):
                self.moved[0] -= size
                self.moved[frame.stream] -= size
                return True
            self.changed.clear()
            try:
                async with asyncio.timeout(quiet):
                    await self.changed.wait()
            except TimeoutError:
                self.closed.add(frame.stream)
        return False
