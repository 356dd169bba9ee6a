"""When a session stops early, and which model is its best: as a pure rule, and in transcripts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rounds import ANN, S, at, head, key, sealed

from fedn.domain.plan import plan_from
from fedn.reducer import legs as lg
from fedn.reducer import machine as mc
from fedn.reducer.scores import UNSCORED, Score, Scores, best_of, never_seen, validated, worn_out

PATIENT = plan_from({"rounds": 50, "stop_metric": "accuracy", "stop_patience": 3})
ENDED = "stopped early: accuracy was not better than 0.953 (round 7) for 3 rounds"

# --- the rule --------------------------------------------------------------------------------------


def scored(*values: float, plan=PATIENT) -> Scores:
    """Rounds 1, 2, … with these means, validated one after the other."""
    scores = UNSCORED
    for round_, value in enumerate(values, 1):
        scores = validated(scores, plan, Score(round_, value))
    return scores


def test_the_reason_names_the_best_round_and_how_long_nothing_was_better() -> None:
    rising = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.953]
    assert worn_out(scored(*rising, 0.9, 0.953), PATIENT) == ""  # equal is not better
    assert worn_out(scored(*rising, 0.9, 0.953, 0.8), PATIENT) == ENDED


def test_lower_is_better_where_the_plan_says_so() -> None:
    plan = plan_from({"stop_metric": "loss", "stop_patience": 1, "stop_direction": "min"})
    assert worn_out(scored(2.0, 1.0, plan=plan), plan) == ""
    assert worn_out(scored(2.0, 3.0, plan=plan), plan).endswith("better than 2 (round 1) for 1 round")
    assert scored(2.0, 1.0, 1.5, plan=plan).best == Score(2, 1.0)


def test_without_a_stop_metric_nothing_stops_and_the_best_is_known_all_the_same() -> None:
    plan = plan_from({})
    scores = scored(0.9, *[0.1] * 20, plan=plan)
    assert (worn_out(scores, plan), never_seen(scores, plan)) == ("", "")
    assert scores.best == Score(1, 0.9)


def test_rounds_without_the_metric_count_for_nothing() -> None:
    scores = scored(0.5)
    for _ in range(5):
        scores = validated(scores, PATIENT, None)
    scores = validated(scores, PATIENT, Score(7, float("nan")))
    assert scores == scored(0.5)


def test_a_metric_that_never_came_is_named() -> None:
    assert never_seen(UNSCORED, PATIENT).startswith("no client ever reported accuracy")
    assert never_seen(scored(0.1), PATIENT) == ""


def test_a_validation_under_way_holds_up_the_judgement_of_those_behind_it_but_not_what_is_best() -> None:
    scores = validated(scored(0.9, 0.5, 0.5), PATIENT, Score(5, 0.5), under_way={4})
    assert worn_out(scores, PATIENT) == ""
    scores = validated(scores, PATIENT, Score(6, 0.95), under_way={4})
    assert scores.best == Score(6, 0.95)
    assert "accuracy was not better than 0.9 (round 1)" in worn_out(
        validated(scores, PATIENT, Score(4, 0.5)), PATIENT
    )
    assert worn_out(validated(scores, PATIENT, Score(4, 0.92)), PATIENT) == ""


def plainly(values: list[float], patience: int) -> str:
    """The same rule in the plainest way, over rounds in their order."""
    best = 0
    for index, value in enumerate(values):
        if value > values[best]:
            best = index
        if index - best == patience:
            return f"{values[best]:.4g} (round {best + 1})"
    return ""


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=12), st.integers(1, 4),
       st.integers(0, 2**32))  # fmt: skip
def test_whatever_the_order_in_which_validations_end_the_verdict_is_the_same(values, patience, seed) -> None:
    plan = plan_from({"stop_metric": "accuracy", "stop_patience": patience})
    coming = list(range(1, len(values) + 1))
    random.Random(seed).shuffle(coming)
    scores, verdicts = UNSCORED, set()
    while coming:
        round_ = coming.pop()
        scores = validated(scores, plan, Score(round_, values[round_ - 1]), coming)
        verdicts.add(worn_out(scores, plan))
    expected = plainly(values, patience)
    assert expected in worn_out(scores, plan)
    assert bool(expected) is bool(worn_out(scores, plan))
    assert len(verdicts - {""}) <= 1
    assert scores.best == best_of(dict(enumerate(values, 1)), "max")


# --- the session -----------------------------------------------------------------------------------


class Story:
    """A session of one client at one combiner, whose rounds are committed one after the other."""

    def __init__(self, done: int = 0, scores: Scores = UNSCORED, unvalidated: bool = False, **plan) -> None:
        made = plan_from({"rounds": 20, "stop_metric": "accuracy", "stop_patience": 2, **plan})
        self.state, self.started = mc.start(S, made, head(done), dict([at("A", ANN)]), 5.0, "", unvalidated,
                                            scores=scores)  # fmt: skip

    def __call__(self, event: mc.Event) -> tuple[mc.Command, ...]:
        self.state, commands = mc.step(self.state, event)
        return commands

    def opens(self) -> None:
        self(mc.ClientsSelected((ANN,)))

    def merges(self) -> None:
        number = self.state.head.round + 1
        self(mc.PartSealed(number, key("A"), sealed(key("A"), ANN, round_=number)))
        self(mc.PartFetched(number, key("A")))

    def commits(self) -> tuple[mc.Command, ...]:
        self.opens()
        self.merges()
        return self(mc.RoundCommitted(head(self.state.head.round + 1)))

    def validates(self, round_: int, value: float | None) -> tuple[mc.Command, ...]:
        return self(mc.ValidationEnded(round_, value))


def test_a_session_that_gets_no_better_finishes_and_drops_the_open_round() -> None:
    story = Story()
    for round_, value in enumerate([0.5, 0.4], 1):
        story.commits()
        assert story.validates(round_, value) == ()
    story.commits()
    story.opens()
    told = story.validates(3, 0.45)
    reason = "stopped early: accuracy was not better than 0.5 (round 1) for 2 rounds"
    assert lg.AbortPart(key("A"), "the session is finished", reoffer=False) in told
    assert mc.Announce(mc.Ended("finished", reason)) in told
    assert story.state.head.round == 3


def test_a_commit_that_is_under_way_is_waited_for() -> None:
    story = Story()
    for round_ in (1, 2, 3):
        story.commits()
        if round_ < 3:
            story.validates(round_, 1.0 / round_)
    story.opens()
    story.merges()
    assert story.validates(3, 0.1) == ()
    told = story(mc.RoundCommitted(head(4)))
    assert isinstance(story.state.phase, mc.Ended)
    assert story.state.phase.outcome == "finished"
    assert mc.AckRound(at("A")[0], 4, (0,)) in told


def test_late_validations_are_judged_in_the_order_of_rounds() -> None:
    story = Story()
    for _ in range(4):
        story.commits()
    story.validates(1, 0.5)
    assert story.validates(3, 0.4) == ()
    assert story.validates(4, 0.4) == ()  # 2 may yet be the best: then 3 and 4 are not enough, or just so
    told = story.validates(2, 0.6)
    assert isinstance(told[-1], mc.Announce)
    assert "better than 0.6 (round 2)" in told[-1].phase.reason


def test_a_reducer_that_died_before_it_said_so_ends_the_session_when_it_is_back() -> None:
    scores = scored(0.5, 0.4, 0.3, plan=plan_from({"stop_metric": "accuracy", "stop_patience": 2}))
    story = Story(done=4, scores=scores, unvalidated=True)
    (told,) = story.started
    assert isinstance(told, mc.Announce)
    assert told.phase == mc.Ended(
        "finished", "stopped early: accuracy was not better than 0.5 (round 1) for 2 rounds"
    )


@pytest.mark.parametrize(("value", "ends"), [(0.4, True), (0.6, False)])
def test_after_a_restart_it_goes_on_from_the_stored_scores(value: float, ends: bool) -> None:
    plan = plan_from({"stop_metric": "accuracy", "stop_patience": 2})
    story = Story(done=3, scores=scored(0.5, 0.4, plan=plan), unvalidated=True)
    assert mc.Validate(3, head(3).model, 100) in story.started
    story.validates(3, value)
    assert isinstance(story.state.phase, mc.Ended) is ends


def test_a_session_whose_metric_never_comes_runs_through_and_says_so() -> None:
    story = Story(rounds=2)
    for round_ in (1, 2):
        story.commits()
        told = story.validates(round_, None)
    assert told == (mc.Announce(mc.Ended("finished", "no client ever reported accuracy, by which it might "
                                         "have stopped early")),)  # fmt: skip


def test_a_round_that_is_the_last_anyway_stops_nothing_early() -> None:
    story = Story(rounds=3)
    for round_, value in enumerate([0.5, 0.4, 0.3], 1):
        story.commits()
        told = story.validates(round_, value)
    assert told == (mc.Announce(mc.Ended("finished")),)
