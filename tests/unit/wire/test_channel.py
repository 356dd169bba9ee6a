from __future__ import annotations

import asyncio

import pytest

from fedn.reducer.federation import Limits
from fedn.reducer.intake import PARTS_IN_FLIGHT
from fedn.reducer.machine import MAX_VALIDATIONS
from fedn.wire import channel
from fedn.wire.channel import _SERVER, STREAMS, UNARY_CALLS, is_loopback, new_server


@pytest.mark.parametrize("address", ["127.0.0.1:12080", "127.8.0.1:1", "localhost:80", "[::1]:12080"])
def test_loopback_is_recognised(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:12080", "10.0.0.1:80", "example.org:80", "[::]:1", "localhost.example:1"]
)
def test_everything_else_is_not(address: str) -> None:
    assert not is_loopback(address)


def test_a_connection_has_room_for_all_that_a_reducer_asks_of_one_combiner() -> None:
    """Beyond it gRPC keeps calls waiting, until a combiner that is well looks as if it did not answer."""
    each = 1 + PARTS_IN_FLIGHT + MAX_VALIDATIONS  # RunRound, Fetch, RunValidation
    watch = 1
    assert Limits().max_sessions * each + watch + UNARY_CALLS <= STREAMS
    assert UNARY_CALLS >= 256
    assert ("grpc.max_concurrent_streams", STREAMS) in _SERVER


async def test_whoever_connects_and_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "grpc.server_handshake_timeout_ms"
    assert 0 < dict(_SERVER)[name] <= 60_000
    hasty = tuple((key, 300 if key == name else value) for key, value in _SERVER)
    monkeypatch.setattr(channel, "_SERVER", hasty)
    server = new_server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.read()  # until it ends
    writer.close()
    await server.stop(None)
