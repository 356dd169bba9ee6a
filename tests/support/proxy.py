"""A small TCP proxy, for tests of real processes: it cuts, refuses, freezes, delays and repeats.

It runs an event loop of its own in one thread, so that plain tests can use it. It stands for the
network, so it holds little: what the receiver does not take, the sender keeps.
"""

from __future__ import annotations

import asyncio
import math
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from replay import say_again

T = TypeVar("T")

PIECE_BYTES = 64 * 1024
PIECES_DELAYED = 64
"""What one direction of one connection may hold back while it is delayed."""
REPEATABLE_BYTES = 8 * 1024 * 1024
QUIET_SECONDS = 1.0
"""A repeated connection ends when nothing has been answered for so long."""
_RESET = struct.pack("ii", 1, 0)


class _Cut(Exception):
    """The connection has carried what it was allowed to."""


@dataclass(eq=False)
class _Way:
    """One direction of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    upwards: bool
    carried: int = 0
    allowed: float = math.inf
    said: bytearray | None = field(default_factory=bytearray)

    def remember(self, data: bytes) -> None:
        """Keep all that was said for a repetition, unless it has become too much."""
        if self.said is not None and len(self.said) + len(data) <= REPEATABLE_BYTES:
            self.said += data
        else:
            self.said = None


@dataclass(eq=False)
class _Connection:
    task: asyncio.Task[None]
    ways: tuple[_Way, _Way]


class Proxy:
    """Carries connections from ``address`` to ``target`` ("host:port"). Use as a context manager.

    Every method may be called from any thread. ``up`` and ``down`` count the bytes carried so far (client
    to target, target to client), ``cuts`` the connections that were reset, ``refused`` those that never
    came to be.
    """

    def __init__(self, target: str, port: int = 0) -> None:
        host, _, number = target.rpartition(":")
        self._target = (host, int(number))
        self.up = self.down = self.cuts = self.refused = 0
        self._delay = 0.0
        self._limit: tuple[int, bool] | None = None
        self._refusing = False
        self._connections: list[_Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._moving = asyncio.Event()
        self._moving.set()
        try:
            self._listener = _listener(port)
            self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
            self._server = self._run(asyncio.start_server(self._accept, sock=self._listener))
        except BaseException:
            self._end_loop()
            raise

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def cut(self, share: float = 1.0, rng: random.Random | None = None) -> int:
        """Reset that share of the open connections (rounded up); returns how many."""

        async def cut() -> int:
            chosen = (rng or random).sample(self._connections, math.ceil(share * len(self._connections)))
            for connection in chosen:
                connection.task.cancel()
            self.cuts += len(chosen)
            await asyncio.gather(*(connection.task for connection in chosen), return_exceptions=True)
            return len(chosen)

        return self._run(cut())

    def cut_after(self, bytes_: int, upwards: bool) -> None:
        """Reset, once, the first connection that has carried this many more bytes in that direction."""

        async def arm() -> None:
            self._set_limit((bytes_, upwards))

        self._run(arm())

    def refuse(self) -> None:
        """From now on new connections are reset."""
        self._refusing = True

    def accept(self) -> None:
        """Take new connections again."""
        self._refusing = False

    def freeze(self) -> None:
        """No byte moves any more and nothing is closed: a network that fell silent."""
        self._loop.call_soon_threadsafe(self._moving.clear)

    def thaw(self) -> None:
        """Go on where it froze."""
        self._loop.call_soon_threadsafe(self._moving.set)

    def delay(self, seconds: float) -> None:
        """Every byte takes that much longer from now on; 0 ends it. Order is kept."""
        self._delay = seconds

    def repeat(self, rng: random.Random | None = None) -> int:
        """Say all that the client of one open connection has said so far again, on a new connection.

        The answers are thrown away. Returns how many bytes are said again: 0 if no connection is open
        that has said anything and at most REPEATABLE_BYTES.
        """

        async def repeat() -> int:
            said = [connection.ways[0].said for connection in self._connections]
            if not (repeatable := [text for text in said if text]):
                return 0
            chosen = bytes((rng or random).choice(repeatable))
            self._keep(asyncio.create_task(self._say_again(chosen)))
            return len(chosen)

        return self._run(repeat())

    def close(self) -> None:
        """Reset what is open, and end the thread."""
        if self._thread.is_alive():
            self._run(self._end())
            self._end_loop()

    # --- in the proxy's own thread -----------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """In a task of our own: asyncio's would complain of being cancelled."""
        self._keep(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        far: asyncio.StreamWriter | None = None
        clean = False
        try:
            if self._refusing:
                self.refused += 1
                return
            await self._moving.wait()
            far_reader, far = await _connected(self._target)
            await self._carry(task, (_Way(reader, far, True), _Way(far_reader, writer, False)))
            clean = True
        except* (OSError, _Cut):
            pass
        finally:
            for end in (writer, far):
                if end:
                    _close(end, clean)

    async def _carry(self, task: asyncio.Task[None], ways: tuple[_Way, _Way]) -> None:
        """Both directions, until both have ended or one broke."""
        connection = _Connection(task, ways)
        self._arm(connection)
        self._connections.append(connection)
        try:
            async with asyncio.TaskGroup() as group:
                for way in ways:
                    way.writer.transport.set_write_buffer_limits(0)  # written means gone
                    held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(PIECES_DELAYED)
                    group.create_task(self._take(way, held))
                    group.create_task(self._give(way, held))
        finally:
            self._connections.remove(connection)

    async def _take(self, way: _Way, held: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"?"
        while data:
            await self._moving.wait()
            data = await way.reader.read(PIECE_BYTES)
            await held.put((self._loop.time() + self._delay, data))
            if not self._delay:
                await held.join()  # what the receiver does not take, the sender keeps

    async def _give(self, way: _Way, held: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"?"
        while data:
            due, data = await held.get()
            await asyncio.sleep(due - self._loop.time())
            await self._moving.wait()
            if data:
                await self._write(way, data)
            else:
                way.writer.write_eof()
            held.task_done()

    async def _write(self, way: _Way, data: bytes) -> None:
        last = len(data) >= way.allowed - way.carried
        if last:
            data = data[: int(way.allowed) - way.carried]
            self._set_limit(None)
        way.writer.write(data)
        await way.writer.drain()
        way.carried += len(data)
        if way.upwards:
            self.up += len(data)
            way.remember(data)
        else:
            self.down += len(data)
        if last:
            self.cuts += 1
            raise _Cut

    def _set_limit(self, limit: tuple[int, bool] | None) -> None:
        self._limit = limit
        for connection in self._connections:
            self._arm(connection)

    def _arm(self, connection: _Connection) -> None:
        for way in connection.ways:
            bytes_, upwards = self._limit or (math.inf, way.upwards)
            way.allowed = way.carried + bytes_ if way.upwards is upwards else math.inf

    async def _say_again(self, said: bytes) -> None:
        """Ends when everything was said and nothing more is answered."""
        with suppress(OSError):
            reader, writer = await _connected(self._target)
            try:
                await say_again(said, reader, writer, QUIET_SECONDS)
            finally:
                _close(writer, clean=False)


async def _connected(target: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*target, limit=PIECE_BYTES)
    _narrow(writer.get_extra_info("socket"))
    return reader, writer


def _listener(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _narrow(listener)  # those that it accepts inherit it
    listener.bind(("127.0.0.1", port))
    return listener


def _narrow(end: Any) -> None:
    """Small buffers: what lies in them neither is with its sender nor has come, and a cut loses it."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE_BYTES)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE_BYTES)


def _close(writer: asyncio.StreamWriter, clean: bool) -> None:
    """Close it, or reset it if its story did not end by itself."""
    if clean:
        writer.close()
        return
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
