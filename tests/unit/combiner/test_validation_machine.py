"""One validation at a combiner: who is waited for and when it is over."""

from __future__ import annotations

from fedn.combiner.validation import Validation, give_up, open_validation, report, tick
from fedn.domain.ids import ClientId, SessionId, digest_of
from fedn.domain.round import ValidationSpec

ANN, BOB, CAT = (ClientId(name) for name in ("ann", "bob", "cat"))


def opened(*here: ClientId) -> Validation:
    spec = ValidationSpec(1, SessionId("s"), 2, digest_of(b"m"), 100, (CAT, ANN, BOB), "{}", 0, 30.0)
    return open_validation(spec, frozenset(here), now=10.0)


def test_it_is_over_when_all_that_were_here_have_reported() -> None:
    state = opened(ANN, BOB)
    state, wanted = report(state, ANN)
    assert wanted
    assert not state.over
    state, _ = report(state, BOB)
    assert state.over
    assert state.missing == (CAT,)


def test_a_report_counts_once_and_only_of_those_asked() -> None:
    state, _ = report(opened(ANN, BOB), ANN)
    assert report(state, ANN) == (state, False)
    assert report(state, CAT) == (state, False)


def test_one_that_fails_or_leaves_is_not_waited_for() -> None:
    state = give_up(give_up(opened(ANN), ANN), ANN)
    assert state.over
    assert state.missing == (ANN, BOB, CAT)


def test_one_that_was_given_up_may_still_report_while_others_are_waited_for() -> None:
    state, wanted = report(give_up(opened(ANN, BOB), ANN), ANN)
    assert wanted
    assert report(state, ANN) == (state, False)
    state, _ = report(state, BOB)
    assert state.missing == (CAT,)
    over = give_up(give_up(opened(ANN, BOB), ANN), BOB)
    assert report(over, ANN) == (over, False)


def test_giving_up_after_the_report_takes_nothing_back() -> None:
    state, _ = report(opened(ANN, BOB), ANN)
    assert give_up(state, ANN).missing == (BOB, CAT)


def test_nobody_here_is_over_at_once() -> None:
    assert opened().over


def test_at_the_deadline_nobody_is_waited_for_and_late_reports_are_not_wanted() -> None:
    state = opened(ANN)
    assert tick(state, 39.9) == state
    state = tick(state, 40.0)
    assert state.over
    assert report(state, ANN) == (state, False)
