"""Rounds that go on for long or are large: nothing grows without a bound, nothing that is held is missed."""

from __future__ import annotations

from typing import Any

import pytest

from fedn.domain.ids import ClientId, CombinerName, Incarnation, SessionId, digest_of
from fedn.domain.messages import RoundHeld
from fedn.domain.part import PartHeader
from fedn.domain.plan import plan_from
from fedn.domain.round import Head
from fedn.domain.update import Contributor, UpdateHeader
from fedn.reducer import legs as lg
from fedn.reducer import machine as mc
from fedn.reducer import round as rd
from fedn.reducer.legs import PartKey, Phase
from fedn.reducer.network import Network, Station

S, BASE = SessionId("s"), digest_of(b"base")
A, B = CombinerName("A"), CombinerName("B")
ANN, BOB, CAT = (ClientId(name) for name in ("ann", "bob", "cat"))


def station(combiner: str, *clients: ClientId, number: int = 1, held: tuple[RoundHeld, ...] = ()) -> Station:
    return Station(Incarnation(f"{combiner}{number}"), frozenset(clients), held)


def key(combiner: str, part: int = 0, number: int = 1) -> PartKey:
    return PartKey(CombinerName(combiner), Incarnation(f"{combiner}{number}"), part)


def sealed(of: PartKey, *clients: ClientId) -> PartHeader:
    folded = tuple(Contributor(client, 10, BASE) for client in clients)
    return PartHeader(S, 1, *of, BASE, 8, folded)


def head(number: int) -> Head:
    return Head(number, BASE, BASE, 100)


def begin(network: Network, **plan: Any) -> mc.Outcome:
    """A session that has committed one round."""
    return mc.start(
        S, plan_from({"rounds": 3, "validate": False, **plan}), head(1), network, orphan_grace=5.0
    )


# --- what is held is gone on with ----------------------------------------------------------------------

SEALED = RoundHeld(S, 2, 0, (ANN, BOB))
"""Both have their receipts, and are gone."""


def test_a_quorum_that_is_held_needs_nobody_to_be_attached() -> None:
    network = {A: station("A", held=(SEALED,))}
    state, commands = begin(network, min_clients=2)
    assert commands == (mc.SelectClients(2, ()),)
    state, commands = mc.step(state, mc.ClientsSelected(()))
    assert lg.OpenPart(key("A"), (ANN, BOB)) in commands
    header = PartHeader(S, 2, *key("A"), BASE, 8, tuple(Contributor(c, 1, BASE) for c in (ANN, BOB)))
    state, _ = mc.step(state, mc.PartSealed(2, key("A"), header))
    _, commands = mc.step(state, mc.PartFetched(2, key("A")))
    assert isinstance(commands[-1], mc.CommitRound)


def test_and_of_a_combiner_that_comes_while_clients_are_waited_for() -> None:
    state, _ = begin({B: station("B", CAT)}, min_clients=2)
    assert isinstance(state.phase, mc.Waiting)
    _, commands = mc.step(state, mc.NetworkChanged({A: station("A", held=(SEALED,)), B: station("B", CAT)}))
    assert commands == (mc.SelectClients(2, (CAT,)),)


@pytest.mark.parametrize("number", [1, 3])
def test_but_not_what_is_held_of_another_round(number: int) -> None:
    state, _ = begin({A: station("A", held=(RoundHeld(S, number, 0, (ANN, BOB)),))}, min_clients=2)
    assert isinstance(state.phase, mc.Waiting)


# --- a part that is asked for again and again ------------------------------------------------------------


def aborted(times: int) -> lg.Round:
    """Ann's part at A was dropped so many times, and each time asked for again."""
    network = {A: station("A", ANN)}
    round_, _ = rd.open_round(1, BASE, network, [ANN], quorum=1)
    for number in range(times):
        round_ = rd.part_aborted(round_, key("A", number), 1.0)
        round_, commands = rd.network_changed(round_, network)
        assert commands == (lg.OpenPart(key("A", number + 1), (ANN,)),)
    return round_


def test_legs_that_came_to_nothing_do_not_pile_up() -> None:
    legs = aborted(300).legs
    assert {of.part: leg.phase for of, leg in legs.items()} == {299: Phase.VOID, 300: Phase.RUNNING}


def test_a_part_whose_leg_is_forgotten_is_refused_however_late() -> None:
    round_ = aborted(10)
    same, commands = rd.part_sealed(round_, key("A", 3), sealed(key("A", 3), ANN), 1.0)
    assert commands == (lg.AbortPart(key("A", 3), "this part is not wanted any more", reoffer=True),)
    assert rd.part_fetched(same, key("A", 3), {}) == (round_, ())
    assert rd.part_aborted(round_, key("A", 3), 1.0) == round_


def test_and_never_adopted() -> None:
    """The combiner comes up again and still shows it, even without anybody in it."""
    round_ = aborted(10)
    for clients in ((), (ANN,), (BOB,)):
        held = tuple(RoundHeld(S, 1, part, clients) for part in (3, 10))
        assert rd.network_changed(round_, {A: station("A", ANN, held=held)}) == (round_, ())


def test_numbers_go_on_when_the_last_part_came_to_nothing() -> None:
    network = {A: station("A"), B: station("B", ANN)}
    round_, _ = rd.open_round(1, BASE, {A: station("A", ANN)}, [ANN], quorum=1)
    for _ in range(3):
        round_, _ = rd.network_changed(round_, {A: station("A", ANN)})
        round_ = rd.part_aborted(
            round_, next(of for of, leg in round_.legs.items() if leg.phase in lg.ACTIVE), 1
        )
    round_, _ = rd.network_changed(round_, network)
    assert list(round_.legs) == [key("A", 2), key("B")]
    _, commands = rd.extend(round_, {A: station("A", BOB)}, [BOB])
    assert commands == (lg.OpenPart(key("A", 3), (BOB,)),)


# --- ten thousand clients ------------------------------------------------------------------------------


class Counted(str):
    """A name that counts how often it is compared with another one."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


@pytest.mark.parametrize("running", [True, False], ids=["admitted", "in the next part"])
@pytest.mark.parametrize("many", [100, 400])
def test_many_clients_that_lost_their_combiner_are_placed_in_one_pass(
    many: int, running: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = [ClientId(Counted(f"client-{number}")) for number in range(many)]
    round_, _ = rd.open_round(
        1, BASE, {A: station("A", *crowd), B: station("B", CAT)}, [*crowd, CAT], quorum=1
    )
    if not running:
        round_, _ = rd.part_sealed(round_, key("B"), sealed(key("B"), CAT), 1.0)
        round_, _ = rd.part_fetched(round_, key("B"), {})
    copies: list[str] = []
    replace = rd.replace
    monkeypatch.setattr(rd, "replace", lambda of, **to: (copies.extend(to), replace(of, **to))[1])
    Counted.compared = 0
    round_ = rd.combiner_lost(round_, A, Incarnation("A1"), 1.0)
    round_, commands = rd.network_changed(round_, {B: station("B", *crowd, CAT)})
    if running:
        assert {told.client for told in commands if isinstance(told, lg.Admit)} == set(crowd)
    else:
        [opened] = commands
        assert isinstance(opened, lg.OpenPart)
        assert set(opened.clients) == set(crowd)
    assert len(copies) < 20
    assert Counted.compared < 10 * many


@pytest.mark.parametrize("many", [100, 400])
def test_and_are_lost_in_one_pass(many: int) -> None:
    crowd = [ClientId(Counted(f"client-{number}")) for number in range(many)]
    round_, _ = rd.open_round(1, BASE, {A: station("A", *crowd)}, crowd, quorum=1)
    round_ = rd.combiner_lost(round_, A, Incarnation("A1"), 1.0)
    Counted.compared = 0
    round_ = rd.tick(round_, 6.0, 5.0)
    assert len(round_.lost) == many
    network = {A: station("A", *crowd, number=2)}
    round_, [opened] = rd.extend(round_, network, crowd)
    assert isinstance(opened, lg.OpenPart)
    assert not round_.lost
    assert Counted.compared < 10 * many


# --- acknowledgements ----------------------------------------------------------------------------------


def committing(network: Network) -> tuple[mc.State, tuple[mc.Command, ...]]:
    """A's first process had Ann's part merged, and its second one a part that never came; B has Cat's."""
    both = {A: station("A", ANN), B: station("B", CAT)}
    state, _ = mc.start(S, plan_from({"rounds": 2, "validate": False}), head(0), both, orphan_grace=5.0)

    def go(event: mc.Event) -> tuple[mc.Command, ...]:
        nonlocal state
        state, commands = mc.step(state, event)
        return commands

    go(mc.ClientsSelected((ANN, CAT)))
    go(mc.PartSealed(1, key("A"), sealed(key("A"), ANN)))
    go(mc.PartFetched(1, key("A")))
    go(mc.CombinerLost(A, Incarnation("A1"), 1.0))
    go(mc.NetworkChanged({A: station("A", BOB, number=2), B: station("B", CAT)}))
    header = UpdateHeader(S, 1, BOB, BASE, 1, 10, BASE, BASE)
    assert lg.OpenPart(key("A", 0, number=2), (BOB,)) in go(mc.ReleaseRequested(A, header))
    go(mc.NetworkChanged({B: station("B", CAT)}))
    go(mc.CombinerLost(A, Incarnation("A2"), 2.0))
    go(mc.PartSealed(1, key("B"), sealed(key("B"), CAT)))
    go(mc.PartFetched(1, key("B")))
    go(mc.Tick(100.0))
    assert isinstance(state.phase, mc.Committing)
    go(mc.NetworkChanged(network))
    return state, go(mc.RoundCommitted(head(1)))


def acks(commands: tuple[mc.Command, ...], combiner: CombinerName) -> list[tuple[int, ...]]:
    return [told.counted for told in commands if isinstance(told, mc.AckRound) and told.combiner == combiner]


def test_a_process_that_is_away_is_told_only_of_its_own_parts() -> None:
    """Part 0 counted, of the process before: the one that may come back must not take it for its own."""
    assert acks(committing({B: station("B", CAT)})[1], A) == [()]


def test_and_one_that_is_back() -> None:
    assert acks(committing({A: station("A", number=2), B: station("B", CAT)})[1], A) == [()]


def test_a_process_that_is_away_and_had_its_part_merged_is_told_so() -> None:
    network = {A: station("A", ANN), B: station("B", CAT)}
    state, _ = mc.start(S, plan_from({"rounds": 2, "validate": False}), head(0), network, orphan_grace=5.0)
    for event in (
        mc.ClientsSelected((ANN, CAT)), mc.PartSealed(1, key("A"), sealed(key("A"), ANN)),
        mc.PartFetched(1, key("A")), mc.NetworkChanged({B: station("B", CAT)}),
        mc.PartSealed(1, key("B"), sealed(key("B"), CAT)), mc.PartFetched(1, key("B")),
    ):  # fmt: skip
        state, _ = mc.step(state, event)
    _, commands = mc.step(state, mc.RoundCommitted(head(1)))
    assert acks(commands, A) == [(0,)]


# --- faults of ours ------------------------------------------------------------------------------------


def test_a_fault_ends_a_session_with_its_reason() -> None:
    state, _ = begin({A: station("A", ANN)})
    _, commands = mc.step(state, mc.FaultFound("internal fault: boom"))
    assert commands[-1] == mc.Announce(mc.Ended("failed", "internal fault: boom"))


def test_a_fault_during_a_commit_waits_for_it_and_the_first_end_stays() -> None:
    state, _ = begin({A: station("A", ANN)})
    for event in (
        mc.ClientsSelected((ANN,)), mc.PartSealed(2, key("A"), sealed(key("A"), ANN)),
        mc.PartFetched(2, key("A")),
    ):  # fmt: skip
        state, _ = mc.step(state, event)
    for event in (mc.FaultFound("boom"), mc.StopAsked("by hand")):
        state, commands = mc.step(state, event)
        assert commands == ()
    state, commands = mc.step(state, mc.RoundCommitted(head(2)))
    assert acks(commands, A) == [(0,)]
    assert state.phase == mc.Ended("failed", "boom")
    assert mc.step(state, mc.FaultFound("again")) == (state, ())
