"""A session never hangs without a word: whatever goes wrong below its machine is said, and ends or mends.

On the stage of `puppets.py`: combiners that answer as a test says.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from puppets import Puppet, Stage, raising, stage

from fedn.aggregation.mean import Mean
from fedn.domain import messages as m
from fedn.domain.errors import Busy, Damaged, InvalidInput, LinkBroken, StoreUnavailable
from fedn.domain.ids import ClientId, SessionId, digest_of
from fedn.domain.round import RoundSpec, ValidationSpec
from fedn.domain.update import Absence, UpdateHeader
from fedn.helpers.files import read_file
from fedn.ports import Vector
from fedn.reducer import driver
from fedn.reducer import legs as lg
from fedn.reducer import machine as mc
from fedn.reducer.legs import PartKey
from fedn.selection.uniform import Uniform
from fedn.stores.memory import MemoryModels, MemoryState

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


async def test_a_lost_client_hears_of_the_end_of_its_session_when_that_is_durable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It deletes its copy then; a session that is still running after a restart may need it."""
    held, slow, write = Puppet("a", "ann"), Puppet("b", "bob"), MemoryState.set_session_state
    writes, durable = threading.Event(), threading.Event()

    def sealed(spec: RoundSpec) -> m.PartSealed:
        empty = Puppet.sealed(held, replace(spec, clients=()))
        return replace(empty, header=replace(empty.header, lost=(Absence(ClientId("ann"), "too slow"),)))

    def later(state: MemoryState, *what: Any) -> None:
        writes.set()
        assert durable.wait(10)
        write(state, *what)

    monkeypatch.setattr(held, "sealed", sealed)
    monkeypatch.setattr(MemoryState, "set_session_state", later)
    slow.open.clear()
    async with stage(held, slow) as play:
        session = await play.play()
        await play.until(lambda: open_round(play, session).lost)
        play.driver(session).stop("by hand")
        await play.until(writes.is_set)
        await asyncio.sleep(0.05)
        assert held.told == []
        durable.set()
        await play.story.until("session_cancelled")
        settled = m.SettleUpdate(1, ClientId("ann"), session, 1, False, "too slow")
        await play.until(lambda: settled in held.told)


def open_round(play: Stage, session: SessionId) -> lg.Round:
    """The round that is open."""
    machine = play.driver(session)._machine
    assert machine is not None
    assert isinstance(machine.phase, mc.Running)
    return machine.phase.round


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
        play.driver(session)._do(lg.AbortPart(part, "not wanted", reoffer=True))
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
        play.driver(session)._do(lg.AskRelease(a.name, ClientId("ann")))
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
        play.state.add_metrics = lambda rows, term: (stored.append(len(rows)), add(rows, term))[1]  # type: ignore[method-assign,arg-type]
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
        assert "aggregator: Mean failed: ValueError: out of range" in failed["reason"]
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
