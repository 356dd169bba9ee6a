"""What stands between two machines: a proxy to ask by CONNECT, a front door that routes by SNI, an ear.

All only pass bytes on, and keep what passed, so that a test can look for what should not be there.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self


class _Door:
    """Listens on loopback inside the running loop; what is open ends with the block."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.passed = bytearray()
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._guarded(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self.serve(reader, writer)
        finally:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, said: bytes = b"",
        tls: ssl.SSLContext | None = None,
    ) -> None:  # fmt: skip
        """Carry both ways between this connection and a port of this machine."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        far_writer.write(said)
        self.passed += said
        try:
            await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
        finally:
            far_writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.passed += data
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            with suppress(OSError):
                writer.write_eof()
        else:  # TLS knows no half
            writer.close()


class ConnectProxy(_Door):
    """An HTTP proxy for CONNECT alone. ``routes`` says to which port here a host:port leads.

    ``asked`` lists what was asked for, also in vain, and ``passwords`` with which user:password.
    """

    def __init__(self, routes: Mapping[str, int]) -> None:
        super().__init__()
        self._routes = routes
        self.asked: list[str] = []
        self.passwords: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.decode("latin-1").split(" ", 2)
        self.asked.append(target)
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(": ")
            if name.lower() == "proxy-authorization":
                self.passwords.append(base64.b64decode(value.removeprefix("Basic ")).decode())
        if method != "CONNECT" or target not in self._routes:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await self.join(reader, writer, self._routes[target])


class SniFront(_Door):
    """One port for all: reads which server a TLS connection asks for, and passes it through to that one.

    ``route`` gives a port of this machine for the name, which is '' if none was sent.
    """

    def __init__(self, route: Callable[[str], int]) -> None:
        super().__init__()
        self._route = route
        self.names: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(5)
        hello = await reader.readexactly(int.from_bytes(head[3:5], "big"))
        self.names.append(name := server_name_in(hello))
        await self.join(reader, writer, self._route(name), head + hello)


class Ear(_Door):
    """Ends TLS as ``server`` and begins it anew as ``client``, so that ``passed`` is what they say."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext, port: int) -> None:
        super().__init__(server)
        self._client, self._target = client, port

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.join(reader, writer, self._target, tls=self._client)


def server_name_in(hello: bytes) -> str:
    """The SNI of a ClientHello (RFC 8446, 4.1.2; RFC 6066, 3); '' if there is none."""
    at = 4 + 2 + 32  # message header, version, random
    at += 1 + hello[at]  # session id
    at += 2 + int.from_bytes(hello[at : at + 2], "big")  # cipher suites
    at += 1 + hello[at]  # compression
    at += 2  # all extensions
    while at < len(hello):
        kind, size = int.from_bytes(hello[at : at + 2], "big"), int.from_bytes(hello[at + 2 : at + 4], "big")
        if kind == 0:  # list length, name type, name length, name
            return hello[at + 4 + 5 : at + 4 + size].decode("ascii")
        at += 4 + size
    return ""
