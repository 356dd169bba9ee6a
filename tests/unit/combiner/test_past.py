"""Late copies of a call find that it is over."""

from __future__ import annotations

from dataclasses import replace

from fedn.combiner.past import MAX_DROPPED, MAX_SESSIONS, Past
from fedn.domain.ids import Incarnation, SessionId, digest_of
from fedn.domain.round import RoundSpec

S, ANY = SessionId("s"), digest_of(b"any")
SPEC = RoundSpec(1, S, 3, 0, ANY, 1, ANY, (), "{}", 0, 1.0, "mean", Incarnation("i"))


def test_what_was_never_heard_of_may_open() -> None:
    assert Past().over(SPEC) == ""


def test_a_committed_round_and_those_before_it_never_open_again() -> None:
    past = Past()
    past.commit(S, 3)
    past.commit(S, 1)
    assert past.over(SPEC) == "round 3 is committed"
    assert past.over(replace(SPEC, round=2, term=9))
    assert past.over(replace(SPEC, round=4)) == ""
    assert past.over(replace(SPEC, session=SessionId("other"))) == ""


def test_a_dropped_part_opens_again_only_in_a_later_term() -> None:
    past = Past()
    past.drop(S, 3, 0, term=1)
    assert past.over(SPEC) == "part 0 was dropped"
    assert past.over(replace(SPEC, part=1)) == ""
    assert past.over(replace(SPEC, term=2)) == ""


def test_what_is_remembered_is_bounded() -> None:
    past = Past()
    for number in range(max(MAX_SESSIONS, MAX_DROPPED) + 1):
        past.commit(SessionId(f"s{number}"), 1)
        past.drop(S, 3, number, term=1)
    assert past.over(replace(SPEC, session=SessionId("s0"), round=1)) == ""
    assert past.over(SPEC) == ""
    assert past.over(replace(SPEC, part=number))
