"""One session at the reducer, told as transcripts of events and commands; see `test_session_clients` too."""

from __future__ import annotations

import pytest
from rounds import (
    ANN,
    BOB,
    BOOM,
    CAT,
    DAN,
    LATE,
    A,
    B,
    at,
    head,
    held,
    key,
    merged,
    offer,
    sealed,
)
from session_story import Story, committing, ended, running

from fedn.domain.errors import InvalidTransition
from fedn.domain.ids import CombinerName, Incarnation
from fedn.domain.update import Absence
from fedn.reducer import legs as lg
from fedn.reducer import machine as mc

# --- the ordinary way ------------------------------------------------------------------------------


def test_a_session_of_two_rounds() -> None:
    story = Story(at("A", ANN, BOB), at("B", CAT))
    assert story.started == (mc.SelectClients(1, (ANN, BOB, CAT)),)
    told = story.selects(ANN, BOB, CAT)
    assert isinstance(told[0], mc.Announce)
    assert told[1:] == (lg.OpenPart(key("A"), (ANN, BOB)), lg.OpenPart(key("B"), (CAT,)))
    header = sealed(key("A"), ANN, BOB)
    assert story(mc.PartSealed(1, key("A"), header)) == (lg.FetchPart(key("A"), header),)
    assert story(mc.PartFetched(1, key("A"))) == (lg.MergePart(key("A")),)
    merges, commit = story.merges(key("B"), CAT)
    assert merges == lg.MergePart(key("B"))
    assert commit == mc.CommitRound(1, (merged(key("A"), ANN, BOB), merged(key("B"), CAT)), (), ())
    assert story.commits() == (
        mc.AckRound(A, 1, (0,)), mc.AckRound(B, 1, (0,)), mc.DropSums(), mc.SelectClients(2, (ANN, BOB, CAT)),
    )  # fmt: skip
    story.selects(ANN, BOB, CAT)
    story.merges(key("A"), ANN, BOB)
    story.merges(key("B"), CAT)
    assert story.commits()[-1] == mc.Announce(mc.Ended("finished"))


def test_a_session_whose_rounds_are_all_committed_ends_at_once() -> None:
    story = Story(at("A", ANN), done=2)
    assert story.started == (mc.Announce(mc.Ended("finished")),)


def test_refused_and_lost_clients_are_named_in_the_commit() -> None:
    story = running()
    story.merges(key("B"), CAT)
    commit = story.merges(key("A"), refused="bob", lost="ann")[-1]
    assert isinstance(commit, mc.CommitRound)
    assert commit.refused == (Absence(BOB, BOOM),)
    assert commit.lost == (Absence(ANN, LATE),)


# --- offers that come between rounds -----------------------------------------------------------------


def test_an_update_of_a_round_that_is_over_is_settled_from_the_record() -> None:
    story = Story(at("A", ANN), done=1)
    assert story(mc.ReleaseRequested(A, offer(ANN))) == (mc.SettleFromRecord(A, offer(ANN)),)


def test_an_update_of_the_next_round_is_answered_when_it_opens() -> None:
    story = Story(at("A", ANN), at("B", BOB))
    assert story(mc.ReleaseRequested(A, offer(ANN))) == ()
    assert lg.Admit(key("A"), ANN) in story.selects(ANN, BOB)


def test_an_offer_during_the_commit_is_answered_after_it() -> None:
    story = committing()
    assert story(mc.ReleaseRequested(B, offer(DAN))) == ()
    assert story.commits()[-1] == mc.SettleFromRecord(B, offer(DAN))


def test_an_offer_that_waits_when_the_session_is_stopped_is_answered() -> None:
    story = Story(at("A", ANN), min_clients=2)
    story(mc.ReleaseRequested(A, offer(ANN)))
    assert mc.SettleFromRecord(A, offer(ANN)) in story(mc.StopAsked("by hand"))


def test_an_offer_of_a_round_that_is_far_ahead_is_never_a_loop() -> None:
    story = Story(at("A", ANN))
    story(mc.ReleaseRequested(A, offer(ANN, round_=9)))
    story.selects(ANN)
    story.merges(key("A"), ANN)
    story.commits()
    assert list(story.state.asked) == [ANN]


# --- a reducer that was restarted --------------------------------------------------------------------


def test_held_rounds_that_are_over_are_acknowledged_from_the_record() -> None:
    story = Story(at("A", ANN, held=(held(0, ANN), held(1, BOB), held(0, ANN, round_=2))), done=1)
    assert story.started[0] == mc.AckFromRecord(A, Incarnation("A1"), 1)
    assert not any(isinstance(c, mc.AckFromRecord) for c in story.started[1:])


def test_and_of_a_combiner_that_comes_later_once() -> None:
    story = Story(at("B", CAT), done=1)
    ack = mc.AckFromRecord(A, Incarnation("A1"), 1)
    late = at("A", held=(held(0, ANN),))
    assert ack in story.sees(late, at("B", CAT))
    assert ack not in story.sees(late, at("B", CAT, DAN))


def test_parts_held_for_another_session_are_left_alone() -> None:
    there = at("A", ANN, held=(held(0, BOB, session="other"), held(0, BOB, session="other", round_=2)))
    story = Story(there, done=1)
    assert story.started == (mc.SelectClients(2, (ANN,)),)
    assert story.selects(ANN)[1:] == (lg.OpenPart(key("A"), (ANN,)),)
    assert story.sees(there) == ()


def test_a_combiner_that_comes_up_during_the_commit_is_acknowledged_with_the_others() -> None:
    story = committing()
    story.sees(at("A", ANN, BOB), at("B", CAT), at("C", held=(held(0, DAN),)))
    assert mc.AckRound(CombinerName("C"), 1, ()) in story.commits()


# --- ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "story",
    [Story(), Story(at("A", ANN)), Story(at("A", ANN), min_clients=2)],
    ids=["empty", "planning", "waiting"],
)
def test_stopped_before_a_round_is_open(story: Story) -> None:
    assert story(mc.StopAsked("by hand")) == (mc.Announce(mc.Ended("cancelled", "by hand")),)
    assert story(mc.StopAsked("again")) == ()


def test_stopped_with_a_round_open() -> None:
    story = running()
    story.merges(key("A"), ANN, BOB)
    told = story(mc.StopAsked("by hand"))
    assert told == (
        lg.AbortPart(key("A"), "the session is cancelled", reoffer=False),
        lg.AbortPart(key("B"), "the session is cancelled", reoffer=False),
        mc.DropSums(), mc.Announce(mc.Ended("cancelled", "by hand")),
    )  # fmt: skip


def test_stopped_while_a_round_is_committed_keeps_that_round() -> None:
    story = committing()
    assert story(mc.StopAsked("by hand")) == ()
    told = story.commits()
    assert told[:2] == (mc.AckRound(A, 1, (0,)), mc.AckRound(B, 1, (0,)))
    assert not any(isinstance(c, lg.AbortPart) for c in told)
    assert ended(story) == "cancelled"
    assert story.state.head == head(1)


def test_stopped_while_the_last_validations_are_awaited() -> None:
    story = committing(rounds=1, validate=True)
    story.commits()
    assert story(mc.StopAsked("by hand"))[-1] == mc.Announce(mc.Ended("cancelled", "by hand"))


def test_a_failed_commit_fails_the_session_with_its_reason() -> None:
    story = committing()
    told = story(mc.CommitFailed("the trail moved"))
    assert told[-1] == mc.Announce(mc.Ended("failed", "the trail moved"))
    assert lg.AbortPart(key("A"), "the session is failed", reoffer=False) in told


def test_an_end_is_final() -> None:
    story = Story(at("A", ANN), done=2)
    before = story.state.phase
    for event in (
        mc.CommitFailed("a late fault"), mc.StopAsked("late"), mc.ClientsSelected((ANN,)),
        mc.ValidationEnded(1), mc.PartSealed(3, key("A"), sealed(key("A"), ANN, round_=3)),
        mc.PartFetched(3, key("A")), mc.Tick(1e9),
        mc.CombinerLost(A, Incarnation("A1"), 1.0), mc.NetworkChanged(dict([at("A", ANN, BOB)])),
    ):  # fmt: skip
        assert story(event) == ()
        assert story.state.phase == before


def test_the_last_validation_ends_the_session() -> None:
    story = committing(rounds=1, validate=True)
    told = story.commits()
    assert mc.Validate(1, head(1).model, 100) in told
    assert isinstance(story.state.phase, mc.Finishing)
    assert story(mc.ValidationEnded(1)) == (mc.Announce(mc.Ended("finished")),)


def test_a_validation_never_delays_the_next_round() -> None:
    story = committing(validate=True)
    assert story.commits()[-1] == mc.SelectClients(2, (ANN, BOB, CAT))
    story.selects(ANN, BOB, CAT)
    story.merges(key("A"), ANN, BOB)
    story.merges(key("B"), CAT)
    story.commits()
    assert story(mc.ValidationEnded(2)) == ()
    assert story(mc.ValidationEnded(1)) == (mc.Announce(mc.Ended("finished")),)


def test_validations_under_way_are_bounded() -> None:
    story = Story(at("A", ANN), rounds=20, validate=True)
    validated, skipped = [], []
    for _ in range(20):
        story.selects(ANN)
        story.merges(key("A"), ANN)
        commands = story.commits()
        validated += [c.round for c in commands if isinstance(c, mc.Validate)]
        skipped += [c.round for c in commands if isinstance(c, mc.SkipValidation)]
    assert validated == list(range(1, mc.MAX_VALIDATIONS + 1))
    assert skipped == list(range(mc.MAX_VALIDATIONS + 1, 21))


def test_nobody_here_to_validate_is_no_reason_to_wait() -> None:
    story = committing(rounds=1, validate=True)
    story.sees(at("A"), at("B"))
    story.commits()
    assert ended(story) == "finished"


# --- what can't happen, and what comes late ----------------------------------------------------------


def test_a_commit_that_was_not_under_way_raises() -> None:
    with pytest.raises(InvalidTransition) as raised:
        running()(mc.RoundCommitted(head(1)))
    assert raised.value.details["story"]


def test_events_of_another_round_change_nothing() -> None:
    story = running()
    before = story.state
    for event in (
        mc.PartSealed(7, key("A"), sealed(key("A"), ANN, round_=7)), mc.PartFetched(7, key("A")),
        mc.PartAborted(7, key("A"), 1.0), mc.ReleaseAnswered(7, ANN, False),
        mc.AdmitAnswered(7, key("A"), DAN, True),
    ):  # fmt: skip
        assert story(event) == ()
        assert story.state == before


# --- pause and resume ------------------------------------------------------------------------------

REST = mc.PauseAsked("paused by request")


def test_a_pause_between_rounds_holds_the_next_one_back_until_it_is_asked_for() -> None:
    story = Story(at("A", ANN))
    assert story(REST) == (mc.Announce(mc.Paused("paused by request")),)
    assert story.selects(ANN) == ()  # chosen before the pause
    assert story.sees(at("A", ANN, BOB)) == ()
    assert story(mc.ResumeAsked()) == (mc.SelectClients(1, (ANN, BOB)),)


def test_a_pause_in_an_open_round_lets_it_be_committed() -> None:
    story = committing()
    assert story(REST) == ()
    assert story.commits()[-1] == mc.Announce(mc.Paused("paused by request"))
    assert story(mc.ResumeAsked()) == (mc.SelectClients(2, (ANN, BOB, CAT)),)


def test_a_paused_round_below_its_quorum_asks_nobody_more() -> None:
    story = running(min_clients=3)
    story(REST)
    story.merges(key("A"), ANN, BOB)
    [told] = story.merges(key("B"), lost="cat")[1:]
    assert story.reason == "paused by request; the open round has 2 of 3 updates"
    assert told == mc.Announce(story.state.phase)
    assert story.sees(at("A", ANN, BOB), at("B", CAT, DAN)) == ()
    told, select = story(mc.ResumeAsked())
    assert select == mc.SelectClients(1, (CAT, DAN))


def test_the_last_round_ends_a_paused_session_all_the_same() -> None:
    story = committing(rounds=1)
    story(REST)
    assert story.commits()[-1] == mc.Announce(mc.Ended("finished"))


def paused_with_a_part() -> Story:
    return Story(at("A", ANN, held=(held(0, ANN),)), pause="paused by request")


def test_a_restarted_reducer_leaves_a_paused_session_paused_and_its_parts_where_they_are() -> None:
    story = paused_with_a_part()
    assert story.started == (mc.Announce(mc.Paused("paused by request")),)
    story(mc.ResumeAsked())
    assert lg.OpenPart(key("A"), (ANN,)) in story.selects(ANN)


def test_a_paused_session_that_is_stopped_has_its_parts_forgotten() -> None:
    assert mc.AckFromRecord(A, Incarnation("A1"), 1) in paused_with_a_part()(mc.StopAsked("stopped"))


def test_a_validation_that_a_crash_interrupted_is_asked_for_again() -> None:
    story = Story(at("A", ANN), done=2, validate=True, unvalidated=True)
    assert story.started == (mc.Validate(2, head(2).model, 100),)
