"""Every course of one round within a small budget of faults; and that the search finds what is broken."""

from __future__ import annotations

from dataclasses import replace

import pytest
import search
from search import Budget, Violation

from fedn.client import machine as cl
from fedn.combiner import events as ev
from fedn.combiner import machine as cb
from fedn.reducer import legs as lg
from fedn.reducer import machine as rm
from fedn.reducer import round as rd

MOVES = Budget(cuts=1, kinds=("left",))


@pytest.mark.parametrize(("where", "budget", "small", "states"), search.SHORT, ids=str)
def test_every_course_of_a_round(where: str, budget: Budget, small: bool, states: int) -> None:
    found = search.search(where, budget, small)
    print(found)
    assert found.states == states, "if a machine was changed on purpose, so is this number in search.SHORT"
    assert found.faults.keys() == set(budget.kinds if budget else ())


def test_a_fault_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no such fault: hang_up"):
        Budget(cuts=1, kinds=("left", "hang_up"))


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The reducer's last guard is off, which hides what comes before it."""
    monkeypatch.setattr(rd, "overlap", lambda accepted, part: frozenset())
    return monkeypatch


def test_a_combiner_that_releases_what_it_has_folded_is_found(unchecked: pytest.MonkeyPatch) -> None:
    right = cb._released

    def forgetful(ledger, client, closed=None):
        state, commands = right(ledger, client, closed)
        return state, tuple(
            replace(c, folded=False) if isinstance(c, ev.AnswerRelease) else c for c in commands
        )

    unchecked.setattr(cb, "_released", forgetful)
    with pytest.raises(Violation, match="accepted twice"):
        search.search("AB", MOVES)


def test_a_part_that_is_accepted_although_it_was_fenced_is_found(unchecked: pytest.MonkeyPatch) -> None:
    right = rd.combiner_lost

    def lenient(round_, combiner, incarnation, now):
        fenced = right(round_, combiner, incarnation, now)
        travelling = {key: leg for key, leg in round_.legs.items() if leg.phase is lg.Phase.FETCHING}
        return replace(fenced, legs={**fenced.legs, **travelling})

    unchecked.setattr(rd, "combiner_lost", lenient)
    with pytest.raises(Violation, match="accepted twice"):
        search.search("AB", Budget(cuts=1, kinds=("disconnect",)))


def test_a_client_that_deletes_its_update_at_the_receipt_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(state, key, digest):
        header = cl.held_header(state.tasks.get(key))
        return (state.without(key), (cl.ForgetUpdate(header),)) if header else (state, ())

    monkeypatch.setattr(cl, "_receipt", hasty)
    with pytest.raises(Violation, match="deletes what is not settled"):
        search.search("AB", Budget())


def test_a_reducer_that_stops_without_a_word_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rm, "_judge", lambda state, commands: (state, commands))
    with pytest.raises(Violation, match="rests without a reason"):
        search.search("AB", Budget())


def test_a_course_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rd, "part_fetched", lambda round_, key, network: (round_, ()))
    with pytest.raises(Violation) as found:
        search.search("AB", Budget())
    assert "take_step" in str(found.value)
