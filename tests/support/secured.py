"""A combiner behind TLS in the running event loop, and whoever calls it with which certificate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import identities

from fedn.client.links import GrpcCombiner
from fedn.combiner.driver import Combiner
from fedn.combiner.limits import Limits
from fedn.combiner.service import add_services
from fedn.domain import messages as m
from fedn.domain.identity import Role
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, SessionId, digest_of
from fedn.domain.model import layout_of
from fedn.domain.round import RoundSpec
from fedn.domain.update import UpdateHeader
from fedn.identity.authority import Authority
from fedn.identity.certificates import server_name
from fedn.identity.credentials import Credentials, Wallet
from fedn.stores.cache import ModelCache
from fedn.stores.memory import MemoryModels
from fedn.wire import calls
from fedn.wire.calls import CONTROL, reader
from fedn.wire.channel import new_server, open_channel
from fedn.wire.pb import fedn_pb2 as pb
from fedn.wire.security import server_credentials

NAME = CombinerName("combiner-1")
SESSION = SessionId("s")
PATIENCE = 20.0


class Unasked:
    """The reducer as this combiner sees it: every model rides along, so nothing is fetched."""

    def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[bytes]:
        raise AssertionError(request)


UNASKED: Any = Unasked()


@dataclass
class Network:
    """One authority, one combiner that listens, and channels to it. ``port`` is the combiner's."""

    authority: Authority
    combiner: Combiner
    wallet: Wallet
    port: int = 0
    _open: list[Any] = field(default_factory=list)

    def credentials(self, role: Role, name: str, seconds: float = identities.HOUR) -> Credentials:
        if role is Role.REDUCER:
            return identities.reducer(self.authority, seconds=seconds)
        return identities.member(self.authority, role, name, seconds=seconds)

    def channel(self, shown: Credentials | None) -> grpc.aio.Channel:
        """To the combiner, showing this; without TLS for None."""
        name = server_name(Role.COMBINER, NAME) if shown else ""
        channel = open_channel(f"127.0.0.1:{self.port}", shown, name)
        self._open.append(channel)
        return channel

    def caller(
        self, name: str, role: Role = Role.CLIENT, seconds: float = identities.HOUR, dials: str = NAME
    ) -> Caller:
        """A client, which speaks the protocol by hand; it may hold another role's certificate."""
        wallet = Wallet(self.credentials(role, name, seconds))
        return Caller(
            GrpcCombiner(f"127.0.0.1:{self.port}", CombinerName(dials), wallet), self, ClientId(name)
        )

    def runs(self, file: bytes, *clients: str) -> AsyncIterator[m.RoundEvent]:
        """The reducer's call for round 1 with this model."""
        spec = RoundSpec(
            1, SESSION, 1, 0, digest_of(file), len(file), layout_of(file).digest,
            tuple(map(ClientId, clients)), "{}", 0, 60.0, "mean", self.combiner.incarnation, file,
        )  # fmt: skip
        channel = self.channel(self.credentials(Role.REDUCER, ""))
        return calls.stream(channel, f"/{CONTROL}/RunRound", spec, reader(pb.RoundEvent, envelope=True))

    async def close(self) -> None:
        for channel in self._open:
            await channel.close()


class Caller:
    """A client that says and hears what a test wants."""

    def __init__(self, link: GrpcCombiner, network: Network, client: ClientId) -> None:
        self.client = client
        self.link = link
        network._open.append(self.link)
        self.open()

    def open(self) -> Caller:
        """A stream, or another one on the same connection."""
        self._says: asyncio.Queue[m.ClientMessage] = asyncio.Queue()
        self.heard = self.link.attach(self._messages(self._says))
        return self

    async def _messages(self, says: asyncio.Queue[m.ClientMessage]) -> AsyncIterator[m.ClientMessage]:
        while True:
            yield await says.get()

    def say(self, message: m.ClientMessage) -> None:
        self._says.put_nowait(message)

    def hello(self, client: str = "") -> Caller:
        self.say(m.Hello(PROTOCOL_VERSION, ClientId(client or self.client), self.client))
        return self

    async def hears(self, kind: type) -> Any:
        async with asyncio.timeout(PATIENCE):
            while not isinstance(message := await anext(self.heard), kind):
                pass
            return message

    async def end(self) -> None:
        """Until the stream ends; raises what it was ended with."""
        async with asyncio.timeout(PATIENCE):
            async for _ in self.heard:
                pass

    def offer(self, file: bytes, **header: Any) -> None:
        """Offer the model itself, unchanged, as an update whose bytes are sent apart."""
        digest = digest_of(file)
        values = {"session": SESSION, "round": 1, "client": self.client, "base_model": digest, "examples": 10,
                  "size": len(file), "digest": digest, "layout": layout_of(file).digest}  # fmt: skip
        self.say(m.UpdateOffered(UpdateHeader(**{**values, **header})))

    async def submit(self, grant: str, file: bytes = b"") -> None:
        """Without a file nothing is sent, which is for refusals: whoever writes just then may miss why."""

        async def chunks() -> AsyncIterator[bytes]:
            if not file:
                await asyncio.Event().wait()
            yield file

        async with asyncio.timeout(PATIENCE):
            await self.link.submit(grant, 0, chunks())


@asynccontextmanager
async def secured(directory: Path, reducer: Any = UNASKED, **limits: Any) -> AsyncIterator[Network]:
    """A network whose one combiner listens on loopback, by TLS."""
    authority = Authority.create("test", time.time())
    models = ModelCache(MemoryModels(), keep=2)
    combiner = Combiner(NAME, reducer, models, directory, Limits(**limits))
    network = Network(authority, combiner, Wallet(identities.member(authority, Role.COMBINER, NAME)))
    server = new_server()
    checks = add_services(server, combiner)
    network.port = server.add_secure_port("127.0.0.1:0", server_credentials(network.wallet))
    await server.start()
    try:
        yield network
    finally:
        await network.close()
        await checks.enter_graceful_shutdown()
        await combiner.close()
        await server.stop(0)
