"""Who may make which call on a real TLS connection, who is told to have made it, and when it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from identities import member, reducer

from fedn.domain.errors import FednError, Forbidden, LinkBroken, NotFound, Unauthenticated
from fedn.domain.identity import Role
from fedn.identity.authority import Authority
from fedn.identity.certificates import server_name
from fedn.identity.credentials import Credentials, Wallet
from fedn.identity.roles import RPC
from fedn.wire import guard
from fedn.wire.channel import new_server, open_channel
from fedn.wire.guard import EXPIRED, caller
from fedn.wire.security import server_credentials
from fedn.wire.status import CUT_OFF, rpc_errors

AUTHORITY = Authority.create("n", time.time())
NAME = server_name(Role.COMBINER, "b")
ATTACH, FETCH, SUBMIT = (f"/fedn.v1.Combiner/{name}" for name in ("Attach", "Fetch", "Submit"))
DRAIN = "/fedn.v1.CombinerControl/Drain"
MEBIBYTE = bytes(2**20)


class Service:
    """Answers with who calls; ``ended`` is set whenever a stream's generator has been closed."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def drain(self, raw: bytes, _: Any) -> bytes:
        if raw == b"fail":
            raise NotFound("there is no such thing")
        return str(caller.get()).encode()

    async def attach(self, raws: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        try:
            yield str(caller.get()).encode()
            async for raw in raws:
                task = asyncio.create_task(self.drain(raw, None))
                yield await task
        finally:
            self.ended.set()

    async def fetch(self, _: bytes, __: Any) -> AsyncIterator[bytes]:
        try:
            while True:
                yield MEBIBYTE
        finally:
            self.ended.set()

    async def submit(self, raws: AsyncIterator[bytes], _: Any) -> bytes:
        try:
            async for _raw in raws:
                pass
        finally:
            self.ended.set()
        return str(caller.get()).encode()

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        return (
            grpc.method_handlers_generic_handler(
                "fedn.v1.CombinerControl", {"Drain": grpc.unary_unary_rpc_method_handler(self.drain)}
            ),
            grpc.method_handlers_generic_handler("fedn.v1.Combiner", {
                "Attach": grpc.stream_stream_rpc_method_handler(self.attach),
                "Fetch": grpc.unary_stream_rpc_method_handler(self.fetch),
                "Submit": grpc.stream_unary_rpc_method_handler(self.submit),
            }),
        )  # fmt: skip


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def ports(service: Service) -> AsyncIterator[tuple[str, str]]:
    """The addresses of one service: with TLS, and plain."""
    servers = [new_server(), new_server()]
    for server in servers:
        server.add_generic_rpc_handlers(service.handlers())
        checks = health.aio.HealthServicer()
        await checks.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    wallet = Wallet(member(AUTHORITY, Role.COMBINER, "b"))
    secure = servers[0].add_secure_port("127.0.0.1:0", server_credentials(wallet))
    plain = servers[1].add_insecure_port("127.0.0.1:0")
    for server in servers:
        await server.start()
    yield f"127.0.0.1:{secure}", f"127.0.0.1:{plain}"
    for server in servers:
        await server.stop(None)


def credentials(role: Role, name: str = "x", seconds: float = 3600.0) -> Credentials:
    if role is Role.REDUCER:
        return reducer(AUTHORITY, seconds=seconds)
    return member(AUTHORITY, role, name, seconds=seconds)


async def ask(channel: grpc.aio.Channel, method: str, raw: bytes = b"") -> bytes:
    unary: Any = channel.unary_unary(method)
    with rpc_errors():
        answer: bytes = await unary(raw, timeout=30)
        return answer


async def first(channel: grpc.aio.Channel, method: str) -> bytes:
    """The first item of a stream, opened in the way of any kind of method.

    A refusal may come while the message is written, and its reason be lost; then it is asked for again.
    """
    for _ in range(9):
        try:
            return await _first(channel, method)
        except LinkBroken as error:
            if error.message != CUT_OFF:
                raise
    return await _first(channel, method)


async def _first(channel: grpc.aio.Channel, method: str) -> bytes:
    opened: Any = channel.stream_stream(method)()
    try:
        with rpc_errors():
            await opened.write(b"")
            answer: bytes = await opened.read()
            return answer
    finally:
        opened.cancel()


# --- who may ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.REDUCER, Role.COMBINER, Role.CLIENT])
async def test_every_row_of_the_table_holds_at_the_door(role: Role, ports: tuple[str, str]) -> None:
    """Also for methods that this server does not have: who may call one is told that it is not there."""
    served = {
        ATTACH,
        FETCH,
        SUBMIT,
        DRAIN,
        *(f"/grpc.health.v1.Health/{name}" for name in ("Check", "Watch")),
    }
    async with open_channel(ports[0], credentials(role), NAME) as channel:
        for method, roles in RPC.items():
            if role not in roles:
                with pytest.raises(Forbidden, match=rf"^a {role} may not call {method}$"):
                    await first(channel, method)
            elif method not in served:
                with pytest.raises(LinkBroken, match="Method not found"):
                    await first(channel, method)


@pytest.mark.parametrize("method", ["/fedn.v1.Combiner/Other", "/other.Service/Call", "/x"])
@pytest.mark.parametrize("role", [Role.REDUCER, Role.COMBINER, Role.CLIENT])
async def test_a_method_without_a_row_is_refused_to_everybody(
    role: Role, method: str, ports: tuple[str, str]
) -> None:
    async with open_channel(ports[0], credentials(role), NAME) as channel:
        with pytest.raises(Forbidden, match=f"a {role} may not call {method}"):
            await ask(channel, method)


async def test_grpc_s_own_health_service_is_guarded_too(ports: tuple[str, str]) -> None:
    request = health_pb2.HealthCheckRequest()
    serving = health_pb2.HealthCheckResponse.SERVING
    for role in (Role.REDUCER, Role.CLIENT):
        async with open_channel(ports[0], credentials(role), NAME) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            assert (await stub.Check(request, timeout=30)).status == serving
            watching = stub.Watch(request)
            assert (await anext(aiter(watching))).status == serving
            watching.cancel()
    async with open_channel(ports[0], credentials(Role.COMBINER), NAME) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(request, timeout=30)).status == serving
        with (
            pytest.raises(Forbidden, match=r"a combiner may not call /grpc\.health\.v1\.Health/Watch"),
            rpc_errors(),
        ):
            await anext(aiter(stub.Watch(request)))


async def test_without_tls_everybody_may_everything_and_is_nobody_in_particular(
    ports: tuple[str, str],
) -> None:
    async with open_channel(ports[1]) as channel:
        assert (await ask(channel, DRAIN)).startswith(b"anybody:ipv4:127.0.0.1:")
        assert (await first(channel, ATTACH)).startswith(b"anybody:ipv4:127.0.0.1:")
        with pytest.raises(
            LinkBroken, match="whoever answers there is no neighbour of this version: Method not found!"
        ):
            await ask(channel, "/x.Y/Z")


# --- who calls -------------------------------------------------------------------------------------


async def test_calls_at_the_same_time_are_not_taken_for_one_another(ports: tuple[str, str]) -> None:
    names = [f"client-{number}" for number in range(20)]

    async def attach(name: str) -> list[bytes]:
        async def messages() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b""
                await asyncio.sleep(0)

        async with open_channel(ports[0], credentials(Role.CLIENT, name), NAME) as channel:
            duplex: Any = channel.stream_stream(ATTACH)
            return [raw async for raw in duplex(messages())]

    heard = await asyncio.gather(*map(attach, names))
    assert heard == [[f"client:{name}".encode()] * 6 for name in names]


async def test_a_reducer_is_known_by_its_certificate(ports: tuple[str, str]) -> None:
    async with open_channel(ports[0], credentials(Role.REDUCER), NAME) as channel:
        assert await ask(channel, DRAIN) == b"reducer:reducer"


async def test_without_a_wire_it_is_anybody() -> None:
    assert caller.get().role is Role.ANYBODY


async def test_what_a_handler_raises_arrives_as_itself(ports: tuple[str, str]) -> None:
    async with open_channel(ports[0], credentials(Role.REDUCER), NAME) as channel:
        with pytest.raises(NotFound, match="there is no such thing"):
            await ask(channel, DRAIN, b"fail")


# --- for how long ----------------------------------------------------------------------------------


async def test_a_stream_ends_when_the_certificate_does_by_which_it_was_opened(
    ports: tuple[str, str], service: Service
) -> None:
    held = credentials(Role.CLIENT, "ann", seconds=2)
    async with open_channel(ports[0], held, NAME) as channel:
        duplex: Any = channel.stream_stream(ATTACH)()
        await duplex.write(b"")
        with rpc_errors():
            assert [await duplex.read(), await duplex.read()] == [b"client:ann", b"client:ann"]
        with pytest.raises(Unauthenticated, match=EXPIRED), rpc_errors():
            await duplex.read()
        assert time.time() >= held.expires_at
        await service.ended.wait()
        # The connection is still open, and of no use any more.
        with pytest.raises(Unauthenticated, match=EXPIRED):
            await first(channel, ATTACH)


async def test_an_upload_ends_when_its_certificate_does(ports: tuple[str, str], service: Service) -> None:
    async with open_channel(ports[0], credentials(Role.CLIENT, seconds=2), NAME) as channel:
        upload: Any = channel.stream_unary(SUBMIT)()
        await upload.write(MEBIBYTE)
        with pytest.raises(Unauthenticated, match=EXPIRED), rpc_errors():
            await upload
        await service.ended.wait()


async def test_a_peer_that_does_not_read_can_t_hold_a_stream_open(
    ports: tuple[str, str], service: Service
) -> None:
    async with open_channel(ports[0], credentials(Role.CLIENT, seconds=2), NAME) as channel:
        chunks: Any = channel.unary_stream(FETCH)(b"")
        await anext(aiter(chunks))  # and then no more: the windows are full, and the handler waits in a write
        await service.ended.wait()
        chunks.cancel()


async def test_health_ends_too(ports: tuple[str, str]) -> None:
    async with open_channel(ports[0], credentials(Role.CLIENT, seconds=2), NAME) as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        with pytest.raises(Unauthenticated, match=EXPIRED), rpc_errors():
            async for _ in watching:
                pass


async def test_a_caller_that_goes_away_ends_its_call(ports: tuple[str, str], service: Service) -> None:
    async with open_channel(ports[0], credentials(Role.CLIENT), NAME) as channel:
        await first(channel, ATTACH)
    await service.ended.wait()


class Clock:
    """Instead of the module ``time``: a wall clock that somebody sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


@pytest.mark.parametrize("jump", [-3600.0, 0.0, 3600.0])
async def test_a_clock_that_is_set_is_followed(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is what the clock shows, not how long it has been since."""
    clock = Clock(1000.0)
    monkeypatch.setattr(guard, "time", clock)
    monkeypatch.setattr(guard, "LOOK_SECONDS", 0.01)
    started = asyncio.Event()

    async def work() -> None:
        started.set()
        await asyncio.Event().wait()

    ends = 1060.0
    task = asyncio.create_task(guard._until(ends, work()))
    await started.wait()
    clock.now += jump
    for _ in range(10):
        await asyncio.sleep(0.01)
    assert task.done() == (clock.now >= ends)
    clock.now = ends
    with pytest.raises(Unauthenticated, match=EXPIRED):
        await task


async def test_work_that_is_done_is_not_ended_afterwards() -> None:
    async def work() -> str:
        return "done"

    assert await guard._until(time.time() + 3600, work()) == "done"


async def test_work_that_fails_fails_as_itself() -> None:
    async def work() -> None:
        raise NotFound("no")

    with pytest.raises(FednError, match="no"):
        await guard._until(time.time() + 3600, work())


async def test_whoever_cancels_the_call_cancels_it() -> None:
    task = asyncio.create_task(guard._until(time.time() + 3600, asyncio.Event().wait()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
