"""A session never hangs without a word: whatever goes wrong below its machine is said, and ends or mends.

A reducer on memory stores, and combiners that answer as a test says; no client trains.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedn.aggregation.mean import Mean
from fedn.domain import messages as m
from fedn.domain.errors import Busy, Damaged, InvalidInput, LinkBroken, StoreUnavailable
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, Incarnation, SessionId, digest_of
from fedn.domain.part import PartHeader
from fedn.domain.plan import plan_from
from fedn.domain.round import RoundSpec, ValidationSpec
from fedn.domain.update import Contributor, UpdateHeader
from fedn.helpers.files import read_file, seed_file
from fedn.ports import Vector
from fedn.reducer import driver
from fedn.reducer import machine as mc
from fedn.reducer import round as rd
from fedn.reducer.driver import SessionDriver
from fedn.reducer.federation import Limits, Reducer
from fedn.reducer.round import PartKey
from fedn.selection.uniform import Uniform
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

    async def close(self) -> None:
        """Nothing to close."""


class Stage:
    """The reducer, its puppets, and what it tells people."""

    def __init__(self, models: MemoryModels) -> None:
        self.state, self.models, self.story = MemoryState(), models, Story()
        self.puppets: dict[str, Puppet] = {}
        self.reducer = Reducer(
            self.state, models, lambda address: self.puppets[address], self.story, Limits(0.2, 0.5)
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
        plan = {"rounds": 1, "min_clients": clients, "validate": False, **plan}
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


# --- what the machine waits for is answered, or the session says why not -------------------------------


class Forgetful(MemoryModels):
    """Can't be read for a while, once there is a second model."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 3

    def read(self, digest: Any, offset: int = 0) -> Any:
        if self.failures and len(list(self.digests())) > 1:
            self.failures -= 1
            raise StoreUnavailable("too many open files")
        return super().read(digest, offset)


async def test_a_committed_model_that_can_not_be_read_for_a_while_is_read_later() -> None:
    async with stage(Puppet("a", "ann"), models=Forgetful()) as play:
        session = await play.play(rounds=2)
        await play.story.until("waiting", session=session, reason="too many open files")
        await play.story.until("session_finished", session=session)
        assert play.state.session(session).head.round == 2


def nothing(*_: object) -> Any:
    return None


def broken(*_: object) -> Any:
    yield ClientId("ann")
    raise ValueError("the dice are gone")


@pytest.mark.parametrize(
    ("select", "why"), [(nothing, "NoneType"), (broken, "the dice are gone")], ids=["None", "raises late"]
)
async def test_a_selector_that_answers_nonsense_fails_the_session(
    select: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Uniform, "select", select)
    async with stage(Puppet("a", "ann")) as play:
        session = await play.play()
        failed = await play.story.until("session_failed", session=session, seconds=5)
        assert why in failed["reason"]


async def test_nobody_is_selected_among_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is held is gone on with; a selector need not cope with an empty list."""
    monkeypatch.setattr(Uniform, "select", lambda _, clients, *__: [clients[0]])
    async with stage(Puppet("b", "bob")) as play:
        session = await play.play(rounds=2)
        driver = play.driver(session)
        driver._do(mc.SelectClients(2, ()))
        await play.story.until("session_finished", session=session)


async def test_a_part_that_fails_in_an_unforeseen_way_fails_the_session_with_its_reason() -> None:
    puppet = Puppet("a", "ann")
    puppet.faults.append(ValueError("no such enum"))
    async with stage(puppet) as play:
        session = await play.play()
        failed = await play.story.until("session_failed", session=session, seconds=5)
        assert failed["reason"] == "internal fault: no such enum"


@pytest.mark.parametrize("call", ["release", "admit"])
async def test_a_release_or_an_admission_that_fails_is_not_waited_for_for_ever(call: str) -> None:
    """Bob is listed at b and offers at a: b is asked to release him, then a to admit him."""
    a, b = Puppet("a", "ann"), Puppet("b", "bob")
    for puppet in (a, b):
        puppet.open.clear()
        setattr(puppet, call, raising(Damaged("the ledger is torn")))
    async with stage(a, b) as play:
        session = await play.play()
        await play.until(lambda: a.specs and b.specs)
        await play.story.until("update_received", count=2)
        header = UpdateHeader(session, 1, ClientId("bob"), a.specs[0].model, 1, 10, digest_of(b"bob"),
                              a.specs[0].layout)  # fmt: skip
        a.says.put_nowait(m.ReleaseRequested(header))
        failed = await play.story.until("session_failed", session=session, seconds=5)
        assert failed["reason"] == "internal fault: the ledger is torn"


async def test_a_settlement_that_fails_is_nobodys_end() -> None:
    """Whoever missed it asks again: the session owes it to nobody."""
    puppet = Puppet("a", "ann")
    puppet.ack = raising(Damaged("no such round"))  # type: ignore[method-assign,assignment]
    async with stage(puppet) as play:
        session = await play.play(rounds=2)
        await play.story.until("session_finished", session=session)


async def test_a_fault_while_a_round_is_committed_lets_its_record_be_written() -> None:
    """What is told to the clients must be what is durable."""
    puppet = Puppet("a", "ann")
    async with stage(puppet, models=Gated()) as play:
        session = await play.play(rounds=2)
        gate = play.models
        assert isinstance(gate, Gated)
        await play.until(gate.waits.is_set)
        play.driver(session).fail("internal fault: a bit fell over")
        gate.go.set()
        failed = await play.story.until("session_failed", session=session, seconds=5)
        assert failed["reason"] == "internal fault: a bit fell over"
        assert play.state.session(session).head.round == 1
        await play.until(lambda: puppet.told)
        assert puppet.told == [m.AckRound(1, session, 1, (0,))]


class Gated(MemoryModels):
    """Keeps the second model waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.go = threading.Event(), threading.Event()

    def put(self, chunks: Any, expected: Any = None) -> Any:
        if list(self.digests()):
            self.waits.set()
            assert self.go.wait(10)
        return super().put(chunks, expected)


# --- a part that does not open -------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody waits between two tries; how long they would have is here."""
    waited: list[float] = []

    async def paused(seconds: float, most: float) -> float:
        waited.append(seconds)
        await asyncio.sleep(0)
        return min(most, seconds * 2)

    monkeypatch.setattr(driver, "paused", paused)
    return waited


async def test_a_part_that_can_never_open_is_said_and_tried_ever_more_rarely(impatient: list[float]) -> None:
    puppet = Puppet("a", "ann")
    puppet.faults.extend(InvalidInput("aggregator", "'median' is unknown") for _ in range(100_000))
    async with stage(puppet) as play:
        puppet.open.clear()
        session = await play.play()
        await play.story.until("waiting", reason="combiner a: aggregator: 'median' is unknown")
        await play.until(lambda: len(puppet.specs) >= 300)
        assert "'median' is unknown" in play.reason(session)
        phase = play.driver(session)._machine.phase
        assert isinstance(phase, mc.Running)
        assert len(phase.round.legs) <= 2
        assert impatient[:3] == [driver.AGAIN_FIRST, 2 * driver.AGAIN_FIRST, 4 * driver.AGAIN_FIRST]
        assert max(impatient) == driver.AGAIN_MOST
        assert len(play.story.named("waiting")) == 1
        puppet.faults.clear()
        await play.story.until("update_received")
        assert play.reason(session) == ""
        puppet.open.set()
        await play.story.until("session_finished", session=session)


async def test_a_part_whose_bytes_are_never_right_is_said_too(impatient: list[float]) -> None:
    puppet = Puppet("a", "ann")
    right, seals = puppet.sealed, 0

    def wrong(spec: RoundSpec) -> m.PartSealed:
        nonlocal seals
        seals += 1
        part = right(spec)
        return part if seals > 5 else m.PartSealed(replace(part.header, digest=digest_of(b"other")), b"")

    puppet.sealed = wrong  # type: ignore[method-assign]
    async with stage(puppet) as play:
        session = await play.play()
        told = await play.story.until("waiting", session=session)
        assert told["reason"] == "combiner a: part 0 of a is not what its digest says"
        await play.story.until("session_finished", session=session)
        assert impatient == [driver.AGAIN_FIRST * 2**n for n in range(5)]


@pytest.mark.parametrize(
    ("fault", "said"),
    [(Busy("256 parts are held here"), ": 256 parts are held here"),
     (LinkBroken("UNKNOWN: boom"), " is out of reach (UNKNOWN: boom)")], ids=["busy", "broken"],
)  # fmt: skip
async def test_a_combiner_that_puts_the_reducer_off_is_the_sessions_reason(
    fault: Exception, said: str
) -> None:
    puppet = Puppet("a", "ann")
    puppet.faults.append(fault)
    puppet.open.clear()
    async with stage(puppet) as play:
        session = await play.play()
        await play.story.until("waiting", session=session, reason=f"combiner a{said}")
        await play.story.until("update_received")
        assert play.reason(session) == ""


async def test_a_reason_ends_with_the_part_that_it_was_for() -> None:
    """The disk of a is full, so ann's part does not open there; then she is released to b."""
    a, b = Puppet("a", "ann"), Puppet("b", "bob")
    a.faults.extend(StoreUnavailable("no room") for _ in range(1000))
    b.open.clear()
    async with stage(a, b) as play:
        session = await play.play()
        await play.story.until("waiting", session=session, reason="combiner a: no room")
        part = PartKey(a.name, a.incarnation, 0)
        play.driver(session)._do(rd.AbortPart(part, "not wanted", reoffer=True))
        await play.until(lambda: a.told)
        assert play.reason(session) == ""


async def test_a_part_that_is_asked_for_in_vain_holds_nobody_back_who_leaves(impatient: list[float]) -> None:
    """While the next try is waited for the part is known not to be open: a release needs no patience."""
    del impatient
    a, b = Puppet("a", "ann"), Puppet("b", "bob")
    a.faults.append(InvalidInput("aggregator", "'median' is unknown"))
    b.open.clear()
    async with stage(a, b) as play:
        session = await play.play()
        play.driver(session)._do(rd.AskRelease(a.name, ClientId("ann")))
        await play.until(lambda: a.told)
        assert isinstance(a.told[0], m.ReleaseUpdate)


# --- a stream that is called again -----------------------------------------------------------------------


async def test_a_stream_that_breaks_again_and_again_repeats_nothing_to_people_or_in_memory() -> None:
    puppet = Puppet("a", "ann", "bob")
    puppet.open.clear()
    async with stage(puppet) as play:
        session = await play.play()
        for times in range(1, 6):
            await play.until(lambda times=times: len(puppet.specs) == times)
            puppet.breaks.set()
        await play.until(lambda: len(puppet.specs) == 6)
        puppet.open.set()
        stored: list[int] = []
        add = play.state.add_metrics
        play.state.add_metrics = lambda rows: (stored.append(len(rows)), add(rows))[1]  # type: ignore[method-assign,arg-type]
        await play.story.until("session_finished", session=session)
        assert [told["client"] for told in play.story.named("update_received")] == ["ann", "bob"]
        assert stored == [2]


async def test_a_reducer_that_is_closed_decides_nothing_any_more() -> None:
    """A validation that is cut off is asked for again after a restart: it must not end the session."""
    puppet = Puppet("a", "ann")
    started = asyncio.Event()

    async def slow(_: ValidationSpec) -> AsyncIterator[m.ValidationEvent]:
        started.set()
        await asyncio.Event().wait()
        yield m.ValidationSealed(0)

    puppet.run_validation = slow  # type: ignore[method-assign]
    async with stage(puppet) as play:
        session = await play.play(validate=True)
        await asyncio.wait_for(started.wait(), 10)
    assert play.state.session(session).state == "running"


# --- the sum -------------------------------------------------------------------------------------------


async def test_parts_are_added_in_worker_threads_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, adding, most = set(), 0, 0
    merge = Mean.merge

    def watched(self: Mean, total: Vector, part: Vector) -> None:
        nonlocal adding, most
        threads.add(threading.current_thread())
        adding += 1
        most = max(most, adding)
        merge(self, total, part)
        adding -= 1

    monkeypatch.setattr(Mean, "merge", watched)
    async with stage(*(Puppet(name, f"of-{name}") for name in "abcdef")) as play:
        session = await play.play()
        await play.story.until("session_finished", session=session)
        with play.models.map(play.state.session(session).head.model) as file:
            assert read_file(file)["w"].tolist() == [1.0] * 4
    assert threading.main_thread() not in threads
    assert most == 1


@pytest.mark.parametrize("verb", ["merge", "report"])
async def test_a_sum_that_fails_is_never_recorded(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second part can't be added, or the mean not be taken: nothing is committed as if it could."""

    def fails(*_: object) -> None:
        raise ValueError("out of range")

    monkeypatch.setattr(Mean, verb, fails)
    async with stage(Puppet("a", "ann"), Puppet("b", "bob")) as play:
        session = await play.play()
        failed = await play.story.until("session_failed", session=session, seconds=5)
        assert failed["reason"] == "internal fault: out of range"
        assert play.state.session(session).head.round == 0


async def test_a_combiner_is_needed_while_it_has_a_part_of_the_open_round() -> None:
    a, b = Puppet("a", "ann"), Puppet("b")
    a.open.clear()
    async with stage(a, b) as play:
        session = await play.play()
        await play.story.until("update_received")
        running = play.driver(session)
        assert running.combiners == {"a"}
        a.open.set()
        await play.story.until("session_finished", session=session)
        assert running.combiners == set()
