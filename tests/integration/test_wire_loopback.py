"""Chunks, errors and channel options over a real gRPC connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import grpc
import pytest

from fedn.domain.errors import LinkBroken, StaleTerm
from fedn.wire.channel import new_server, open_channel
from fedn.wire.chunks import frame, split, unframe
from fedn.wire.pb import fedn_pb2 as pb
from fedn.wire.pb import fedn_pb2_grpc as pb_grpc
from fedn.wire.status import rpc_errors, to_rpc

DATA = bytes(range(256)) * 12_000


class _Combiner(pb_grpc.CombinerServicer):
    async def Fetch(
        self, request: pb.FetchRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.Chunk]:
        if request.digest == "old":
            await context.abort(*to_rpc(StaleTerm("term 3 is in charge — stop")))
        for chunk in split(DATA, request.offset):
            yield pb.Chunk(data=bytes(chunk))

    async def Submit(
        self, request_iterator: AsyncIterator[pb.Chunk], context: grpc.aio.ServicerContext
    ) -> pb.Done:
        received = [chunk.data async for chunk in request_iterator]
        assert b"".join(received) == DATA
        return pb.Done()


@pytest.fixture
async def address() -> AsyncIterator[str]:
    server = new_server()
    pb_grpc.add_CombinerServicer_to_server(_Combiner(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(address) as channel:
        yield channel


async def test_hand_made_frames_meet_generated_code(channel: grpc.aio.Channel) -> None:
    submit = channel.stream_unary("/fedn.v1.Combiner/Submit", response_deserializer=pb.Done.FromString)
    assert await submit(map(frame, split(DATA))) == pb.Done()


async def test_frames_of_generated_code_are_read_by_hand(channel: grpc.aio.Channel) -> None:
    fetch = channel.unary_stream("/fedn.v1.Combiner/Fetch", pb.FetchRequest.SerializeToString)
    received = [bytes(unframe(raw)) async for raw in fetch(pb.FetchRequest(digest="d", offset=100))]
    assert b"".join(received) == DATA[100:]


async def test_an_error_arrives_as_itself(channel: grpc.aio.Channel) -> None:
    stub = pb_grpc.CombinerStub(channel)
    with pytest.raises(StaleTerm, match="term 3 is in charge — stop"), rpc_errors():
        await stub.Fetch(pb.FetchRequest(digest="old")).read()


async def test_an_error_in_user_code_is_a_broken_link(channel: grpc.aio.Channel) -> None:
    stub = pb_grpc.CombinerStub(channel)
    with pytest.raises(LinkBroken), rpc_errors():
        await stub.Submit(iter([pb.Chunk(data=b"other")]))


@pytest.mark.parametrize("chunks", [0, 3])
async def test_nobody_there_is_a_broken_link_however_grpc_puts_it(chunks: int) -> None:
    async with open_channel(f"127.0.0.1:{_free_port()}") as channel:
        with pytest.raises(LinkBroken), rpc_errors():
            await pb_grpc.CombinerStub(channel).Submit(iter([pb.Chunk(data=b"x")] * chunks))


async def test_cancelling_a_call_from_here_stays_a_cancellation(channel: grpc.aio.Channel) -> None:
    async def submit() -> None:
        with rpc_errors():
            await pb_grpc.CombinerStub(channel).Submit(_endless())

    task = asyncio.create_task(submit())
    await channel.channel_ready()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_port_in_use_is_refused(address: str) -> None:
    with pytest.raises(RuntimeError, match="Failed to bind"):
        new_server().add_insecure_port(address)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def _endless() -> AsyncIterator[pb.Chunk]:
    while True:
        yield pb.Chunk(data=b"x")
        await asyncio.Event().wait()
