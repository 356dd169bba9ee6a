"""A reducer on memory stores, and combiners that answer as a test says; no client trains."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from fedn.domain import messages as m
from fedn.domain.errors import LinkBroken
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, Incarnation, SessionId, digest_of
from fedn.domain.part import PartHeader
from fedn.domain.plan import plan_from
from fedn.domain.round import RoundSpec, ValidationSpec
from fedn.domain.update import Contributor
from fedn.helpers.files import seed_file
from fedn.reducer.driver import SessionDriver
from fedn.reducer.federation import Limits, Reducer
from fedn.stores.memory import MemoryModels, MemoryState
from fedn.testing.federation import Story

SUM = np.ones(4).tobytes()
"""What every client's update adds up to: examples · x of the model below."""


class Puppet:
    """Implements ports.CombinerLink: seals every part at once, with all of its clients folded.

    ``faults`` are raised by RunRound one after the other, before it opens anything; with ``open`` cleared a
    part stays open. What is asked for is kept in ``specs`` and ``told``.
    """

    def __init__(self, name: str, *clients: str, held: tuple[m.RoundHeld, ...] = ()) -> None:
        self.name = CombinerName(name)
        self.incarnation = Incarnation(f"{name}1")
        self.clients = tuple(ClientId(client) for client in clients)
        self.held = held
        self.faults: deque[Exception] = deque()
        self.open = asyncio.Event()
        self.open.set()
        self.specs: list[RoundSpec] = []
        self.told: list[Any] = []
        self.says: asyncio.Queue[m.CombinerEvent] = asyncio.Queue()
        self.breaks = asyncio.Event()

    async def watch(self, _: m.WatchRequest) -> AsyncIterator[m.CombinerEvent]:
        infos = tuple(m.ClientInfo(client, client) for client in self.clients)
        yield m.Snapshot(PROTOCOL_VERSION, self.name, self.incarnation, infos, self.held)
        while True:
            yield await self.says.get()

    async def run_round(self, spec: RoundSpec) -> AsyncIterator[m.RoundEvent]:
        self.specs.append(spec)
        if self.faults:
            raise self.faults.popleft()
        yield m.RoundOpened(self.incarnation, spec.part, spec.clients)
        for client in spec.clients:
            yield m.UpdateReceived(client, 1, {"loss": 0.5})
        await self._until_sealed()
        yield self.sealed(spec)

    async def _until_sealed(self) -> None:
        """Raises LinkBroken where the link breaks first."""
        waits = [asyncio.create_task(event.wait()) for event in (self.open, self.breaks)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if self.breaks.is_set():
            self.breaks.clear()
            raise LinkBroken("the cable was pulled")

    def sealed(self, spec: RoundSpec) -> m.PartSealed:
        data = SUM if spec.clients else b""
        folded = tuple(Contributor(client, 1, digest_of(client.encode())) for client in spec.clients)
        return m.PartSealed(
            PartHeader(spec.session, spec.round, self.name, self.incarnation, spec.part, digest_of(data),
                       len(data), folded), data)  # fmt: skip

    async def run_validation(self, spec: ValidationSpec) -> AsyncIterator[m.ValidationEvent]:
        for client in spec.clients:
            yield m.ModelValidated(spec.session, spec.round, client, spec.model, 1, {"accuracy": 1.0})
        yield m.ValidationSealed(len(spec.clients))

    async def fetch_part(self, request: m.FetchRequest) -> AsyncIterator[bytes]:
        yield SUM[request.offset :]

    async def release(self, command: m.ReleaseUpdate) -> m.ReleaseAnswer:
        self.told.append(command)
        return m.ReleaseAnswer(folded=False)

    async def admit(self, command: m.AdmitClient) -> m.AdmitAnswer:
        self.told.append(command)
        return m.AdmitAnswer(admitted=True)

    async def ack(self, command: m.AckRound) -> None:
        self.told.append(command)

    async def abort(self, command: m.AbortRound) -> None:
        self.told.append(command)

    async def settle(self, command: m.SettleUpdate) -> None:
        self.told.append(command)

    async def drain(self, command: m.DrainRequest) -> None:
        self.told.append(command)

    async def close(self) -> None:
        """Nothing to close."""


class Stage:
    """The reducer, its puppets, and what it tells people."""

    def __init__(self, models: MemoryModels) -> None:
        self.state, self.models, self.story = MemoryState(), models, Story()
        self.puppets: dict[str, Puppet] = {}
        self.reducer = Reducer(
            self.state, models, lambda address, _: self.puppets[address], self.story, Limits(0.2, 0.5)
        )

    async def add(self, puppet: Puppet) -> None:
        self.puppets[puppet.name] = puppet
        await self.reducer.register(
            m.Registration(PROTOCOL_VERSION, puppet.name, puppet.name, puppet.incarnation)
        )

    async def play(self, **plan: Any) -> SessionId:
        """Start a session once every client of every puppet is seen."""
        clients = sum(len(puppet.clients) for puppet in self.puppets.values())
        await self.story.until("network_changed", combiners=len(self.puppets), clients=clients)
        digest, size = self.models.put([seed_file({"w": np.zeros(4)})])
        plan = {"rounds": 1, "min_clients": clients, "validate": False, "check": False, **plan}
        return (await self.reducer.start_session("test", digest, size, plan_from(plan))).session

    def driver(self, session: SessionId) -> SessionDriver:
        return self.reducer._driver(session)

    def reason(self, session: SessionId) -> str:
        return str(self.reducer.progress(session)["reason"])

    async def until(self, holds: Callable[[], object], seconds: float = 10.0) -> None:
        """Whatever happens on the loop may make it true."""
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.001)


@asynccontextmanager
async def stage(*puppets: Puppet, models: MemoryModels | None = None) -> AsyncIterator[Stage]:
    made = Stage(models or MemoryModels())
    await made.reducer.start()
    try:
        for puppet in puppets:
            await made.add(puppet)
        yield made
    finally:
        await made.reducer.close()


def raising(error: Exception) -> Callable[[Any], Awaitable[Any]]:
    """A call that never goes well."""

    async def call(_: Any) -> Any:
        raise error

    return call
