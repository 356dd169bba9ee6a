"""A session whose clients are missed, fail, come and go, as transcripts of events and commands."""

from __future__ import annotations

from rounds import (
    ANN,
    BOB,
    BOOM,
    CAT,
    DAN,
    FAILED,
    LATE,
    A,
    B,
    C,
    at,
    key,
    merged,
    offer,
    sealed,
)
from session_story import Story, committing, running

from fedn.domain.ids import Incarnation
from fedn.domain.update import Absence
from fedn.reducer import legs as lg
from fedn.reducer import machine as mc
from fedn.reducer import round as rd

# --- waiting for clients ---------------------------------------------------------------------------


def test_not_enough_clients_is_said_with_numbers() -> None:
    story = Story(at("A", ANN), min_clients=3)
    assert story.reason == "waiting for clients: 1 of 3 are ready"
    assert story.started == (mc.Announce(mc.Waiting(story.reason)),)
    assert story.sees(at("A", ANN)) == ()
    story.sees(at("A", ANN, BOB))
    assert story.reason == "waiting for clients: 2 of 3 are ready"
    assert story.sees(at("A", ANN, BOB), at("B", CAT)) == (mc.SelectClients(1, (ANN, BOB, CAT)),)


def test_no_client_at_all() -> None:
    assert Story().reason == "waiting for clients: 0 of 1 are ready"


def test_a_missing_quorum_waits_with_its_reason_and_goes_on_when_a_client_comes() -> None:
    story = running(min_clients=3)
    story.merges(key("B"), CAT)
    told = story.merges(key("A"), ANN, refused="bob")
    assert not any(isinstance(c, mc.CommitRound) for c in told)
    assert story.reason == f"2 of 3 updates; waiting for more clients (bob: {BOOM})"
    told = story.sees(at("A", ANN, BOB), at("B", CAT, DAN))
    assert mc.SelectClients(1, (DAN,)) in told
    assert story.selects(DAN) == (lg.OpenPart(key("B", 1), (DAN,)),)
    commit = story.merges(key("B", 1), DAN)[-1]
    assert isinstance(commit, mc.CommitRound)
    assert [p.part for p in commit.parts] == [0, 0, 1]


def test_a_missing_quorum_asks_the_late_ones_that_are_still_here_at_once() -> None:
    story = running(min_clients=3)
    story.merges(key("B"), CAT)
    assert story.merges(key("A"), ANN, lost="bob")[-1] == mc.SelectClients(1, (BOB,))
    assert story.selects(BOB) == (lg.OpenPart(key("A", 1), (BOB,)),)


def test_a_failed_training_is_named_with_the_refused_where_the_quorum_needs_it_not() -> None:
    story = running()
    story.merges(key("B"), CAT)
    commit = story.merges(key("A"), ANN, failed="bob")[-1]
    assert isinstance(commit, mc.CommitRound)
    assert (commit.refused, commit.lost) == ((Absence(BOB, FAILED),), ())


def test_a_failed_training_is_asked_for_again_after_a_while_if_its_update_is_missed() -> None:
    story = running(min_clients=3)
    story.merges(key("B"), CAT)
    told = story.merges(key("A"), ANN, failed="bob")
    assert not any(isinstance(c, mc.SelectClients) for c in told)
    assert story.reason == f"2 of 3 updates; waiting for more clients (bob: {FAILED})"
    due = mc.next_wake(story.state)
    assert due == rd.RETRY_SECONDS
    assert story(mc.Tick(due - 1)) == ()
    assert story(mc.Tick(due))[-1] == mc.SelectClients(1, (BOB,))
    assert story.selects(BOB) == (lg.OpenPart(key("A", 1), (BOB,)),)
    assert mc.next_wake(story.state) is None
    commit = story.merges(key("A", 1), BOB)[-1]
    assert isinstance(commit, mc.CommitRound)
    assert (commit.refused, commit.lost) == ((), ())


def test_a_client_whose_training_failed_and_that_attaches_anew_is_asked_at_once_but_not_for_ever() -> None:
    story = running(min_clients=3)
    story.merges(key("B"), CAT)
    story.merges(key("A"), ANN, failed="bob")
    for part in range(1, 1 + rd.PROMPT_RETRIES):
        assert not any(isinstance(c, mc.SelectClients) for c in story.sees(at("A", ANN), at("B", CAT)))
        assert story.sees(at("A", ANN, BOB), at("B", CAT))[-1] == mc.SelectClients(1, (BOB,))
        story.selects(BOB)
        story.merges(key("A", part), failed="bob")
    story.sees(at("A", ANN), at("B", CAT))
    assert not any(isinstance(c, mc.SelectClients) for c in story.sees(at("A", ANN, BOB), at("B", CAT)))


def test_however_often_a_training_fails_its_combiner_holds_few_parts_and_the_pauses_grow() -> None:
    story, now, held = running(min_clients=3), 0.0, {key("A"), key("B")}
    story.merges(key("B"), CAT)
    story.merges(key("A"), ANN, failed="bob")
    for part in range(1, 300):
        due = mc.next_wake(story.state)
        assert due is not None
        pause, now = due - now, due
        assert story(mc.Tick(now))[-1] == mc.SelectClients(1, (BOB,))
        told = story.selects(BOB)
        held |= {c.key for c in told if isinstance(c, lg.OpenPart)}
        held -= {c.key for c in told if isinstance(c, lg.AbortPart)}
        story(mc.PartSealed(1, key("A", part), sealed(key("A", part), failed="bob"), now))
        story(mc.PartFetched(1, key("A", part)))
    assert pause == rd.RETRY_MOST
    assert len(held) == 3
    assert isinstance(story.state.phase, mc.Running)
    assert len(story.state.phase.round.legs) <= 4


def test_a_training_that_failed_early_in_a_long_round_is_named_as_in_a_short_one() -> None:
    story = running(min_clients=2)
    story.merges(key("A"), ANN, failed="bob")
    assert mc.next_wake(story.state) is None
    assert story(mc.Tick(1e6)) == ()
    commit = story.merges(key("B"), CAT)[-1]
    assert isinstance(commit, mc.CommitRound)
    assert (commit.refused, commit.lost) == ((Absence(BOB, FAILED),), ())


def test_a_selector_that_chooses_nobody_is_asked_again_when_the_network_changes() -> None:
    story = running(min_clients=3)
    story.merges(key("A"), ANN, refused="bob")
    story.merges(key("B"), CAT)
    assert story.sees(at("A", ANN, BOB), at("B", CAT, DAN))[-1] == mc.SelectClients(1, (DAN,))
    assert story.selects() == ()
    assert story.sees(at("A", ANN, BOB, DAN), at("B", CAT))[-1] == mc.SelectClients(1, (DAN,))


def test_all_the_selected_have_left_before_the_round_opens() -> None:
    story = Story(at("A", ANN))
    story.sees(at("A"))
    story.selects(ANN)
    assert story.reason == "0 of 1 updates; waiting for more clients"
    assert story.sees(at("A", BOB))[-1] == mc.SelectClients(1, (BOB,))


def test_the_next_round_waits_if_the_clients_have_left() -> None:
    story = committing(min_clients=2)
    story.sees(at("A"), at("B", CAT))
    assert story.commits()[-1] == mc.Announce(mc.Waiting("waiting for clients: 1 of 2 are ready"))


# --- combiners and clients that go ------------------------------------------------------------------


def test_a_combiner_lost_mid_round_and_its_clients_are_admitted_elsewhere_and_counted_once() -> None:
    story = running()
    story.sees(at("B", CAT))
    assert story(mc.CombinerLost(A, Incarnation("A1"), 10.0)) == ()
    assert mc.next_wake(story.state) == 15.0
    assert story.sees(at("B", CAT, ANN)) == (lg.Admit(key("B"), ANN),)
    story(mc.AdmitAnswered(1, key("B"), ANN, True))
    assert story.merges(key("B"), CAT, ANN) == (lg.MergePart(key("B")),)
    assert story.sees(at("B", CAT, ANN, BOB)) == (lg.OpenPart(key("B", 1), (BOB,)),)
    commit = story.merges(key("B", 1), BOB)[-1]
    assert commit == mc.CommitRound(1, (merged(key("B"), CAT, ANN), merged(key("B", 1), BOB)), (), ())
    assert story.commits()[:2] == (mc.AckRound(A, 1, ()), mc.AckRound(B, 1, (0, 1)))


def test_an_orphan_that_stays_away_is_lost_by_name_and_the_round_goes_on() -> None:
    story = running()
    story.merges(key("B"), CAT)
    story.sees(at("B", CAT))
    story(mc.CombinerLost(A, Incarnation("A1"), 10.0))
    assert story(mc.Tick(14.0)) == ()
    (commit,) = story(mc.Tick(15.0))
    assert isinstance(commit, mc.CommitRound)
    assert [absent.client for absent in commit.lost] == [ANN, BOB]
    assert mc.next_wake(story.state) is None


def test_a_contributor_of_a_process_that_is_gone_is_settled_by_the_new_one() -> None:
    """A delivers its part, dies and comes back: the new process knows nothing of that part."""
    story = running()
    story.merges(key("A"), ANN, BOB)
    story.sees(at("B", CAT))
    story(mc.CombinerLost(A, Incarnation("A1"), 10.0))
    story.sees(at("A", ANN, BOB, incarnation=2), at("B", CAT))
    assert story(mc.ReleaseRequested(A, offer(ANN))) == ()
    story.merges(key("B"), CAT)
    told = story.commits()
    assert mc.AckRound(A, 1, (0,)) not in told
    assert lg.Settle(A, ANN, 1, True, "") in told
    assert lg.Settle(A, BOB, 1, True, "") in told


def test_a_contributor_that_has_moved_is_settled_where_it_is() -> None:
    story = running()
    story.sees(at("A", BOB), at("B", CAT, ANN))
    story(mc.ReleaseRequested(B, offer(ANN)))
    story(mc.ReleaseAnswered(1, ANN, True))
    story.merges(key("A"), ANN, BOB)
    story.merges(key("B"), CAT)
    assert lg.Settle(B, ANN, 1, True, "") in story.commits()


def test_a_lost_client_that_is_here_is_told_with_the_commit() -> None:
    """It may have offered where the ack does not reach it, or wait for room to keep what it trained."""
    story = running()
    story.sees(at("A", BOB), at("B", CAT, ANN))
    story.merges(key("B"), CAT)
    story.merges(key("A"), lost="ann", refused="bob")
    assert lg.Settle(B, ANN, 1, False, LATE) in story.commits()


def test_and_with_the_end_of_a_session_that_is_stopped() -> None:
    story = running()
    story.merges(key("A"), BOB, lost="ann")
    story.sees(at("A", BOB), at("C", ANN), at("B", CAT))
    assert story(mc.ReleaseRequested(C, offer(ANN))) == ()
    assert lg.Settle(C, ANN, 1, False, LATE) in story(mc.StopAsked("by hand"))


def test_the_open_round_hears_all_that_concerns_it() -> None:
    """What it makes of that is told in `test_round_machine.py`."""
    story = running()
    assert story(mc.ReleaseRequested(B, offer(ANN))) == (lg.AskRelease(A, ANN),)
    assert story(mc.ReleaseAnswered(1, ANN, False)) == (lg.Admit(key("B"), ANN),)
    assert story(mc.AdmitAnswered(1, key("B"), ANN, True)) == ()
    assert story(mc.ReleaseRequested(A, offer(ANN))) == (lg.AskRelease(B, ANN),)
    assert story(mc.PartAborted(1, key("A"), 1.0)) == (lg.OpenPart(key("A", 1), (BOB,)),)
