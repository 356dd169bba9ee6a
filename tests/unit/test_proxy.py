"""The proxy that other tests stand their networks on."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import grpc
import pytest
from proxy import Proxy

from fedn.wire.channel import new_server, open_channel

PATIENCE = 20.0


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Echo:
    """Answers every byte with itself, and remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[bytearray] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                connection, _ = self.listener.accept()
                self.heard.append(bytearray())
                threading.Thread(target=self._answer, args=(connection, self.heard[-1]), daemon=True).start()
        except OSError:
            pass

    def _answer(self, connection: socket.socket, heard: bytearray) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    heard += data
                    connection.sendall(data)
            except OSError:
                pass

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.address) as proxy:
        yield proxy


@pytest.fixture
def dial(proxy: Proxy) -> Iterator[Callable[[], socket.socket]]:
    opened: list[socket.socket] = []

    def dial() -> socket.socket:
        host, _, port = proxy.address.partition(":")
        opened.append(socket.create_connection((host, int(port)), timeout=PATIENCE))
        return opened[-1]

    yield dial
    for each in opened:
        each.close()


Dial = Callable[[], socket.socket]


def said(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return heard(connection, len(text))


def heard(connection: socket.socket, size: int) -> bytes:
    answer = b""
    while len(answer) < size and (data := connection.recv(size - len(answer))):
        answer += data
    return answer


def test_bytes_go_both_ways_and_are_counted(proxy: Proxy, dial: Dial) -> None:
    connection = dial()
    assert said(connection, b"hello") == b"hello"
    until(lambda: (proxy.up, proxy.down) == (5, 5))  # counted once it is gone, so a moment later
    connection.shutdown(socket.SHUT_WR)
    assert connection.recv(1) == b""
    until(lambda: proxy.open == 0)
    assert proxy.cuts == 0


def test_a_share_of_the_connections_is_reset(proxy: Proxy, dial: Dial) -> None:
    connections = [dial() for _ in range(4)]
    for connection in connections:
        said(connection, b"x")
    assert proxy.cut(0.5, random.Random(1)) == 2
    assert proxy.open == 2
    broken = 0
    for connection in connections:
        try:
            assert said(connection, b"y") == b"y"
        except OSError:
            broken += 1
    assert broken == 2
    assert proxy.cut() == 2
    assert (proxy.open, proxy.cuts) == (0, 4)


def test_refused_connections_are_reset_until_they_are_accepted(proxy: Proxy, dial: Dial) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionError):
        said(dial(), b"x")
    assert proxy.refused == 1
    proxy.accept()
    assert said(dial(), b"x") == b"x"


def test_a_frozen_network_is_silent_and_loses_nothing(proxy: Proxy, dial: Dial) -> None:
    connection, carried = dial(), b"before"
    said(connection, carried)
    proxy.freeze()
    connection.sendall(b"later")
    connection.settimeout(0.1)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    assert (proxy.up, proxy.open) == (len(carried), 1)
    connection.settimeout(PATIENCE)
    proxy.thaw()
    assert heard(connection, 5) == b"later"


def test_delayed_bytes_keep_their_order(proxy: Proxy, dial: Dial) -> None:
    text = random.Random(2).randbytes(500_000)
    connection = dial()
    proxy.delay(0.02)
    threading.Thread(target=connection.sendall, args=(text,)).start()
    assert heard(connection, 300_000) == text[:300_000]
    proxy.delay(0)
    assert heard(connection, 200_000) == text[300_000:]


def test_a_connection_is_reset_after_exactly_so_many_bytes(echo: Echo, proxy: Proxy, dial: Dial) -> None:
    connection = dial()
    said(connection, b"x" * 100)
    proxy.cut_after(150_000, upwards=True)
    with pytest.raises(ConnectionError):
        said(connection, b"y" * 2**20)
    until(lambda: proxy.cuts == 1)
    assert proxy.up == 150_100
    assert said(dial(), b"y" * 200_000) == b"y" * 200_000  # once only


def test_what_the_receiver_does_not_read_the_sender_keeps(proxy: Proxy, dial: Dial) -> None:
    connection = dial()
    connection.setblocking(False)
    sent, quiet = 0, 0
    while quiet < 20:  # nobody reads the echo
        try:
            sent += connection.send(b"x" * 65536)
            quiet = 0
        except BlockingIOError:
            quiet += 1
            time.sleep(0.01)
        assert sent < 64 * 2**20
    assert proxy.up <= sent


def test_all_that_a_connection_said_is_said_again(echo: Echo, proxy: Proxy, dial: Dial) -> None:
    assert proxy.repeat() == 0
    connection = dial()
    said(connection, b"one")
    said(connection, b"two")
    assert proxy.repeat() == 6
    until(lambda: len(echo.heard) == 2 and echo.heard[1] == b"onetwo")
    assert said(connection, b"three") == b"three"  # the first goes on


def test_a_target_that_is_gone_resets_its_client(echo: Echo, proxy: Proxy, dial: Dial) -> None:
    echo.close()
    with pytest.raises(ConnectionError):
        said(dial(), b"x")


# --- repetition of gRPC: the calls are executed a second time ---------------------------------------


class Counted:
    """A gRPC server with one call of each shape; ``done`` are the calls that were executed whole."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.server = new_server()
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        calls = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Submit": grpc.stream_unary_rpc_method_handler(self.submit),
            "Fetch": grpc.unary_stream_rpc_method_handler(self.fetch),
            "Attach": grpc.stream_stream_rpc_method_handler(self.attach),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", calls),))

    async def unary(self, raw: bytes, _: object) -> bytes:
        self.done.append(("unary", len(raw)))
        return raw

    async def submit(self, raws: AsyncIterator[bytes], _: object) -> bytes:
        size = sum([len(raw) async for raw in raws])
        self.done.append(("submit", size))
        return b""

    async def fetch(self, raw: bytes, _: object) -> AsyncIterator[bytes]:
        for _piece in range(6):
            yield bytes(2**20)
        self.done.append(("fetch", len(raw)))

    async def attach(self, raws: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        async for raw in raws:
            self.done.append(("attach", len(raw)))
            yield raw

    async def executed(self, call: tuple[str, int], times: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.done.count(call) < times:
                await asyncio.sleep(0.01)


async def _big(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(2**20)


async def test_grpc_calls_are_executed_a_second_time() -> None:
    counted = Counted()
    await counted.server.start()
    with Proxy(f"127.0.0.1:{counted.port}") as proxy:
        async with open_channel(proxy.address) as channel:
            attached = channel.stream_stream("/test/Attach")()
            await attached.write(b"hello")
            assert await attached.read() == b"hello"
            assert await channel.unary_unary("/test/Unary")(b"x" * 300) == b"x" * 300
            await channel.stream_unary("/test/Submit")(_big(5))
            assert len([piece async for piece in channel.unary_stream("/test/Fetch")(b"all")]) == 6
            first = list(counted.done)
            assert proxy.repeat() > 5 * 2**20
            for call in first:
                await counted.executed(call, 2)
            await attached.write(b"more")  # the first connection goes on undisturbed
            assert await attached.read() == b"more"
            await attached.done_writing()
    await counted.server.stop(None)


async def test_a_connection_that_said_too_much_is_not_repeated() -> None:
    counted = Counted()
    await counted.server.start()
    with Proxy(f"127.0.0.1:{counted.port}") as proxy:
        async with open_channel(proxy.address) as channel:
            await channel.stream_unary("/test/Submit")(_big(9))
            assert proxy.repeat() == 0
    await counted.server.stop(None)
