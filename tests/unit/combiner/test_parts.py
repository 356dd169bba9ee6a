"""The parts that a combiner holds: opened once, told to a restarted reducer, forgotten."""

from __future__ import annotations

import weakref
from dataclasses import replace

from fedn.aggregation.mean import Mean
from fedn.combiner import events as ev
from fedn.combiner import machine as mc
from fedn.combiner.limits import Limits
from fedn.combiner.parts import Parts
from fedn.combiner.runs import RoundRun
from fedn.combiner.staging import PartSum
from fedn.domain.gauges import Gauges
from fedn.domain.ids import ClientId, Incarnation, SessionId, digest_of
from fedn.domain.messages import RoundHeld
from fedn.domain.model import Layout
from fedn.domain.round import RoundSpec
from fedn.domain.update import UpdateHeader

S, ANY = SessionId("s"), digest_of(b"any")
ANN, BOB, CAT = (ClientId(name) for name in ("ann", "bob", "cat"))
SPEC = RoundSpec(1, S, 3, 0, ANY, 1000, ANY, (ANN, BOB), "{}", 0, 60.0, "mean", Incarnation("i"))


def opened(parts: Parts, spec: RoundSpec) -> RoundRun:
    run = RoundRun(PartSum(Layout((), 0), Mean()), lambda: None)
    run.state, _ = mc.open_part(spec, frozenset(spec.clients), 0.0, 3.0, 2**20)
    parts.add(spec, run)
    return run


def tell(run: RoundRun, *events: ev.Event) -> None:
    for event in events:
        run.state, _ = mc.step(run.state, event)


def fold(run: RoundRun, client: ClientId) -> None:
    header = UpdateHeader(S, 3, client, ANY, 10, 100, digest_of(client.encode()), ANY)
    tell(run, ev.OfferMade(header), ev.UpdateVerified(client, header.digest))
    tell(run, ev.UpdateFolded(client, header.digest))


async def test_two_calls_at_once_open_a_part_once_and_nothing_is_kept_of_that() -> None:
    parts = Parts(Limits(), Gauges())
    async with parts.opening(S, 1):
        assert parts.opening(S, 1).locked()
        assert not parts.opening(S, 2).locked()
    kept = weakref.ref(parts.opening(S, 1))  # a late copy of RunRound comes no further than this
    assert kept() is None


async def test_a_call_that_waits_while_the_part_is_dropped_still_waits_for_its_turn() -> None:
    parts = Parts(Limits(), Gauges())
    async with parts.opening(S, 3):
        parts.drop(S, 3, 0, term=1)
        assert parts.opening(S, 3).locked()


async def test_an_open_part_lists_who_may_come_back_but_not_who_was_released() -> None:
    parts = Parts(Limits(), Gauges())
    run = opened(parts, replace(SPEC, clients=(ANN, BOB, CAT)))
    tell(run, ev.ClientReleased(CAT), ev.ClientLeft(BOB, 0.0), ev.Tick(3.0))
    assert parts.held() == (RoundHeld(S, 3, 0, (ANN, BOB)),)


async def test_who_is_lost_in_a_sealed_part_may_count_in_a_later_one() -> None:
    """Else a restarted reducer sees them listed twice, and gives the later part up."""
    parts = Parts(Limits(), Gauges())
    first = opened(parts, SPEC)
    fold(first, ANN)
    tell(first, ev.Tick(60.0))
    assert parts.held() == (RoundHeld(S, 3, 0, (ANN,)),)
    tell(first, ev.SumHashed(ANY, 8))
    second = opened(parts, replace(SPEC, part=1, clients=(BOB, CAT)))
    fold(second, BOB)
    assert parts.held() == (RoundHeld(S, 3, 0, (ANN,)), RoundHeld(S, 3, 1, (BOB, CAT)))


async def test_who_is_refused_stays_listed() -> None:
    """A restarted reducer is not to ask it again."""
    parts = Parts(Limits(), Gauges())
    run = opened(parts, SPEC)
    fold(run, ANN)
    wrong = UpdateHeader(S, 3, BOB, ANY, 10, 100, digest_of(b"bob"), digest_of(b"another layout"))
    tell(run, ev.OfferMade(wrong), ev.SumHashed(ANY, 8))
    assert parts.held() == (RoundHeld(S, 3, 0, (ANN, BOB)),)


async def test_who_failed_is_not_listed_any_more_once_the_part_is_sealed() -> None:
    """A restarted reducer may ask it again: what made it fail may have passed."""
    parts = Parts(Limits(), Gauges())
    run = opened(parts, SPEC)
    fold(run, ANN)
    tell(run, ev.TrainingFailed(BOB, "boom"), ev.SumHashed(ANY, 8))
    assert parts.held() == (RoundHeld(S, 3, 0, (ANN,)),)
