"""Who may call a combiner, over real gRPC and TLS: the certificate says who it is, and nothing else does."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import identities
import numpy as np
import pytest
from secured import NAME, PATIENCE, Caller, Network, secured

from fedn.combiner.service import add_services
from fedn.domain import messages as m
from fedn.domain.errors import Busy, FednError, Forbidden, InvalidInput, LinkBroken, Revoked, Unauthenticated
from fedn.domain.identity import Role
from fedn.domain.ids import ClientId, digest_of
from fedn.helpers.files import seed_file
from fedn.identity.authority import Authority
from fedn.identity.certificates import Request, new_key, private_key
from fedn.identity.credentials import Credentials
from fedn.identity.roles import RPC, may_rpc
from fedn.wire.channel import new_server, open_channel
from fedn.wire.pb import fedn_pb2 as pb
from fedn.wire.security import https_context
from fedn.wire.status import CUT_OFF, from_rpc

LARGE = seed_file({"w": np.zeros(20_000)})
"""Its updates do not ride along: they are granted, and sent."""


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[Network]:
    async with secured(tmp_path) as network:
        yield network


# --- the table -------------------------------------------------------------------------------------


class Recorder:
    """What a combiner puts on its server, by full method name."""

    def __init__(self) -> None:
        self.methods: set[str] = set()

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        for handler in handlers:
            self.methods |= set(handler._method_handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self.methods |= {f"/{service}/{name}" for name in handlers}


async def test_every_method_has_a_row_and_every_row_a_method(network: Network) -> None:
    served = Recorder()
    add_services(served, network.combiner)  # type: ignore[arg-type]
    assert served.methods == set(RPC)


def test_every_method_of_the_protocol_is_served() -> None:
    services = pb.DESCRIPTOR.services_by_name.values()
    declared = {f"/{service.full_name}/{method.name}" for service in services for method in service.methods}
    assert declared == {method for method in RPC if method.startswith("/fedn.")}


def of_role(network: Network, role: Role) -> Credentials:
    """A certificate of this role, also of roles that no reducer would give one to."""
    if role is Role.REDUCER:
        return network.credentials(role, "")
    key = new_key()
    request = Request(role, "someone", digest_of(b""), private_key(key).public_key())
    return Credentials(
        key, network.authority.issue(request, time.time(), 3600.0), network.authority.certificate
    )


async def answer(channel: grpc.aio.Channel, method: str) -> FednError | None:
    """What a call with one empty message comes to; None as soon as it is answered, or if nobody has written
    it.

    Where a call ends while its message is written, grpc.aio may say so instead of why; then it is made again.
    """
    for _ in range(10):
        error = await _answer(channel, method)
        if error is None or CUT_OFF not in error.message:
            break
    return error


async def _answer(channel: grpc.aio.Channel, method: str) -> FednError | None:
    async def empty() -> AsyncIterator[bytes]:
        yield b""

    ask: Any = channel.stream_stream(method)
    call = ask(empty())
    try:
        async with asyncio.timeout(PATIENCE):
            async for _ in call:
                break
    except grpc.aio.AioRpcError as error:
        return None if error.code() is grpc.StatusCode.UNIMPLEMENTED else from_rpc(error)
    finally:
        call.cancel()
    return None


REFUSED = (Forbidden, Unauthenticated, LinkBroken)
WITH_CERTIFICATE = [role for role in Role if role not in (Role.ANYBODY, Role.NOBODY)]


@pytest.mark.parametrize("role", WITH_CERTIFICATE)
async def test_every_call_as_every_role_is_as_the_table_says(network: Network, role: Role) -> None:
    channel = network.channel(of_role(network, role))
    for method in RPC:
        error = await answer(channel, method)
        if may_rpc(role, method):
            assert not isinstance(error, REFUSED), (method, error)
        else:
            assert isinstance(error, Forbidden), (method, error)
            assert error.message == f"a {role} may not call {method}"


async def test_nobody_may_call_anything(network: Network) -> None:
    """Without TLS, without a certificate, with one of another network, with one of one's own."""
    other = Authority.create("other", time.time())
    strange = identities.member(other, Role.CLIENT, "ann")
    disguised = Credentials(strange.key, strange.certificate, network.authority.certificate)
    options = (("grpc.ssl_target_name_override", f"{NAME}.combiner.fedn.internal"),)
    address = f"127.0.0.1:{network.port}"
    without = grpc.ssl_channel_credentials(network.authority.certificate)
    channels = [
        network.channel(None),
        grpc.aio.secure_channel(address, without, options),
        network.channel(disguised),
        network.channel(identities.expired(network.authority, Role.CLIENT, "ann")),
    ]
    for channel in channels:
        for method in RPC:
            assert isinstance(await answer(channel, method), LinkBroken), method
    await channels[1].close()


async def test_in_a_network_without_identity_everybody_may_call_everything(tmp_path: Path) -> None:
    async with secured(tmp_path) as network:
        server = new_server()
        checks = add_services(server, network.combiner)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = open_channel(f"127.0.0.1:{port}")
        for method in RPC:
            error = await answer(channel, method)
            assert not isinstance(error, REFUSED), (method, error)
        await channel.close()
        await checks.enter_graceful_shutdown()
        await server.stop(0)


async def test_a_handshake_without_a_certificate_is_ended(network: Network) -> None:
    """Where somebody with a certificate is answered in HTTP/2, somebody without hears nothing."""

    def shake(shown: Credentials | None) -> bytes:
        context = https_context(network.authority.certificate, shown)
        context.set_alpn_protocols(["h2"])
        context.name = f"{NAME}.combiner.fedn.internal"  # type: ignore[attr-defined]
        plain = socket.create_connection(("127.0.0.1", network.port), PATIENCE)
        with plain, context.wrap_socket(plain) as secure, suppress(ssl.SSLError):
            secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            return secure.recv(100)
        return b""

    assert await asyncio.to_thread(shake, network.credentials(Role.CLIENT, "ann"))
    assert await asyncio.to_thread(shake, None) == b""


async def test_a_client_speaks_with_the_combiner_of_that_name_alone(network: Network) -> None:
    with pytest.raises(LinkBroken):
        await network.caller("ann", dials="combiner-2").hello().end()


# --- only for oneself ------------------------------------------------------------------------------


async def test_a_client_attaches_as_itself(network: Network) -> None:
    welcome = await network.caller("ann").hello().hears(m.Welcome)
    assert welcome.combiner == NAME


async def test_a_client_can_not_attach_as_another(network: Network) -> None:
    bob = network.caller("bob").hello()
    await bob.hears(m.Welcome)
    with pytest.raises(Forbidden, match="the certificate is of client:ann, which may not act for client bob"):
        await network.caller("ann").hello("bob").end()
    assert [info.client for info in network.combiner._clients] == ["bob"]
    bob.say(m.Beat())  # and bob's own stream is not ended by it
    assert network.combiner._clients.get(bob.client)


async def test_a_client_can_not_offer_for_another(network: Network) -> None:
    ann = network.caller("ann").hello()
    await ann.hears(m.Welcome)
    ann.offer(LARGE, client=ClientId("bob"))
    with pytest.raises(InvalidInput, match="ann offers an update of bob"):
        await ann.end()


@pytest.mark.parametrize("role", [Role.COMBINER, Role.REDUCER])
async def test_the_certificate_of_another_tier_does_not_attach(network: Network, role: Role) -> None:
    with pytest.raises(Forbidden, match=f"a {role} may not call /fedn.v1.Combiner/Attach"):
        await network.caller("ann", role).end()


async def granted(network: Network, *names: str) -> tuple[list[Caller], list[m.Granted], AsyncIterator[Any]]:
    """These clients are in round 1, and have been told to send their updates."""
    callers = [network.caller(name).hello() for name in names]
    for caller in callers:
        await caller.hears(m.Welcome)
    events = network.runs(LARGE, *names)
    assert isinstance(await anext(events), m.RoundOpened)
    for caller in callers:
        await caller.hears(m.Task)
        caller.offer(LARGE)
    return callers, [await caller.hears(m.Granted) for caller in callers], events


async def test_a_client_can_not_submit_with_the_grant_of_another(network: Network) -> None:
    (ann, bob), (_, of_bob), events = await granted(network, "ann", "bob")
    with pytest.raises(Forbidden, match="client:ann, which may not act for client bob"):
        await ann.submit(of_bob.grant)
    await bob.submit(of_bob.grant, LARGE)
    assert (await bob.hears(m.Receipt)).client == "bob"
    assert (await anext(events)).client == "bob"


# --- revoked, expired ------------------------------------------------------------------------------


async def test_whoever_is_revoked_is_cut_off_and_told_why(network: Network) -> None:
    (ann, bob), (of_ann, _), _ = await granted(network, "ann", "bob")
    network.combiner.revoke(["client:ann", "combiner:bob"])
    with pytest.raises(Revoked, match="client:ann was revoked"):
        await ann.end()
    assert [info.client for info in network.combiner._clients] == ["bob"]
    with pytest.raises(Revoked, match="was revoked"):
        await network.caller("ann").end()
    with pytest.raises(Revoked, match="was revoked"):
        await ann.submit(of_ann.grant)
    with pytest.raises(Revoked, match="was revoked"):
        await anext(ann.link.fetch_model(m.FetchRequest(digest_of(LARGE), 0)))
    bob.say(m.Beat())
    assert [chunk async for chunk in bob.link.fetch_model(m.FetchRequest(digest_of(LARGE), 0))]


async def test_an_upload_under_way_ends_when_its_client_is_revoked(network: Network) -> None:
    (ann,), (grant,), _ = await granted(network, "ann")
    begun = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield LARGE[:1000]
        while not network.combiner._uploads._granted[grant.grant][1].offset:
            await asyncio.sleep(0.01)
        begun.set()
        while network.combiner._clients.get(ann.client):
            await asyncio.sleep(0.01)
        yield LARGE[1000:]
        await asyncio.Event().wait()

    sending = asyncio.create_task(ann.link.submit(grant.grant, 0, chunks()))
    await asyncio.wait_for(begun.wait(), PATIENCE)
    [run] = network.combiner._parts
    upload = run.sum.uploads[ann.client]
    network.combiner.revoke(["client:ann"])
    with pytest.raises((Revoked, LinkBroken)):  # a write that is cut off may hide why
        await asyncio.wait_for(sending, PATIENCE)
    assert (upload.offset, run.received) == (1000, [])


async def test_a_stream_ends_with_the_certificate_that_opened_it(network: Network) -> None:
    ann = network.caller("ann", seconds=1.5).hello()
    await ann.hears(m.Welcome)
    with pytest.raises(Unauthenticated, match="the certificate has expired; connect anew"):
        await ann.end()
    assert not list(network.combiner._clients)


async def test_bytes_under_way_break_off_with_the_certificate_and_can_be_gone_on_with(
    network: Network,
) -> None:
    big = seed_file({"w": np.zeros(1_500_000)})  # more than what is read ahead
    ann, events = network.caller("ann", seconds=2.0).hello(), network.runs(big, "ann")
    assert isinstance(await anext(events), m.RoundOpened)
    chunks = ann.link.fetch_model(m.FetchRequest(digest_of(big), 0))
    carried = [len(await anext(chunks))]

    async def go_on() -> None:
        async for chunk in chunks:
            carried.append(len(chunk))

    with pytest.raises(Unauthenticated):
        await ann.end()
    with pytest.raises(LinkBroken, match="the certificate has expired"):
        await go_on()
    chunks = network.caller("ann").link.fetch_model(m.FetchRequest(digest_of(big), sum(carried)))
    await go_on()
    assert sum(carried) == len(big)


async def test_a_renewed_certificate_of_the_combiner_serves_new_connections(network: Network) -> None:
    renewed = network.credentials(Role.COMBINER, NAME)
    network.wallet.replace(renewed)
    context = https_context(network.authority.certificate)
    context.name = f"{NAME}.combiner.fedn.internal"  # type: ignore[attr-defined]

    def shown() -> bytes:
        plain = socket.create_connection(("127.0.0.1", network.port), PATIENCE)
        with plain, context.wrap_socket(plain) as secure:
            return secure.getpeercert(binary_form=True) or b""

    assert await asyncio.to_thread(shown) == ssl.PEM_cert_to_DER_cert(renewed.certificate.decode())
    await network.caller("ann").hello().hears(m.Welcome)


# --- bounds ----------------------------------------------------------------------------------------


async def test_a_client_that_says_too_much_is_put_off(tmp_path: Path) -> None:
    async with secured(tmp_path, messages_per_second=0.001, messages_burst=30) as network:
        ann, bob = network.caller("ann").hello(), network.caller("bob").hello()
        await ann.hears(m.Welcome)
        await bob.hears(m.Welcome)
        for _ in range(21):  # a stream counts as ten messages
            ann.say(m.Beat())
        with pytest.raises(Busy, match="ann says more than"):
            await ann.end()
        with pytest.raises(Busy, match="messages_per_second"):
            await network.caller("ann").hello().end()
        bob.say(m.Beat())
        assert network.combiner._clients.get(bob.client)


async def test_a_client_opens_few_streams_without_hello_and_others_come_in(tmp_path: Path) -> None:
    async with secured(tmp_path, handshakes=8, handshakes_each=2, hello_within=PATIENCE) as network:
        quiet = [asyncio.create_task(network.caller("ann").end()) for _ in range(2)]
        gauge = next(level for level in network.combiner._gauges._levels if level.name == "handshakes")
        async with asyncio.timeout(PATIENCE):
            while gauge.gauge().value < 2:
                await asyncio.sleep(0.01)
        with pytest.raises(Busy, match="client:ann attaches 2 times at once"):
            await network.caller("ann").end()
        await network.caller("bob").hello().hears(m.Welcome)
        for task in quiet:
            task.cancel()
        await asyncio.gather(*quiet, return_exceptions=True)


async def test_what_a_client_says_is_bounded_in_size(network: Network) -> None:
    ann = network.caller("ann").hello()
    await ann.hears(m.Welcome)
    ann.say(m.TaskFailed(m.SessionId("s"), 1, m.TaskKind.TRAIN, "x" * 300_000))
    with pytest.raises(InvalidInput, match=r"message: has 3000\d\d bytes; the most is"):
        await ann.end()


async def test_whoever_is_refused_is_still_served_afterwards(network: Network) -> None:
    """A refusal is of one call, not of the connection that it came by."""
    ann = network.caller("ann")
    with pytest.raises(Forbidden):
        await ann.hello("bob").end()
    await ann.open().hello().hears(m.Welcome)
