"""A neighbour that vanished without a word, or was stopped: both ends of the connection notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
from proxy import Proxy

from fedn.wire.channel import ANSWER_SECONDS, PING_SECONDS, new_server, open_channel

PATIENCE = 20.0
"""Four times what it should take, a third of what gRPC takes by itself."""


class Endless(grpc.GenericRpcHandler):
    """Answers every call with one message, then waits; remembers that it was given up."""

    def __init__(self) -> None:
        self.given_up = asyncio.Event()

    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_stream_rpc_method_handler(self._answer)

    async def _answer(self, request: bytes, _: object) -> AsyncIterator[bytes]:
        try:
            yield request
            await asyncio.Event().wait()
        finally:
            self.given_up.set()


async def test_silence_ends_a_stream_at_both_ends() -> None:
    assert PING_SECONDS + ANSWER_SECONDS <= 5  # what the documents promise
    handler = Endless()
    server = new_server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with Proxy(f"127.0.0.1:{port}") as link:
        channel = open_channel(link.address)
        call = channel.unary_stream("/endless/answer")(b"hello")
        assert await anext(aiter(call)) == b"hello"
        link.freeze()
        async with asyncio.timeout(PATIENCE):
            assert await call.code() == grpc.StatusCode.UNAVAILABLE
            await handler.given_up.wait()
        await channel.close()
        await server.stop(None)
