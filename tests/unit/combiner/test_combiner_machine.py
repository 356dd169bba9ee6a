"""One part of a round at a combiner, told as transcripts of events and commands."""

from __future__ import annotations

import pytest
from part_story import ANN, BAD, BOB, CAT, CLOSED, SUM, ZOE, Story, digest, header

from fedn.combiner import events as ev
from fedn.combiner import machine as mc
from fedn.combiner.ledger import Counts, Entry, Standing
from fedn.domain.errors import RefusalCode
from fedn.domain.ids import digest_of
from fedn.domain.update import MAX_EXAMPLES, Absence, Contributor

# --- the ordinary way ------------------------------------------------------------------------------


def test_grant_receive_fold_receipt_seal() -> None:
    part = Story(ANN, BOB)
    assert part.opened == (ev.SendTask(ANN), ev.SendTask(BOB))
    assert part(ev.OfferMade(header(ANN))) == (ev.GrantUpload(header(ANN)),)
    assert part(ev.UpdateVerified(ANN, digest(ANN))) == (ev.FoldUpdate(header(ANN)),)
    assert part(ev.UpdateFolded(ANN, digest(ANN))) == (ev.SendReceipt(header(ANN)),)
    part(ev.OfferMade(header(BOB)))
    part(ev.UpdateVerified(BOB, digest(BOB)))
    assert part(ev.UpdateFolded(BOB, digest(BOB))) == (ev.SendReceipt(header(BOB)), ev.HashSum())
    assert part(ev.SumHashed(SUM, 80)) == (ev.AnnounceSeal(SUM, 80),)
    assert isinstance(part.state, mc.Sealed)
    assert part.state.ledger.contributors == (
        Contributor(ANN, 10, digest(ANN)), Contributor(BOB, 10, digest(BOB)),
    )  # fmt: skip
    assert part.counts == Counts(offered=2, folded=2)


def test_an_empty_list_seals_at_once() -> None:
    part = Story()
    assert part.opened == (ev.HashSum(),)
    assert isinstance(part.state, mc.Closing)


def test_no_receipt_before_the_update_is_folded() -> None:
    part = Story(ANN, BOB)
    part(ev.OfferMade(header(ANN)))
    part(ev.UpdateVerified(ANN, digest(ANN)))
    assert part(ev.OfferMade(header(ANN))) == (ev.GrantUpload(header(ANN)),)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_same_update_again_gets_the_same_answer(steps: int) -> None:
    part = Story(ANN, BOB)
    way = [ev.OfferMade(header(ANN)), ev.UpdateVerified(ANN, digest(ANN)), ev.UpdateFolded(ANN, digest(ANN))]
    for event in way[:steps]:
        part(event)
    before = part.state
    again = part(ev.OfferMade(header(ANN)))
    assert again == ((ev.SendReceipt if steps == 3 else ev.GrantUpload)(header(ANN)),)
    assert part.state == before


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_another_update_under_the_same_identity_is_refused(steps: int) -> None:
    part = Story(ANN, BOB)
    way = [ev.OfferMade(header(ANN)), ev.UpdateVerified(ANN, digest(ANN)), ev.UpdateFolded(ANN, digest(ANN))]
    for event in way[:steps]:
        part(event)
    before, other = part.state, header(ANN, b"other")
    (answer,) = part(ev.OfferMade(other))
    assert isinstance(answer, ev.RefuseUpdate)
    assert (answer.header, answer.refused.code) == (other, RefusalCode.DIGEST_CONFLICT)
    assert part.state == before


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"base_model": digest_of(b"older")}, RefusalCode.WRONG_BASE_MODEL),
        ({"layout": digest_of(b"another")}, RefusalCode.WRONG_LAYOUT),
        ({"size": 0}, RefusalCode.TOO_LARGE),
        ({"size": 2**20 + 1}, RefusalCode.TOO_LARGE),
        ({"size": 1000 + mc.HEADER_SLACK + 1}, RefusalCode.TOO_LARGE),
        ({"examples": 0}, RefusalCode.BAD_WEIGHT),
        ({"examples": -5}, RefusalCode.BAD_WEIGHT),
        ({"examples": MAX_EXAMPLES + 1}, RefusalCode.BAD_WEIGHT),
    ],
)
def test_what_the_header_shows_is_refused_before_a_byte_travels(
    wrong: dict[str, object], code: RefusalCode
) -> None:
    part = Story(ANN, BOB)
    offer = header(ANN, **wrong)
    (answer,) = part(ev.OfferMade(offer))
    assert isinstance(answer, ev.RefuseUpdate)
    assert answer.refused.code is code
    assert answer.refused.reason
    assert part(ev.OfferMade(offer)) == (answer,)
    assert part.counts == Counts(offered=1, refused=1)


def test_the_largest_update_that_may_be_is_granted() -> None:
    part = Story(ANN)
    offer = header(ANN, size=2**20, examples=MAX_EXAMPLES)
    assert part(ev.OfferMade(offer)) == (ev.GrantUpload(offer),)


def test_bytes_that_are_not_usable_are_refused_for_good() -> None:
    part = Story(ANN, BOB)
    part(ev.OfferMade(header(ANN)))
    told = ev.RefuseUpdate(header(ANN), BAD)
    assert part(ev.UpdateRejected(ANN, digest(ANN), BAD)) == (ev.DropUpload(ANN), told)
    assert part(ev.OfferMade(header(ANN))) == (told,)
    part.fold(BOB)
    part(ev.SumHashed(SUM, 80))
    assert part.state.ledger.absences(Standing.REFUSED) == (Absence(ANN, BAD.reason),)
    assert part.counts == Counts(offered=2, folded=1, refused=1)


def test_a_refusal_of_the_last_one_seals() -> None:
    part = Story(ANN)
    part(ev.OfferMade(header(ANN)))
    assert part(ev.UpdateRejected(ANN, digest(ANN), BAD))[-1] == ev.HashSum()


def test_failed_training_is_not_waited_for_but_a_later_update_is_taken() -> None:
    part = Story(ANN, BOB)
    assert part(ev.TrainingFailed(ANN, "ValueError: no data")) == ()
    assert part.state.ledger.absences(Standing.FAILED) == (
        Absence(ANN, "training failed: ValueError: no data"),
    )
    assert part(ev.OfferMade(header(ANN))) == (ev.GrantUpload(header(ANN)),)


def test_who_failed_and_attaches_anew_is_asked_again() -> None:
    part = Story(ANN, BOB)
    part(ev.TrainingFailed(ANN, "paused"))
    assert part(ev.ClientArrived(ANN)) == (ev.SendTask(ANN),)
    assert part.state.ledger.absences(Standing.FAILED) == ()
    part.fold(BOB)
    part.fold(ANN)
    assert [c.client for c in part.state.ledger.contributors] == [ANN, BOB]


def test_failed_training_of_the_last_one_seals() -> None:
    part = Story(ANN, BOB)
    part.fold(ANN)
    assert part(ev.TrainingFailed(BOB, "boom")) == (ev.HashSum(),)


def test_failure_of_an_unlisted_client_or_of_one_that_has_offered_changes_nothing() -> None:
    part = Story(ANN)
    part(ev.OfferMade(header(ANN)))
    before = part.state
    assert part(ev.TrainingFailed(ANN, "late")) == part(ev.TrainingFailed(ZOE, "who?")) == ()
    assert part.state == before


# --- clients that leave ----------------------------------------------------------------------------


def test_whoever_fell_silent_is_lost_with_that_reason_and_forgiven_when_back() -> None:
    part = Story(ANN, BOB)
    part(ev.ClientLeft(ANN, now=5.0, why="fell silent"))
    part(ev.ClientArrived(ANN))
    assert part.state.ledger.entries[ANN] == Entry()
    part(ev.ClientLeft(ANN, now=6.0, why="fell silent"))
    part(ev.Tick(9.0))
    lost = Absence(ANN, "fell silent and did not come back within 3 s")
    assert part.state.ledger.absences(Standing.LOST) == (lost,)


def test_something_is_expected_of_those_that_are_here_and_not_through() -> None:
    part = Story(ANN, BOB, CAT)
    assert mc.expected(part.state) == (ANN, BOB, CAT)
    part(ev.OfferMade(header(ANN)))
    part.fold(BOB)
    part(ev.ClientLeft(CAT, now=5.0))
    assert mc.expected(part.state) == (ANN,)
    part(ev.UpdateVerified(ANN, digest(ANN)))
    assert mc.expected(part.state) == ()
    part(ev.Tick(60.0))
    assert mc.expected(part.state) == ()


def test_one_that_leaves_while_uploading_is_lost_after_the_grace() -> None:
    part = Story(ANN, BOB)
    part(ev.OfferMade(header(ANN)))
    part(ev.ClientLeft(ANN, now=5.0))
    assert mc.next_wake(part.state) == 8.0
    assert part(ev.Tick(7.9)) == ()
    assert part(ev.Tick(8.0)) == (ev.DropUpload(ANN),)
    assert part.state.ledger.absences(Standing.LOST) == (
        Absence(ANN, "left and did not come back within 3 s"),
    )
    assert part.counts == Counts(offered=1, lost=1)
    assert mc.next_wake(part.state) == 60.0


def test_one_that_comes_back_in_time_goes_on_under_its_grant() -> None:
    part = Story(ANN)
    part(ev.OfferMade(header(ANN)))
    part(ev.ClientLeft(ANN, now=5.0))
    assert part(ev.ClientArrived(ANN)) == (ev.SendTask(ANN),)
    assert part(ev.Tick(8.0)) == ()
    assert part(ev.OfferMade(header(ANN))) == (ev.GrantUpload(header(ANN)),)
    assert part.counts == Counts(offered=1, pending=1)


def test_one_that_comes_back_after_it_was_given_up_is_asked_again() -> None:
    part = Story(ANN, BOB)
    part(ev.OfferMade(header(ANN)))
    part(ev.ClientLeft(ANN, now=5.0))
    part(ev.Tick(8.0))
    assert part(ev.ClientArrived(ANN)) == (ev.SendTask(ANN),)
    part.fold(ANN)
    assert part.counts == Counts(offered=2, folded=1, lost=1)


def test_who_is_not_there_at_the_start_has_the_grace_to_come() -> None:
    part = Story(ANN, BOB, away=frozenset({BOB}))
    assert part.opened == (ev.SendTask(ANN),)
    assert mc.next_wake(part.state) == 3.0
    part.fold(ANN)
    assert part(ev.Tick(3.0)) == (ev.HashSum(),)
    assert part.standing(BOB) is Standing.LOST


def test_leaving_after_the_bytes_are_verified_changes_nothing() -> None:
    part = Story(ANN, BOB)
    part(ev.OfferMade(header(ANN)))
    part(ev.UpdateVerified(ANN, digest(ANN)))
    part(ev.ClientLeft(ANN, now=1.0))
    part(ev.Tick(10.0))
    assert part(ev.UpdateFolded(ANN, digest(ANN))) == (ev.SendReceipt(header(ANN)),)
    part(ev.ClientLeft(ANN, now=11.0))
    assert mc.next_wake(part.state) == 60.0


def test_bytes_verified_after_the_client_was_given_up_are_not_folded() -> None:
    part = Story(ANN, BOB)
    part(ev.OfferMade(header(ANN)))
    part(ev.ClientLeft(ANN, now=0.0))
    part(ev.Tick(3.0))
    assert part(ev.UpdateVerified(ANN, digest(ANN))) == ()
    assert part(ev.UpdateRejected(ANN, digest(ANN), BAD)) == ()
    assert part.standing(ANN) is Standing.LOST


# --- the deadline ----------------------------------------------------------------------------------


def test_the_deadline_seals_without_the_late_ones() -> None:
    part = Story(ANN, BOB, CAT)
    part.fold(ANN)
    part(ev.OfferMade(header(BOB)))
    assert part(ev.Tick(60.0)) == (ev.DropUpload(BOB), ev.CancelTask(CAT, CLOSED), ev.HashSum())
    assert part(ev.UpdateVerified(BOB, digest(BOB))) == ()
    part(ev.SumHashed(SUM, 80))
    assert part.state.ledger.contributors == (Contributor(ANN, 10, digest(ANN)),)
    assert part.state.ledger.absences(Standing.LOST) == (
        Absence(BOB, "upload not complete by the deadline"), Absence(CAT, "no update by the deadline"),
    )  # fmt: skip
    assert part.counts == Counts(offered=2, folded=1, discarded=1)


def test_a_fold_under_way_at_the_deadline_still_counts() -> None:
    part = Story(ANN, BOB)
    part(ev.OfferMade(header(ANN)))
    part(ev.UpdateVerified(ANN, digest(ANN)))
    assert part(ev.Tick(60.0)) == (ev.CancelTask(BOB, CLOSED),)
    assert part(ev.UpdateFolded(ANN, digest(ANN))) == (ev.SendReceipt(header(ANN)), ev.HashSum())
    part(ev.SumHashed(SUM, 80))
    assert part.state.ledger.contributors == (Contributor(ANN, 10, digest(ANN)),)


def test_the_sum_is_hashed_once_after_the_last_of_two_folds() -> None:
    part = Story(ANN, BOB, CAT)
    for client in (ANN, BOB):
        part(ev.OfferMade(header(client)))
        part(ev.UpdateVerified(client, digest(client)))
    assert ev.HashSum() not in part(ev.Tick(60.0))
    assert part(ev.UpdateFolded(BOB, digest(BOB))) == (ev.SendReceipt(header(BOB)),)
    assert part(ev.UpdateFolded(ANN, digest(ANN))) == (ev.SendReceipt(header(ANN)), ev.HashSum())


def test_an_offer_after_the_close_is_for_the_reducer_to_judge() -> None:
    part = Story(ANN, BOB)
    part.fold(ANN)
    part(ev.Tick(60.0))
    assert part(ev.OfferMade(header(BOB))) == (ev.RequestRelease(header(BOB)),)
    part(ev.SumHashed(SUM, 80))
    assert part(ev.OfferMade(header(BOB))) == (ev.RequestRelease(header(BOB)),)
    assert part(ev.OfferMade(header(ZOE))) == (ev.RequestRelease(header(ZOE)),)
    assert part(ev.OfferMade(header(ANN))) == (ev.SendReceipt(header(ANN)),)


def test_no_tick_is_due_once_it_is_closed() -> None:
    part = Story(ANN)
    part.fold(ANN)
    assert mc.next_wake(part.state) is None
    part(ev.SumHashed(SUM, 80))
    assert mc.next_wake(part.state) is None


# --- clients that move -----------------------------------------------------------------------------


def test_release_of_a_waiting_client_puts_up_a_tombstone() -> None:
    part = Story(ANN, BOB)
    assert part(ev.ClientReleased(ANN)) == (ev.AnswerRelease(ANN, folded=False),)
    assert part(ev.OfferMade(header(ANN))) == (ev.RequestRelease(header(ANN)),)
    assert part(ev.ClientArrived(ANN)) == ()
    part.fold(BOB)
    part(ev.SumHashed(SUM, 80))
    assert part.state.ledger.contributors == (Contributor(BOB, 10, digest(BOB)),)
    assert part.state.ledger.absences(Standing.LOST) == ()


def test_release_of_a_granted_client_drops_its_upload() -> None:
    part = Story(ANN, BOB)
    part(ev.OfferMade(header(ANN)))
    assert part(ev.ClientReleased(ANN)) == (
        ev.AnswerRelease(ANN, folded=False), ev.DropUpload(ANN), ev.AskReoffer(ANN),
    )  # fmt: skip
    assert part(ev.UpdateVerified(ANN, digest(ANN))) == ()
    assert part(ev.OfferMade(header(ANN))) == (ev.RequestRelease(header(ANN)),)
    assert part.counts == Counts(offered=1, discarded=1)


@pytest.mark.parametrize("folded", [False, True])
def test_release_of_an_update_that_is_or_will_be_folded_is_denied(folded: bool) -> None:
    part = Story(ANN, BOB)
    part(ev.OfferMade(header(ANN)))
    part(ev.UpdateVerified(ANN, digest(ANN)))
    if folded:
        part(ev.UpdateFolded(ANN, digest(ANN)))
    assert part(ev.ClientReleased(ANN)) == (ev.AnswerRelease(ANN, folded=True),)
    assert part.standing(ANN) in {Standing.FOLDING, Standing.FOLDED}


def test_release_of_the_last_one_waited_for_seals() -> None:
    part = Story(ANN, BOB)
    part.fold(ANN)
    assert part(ev.ClientReleased(BOB)) == (ev.AnswerRelease(BOB, folded=False), ev.HashSum())


def test_release_of_an_unknown_client_keeps_it_out_too() -> None:
    part = Story(ANN)
    assert part(ev.ClientReleased(ZOE)) == (ev.AnswerRelease(ZOE, folded=False),)
    assert part.standing(ZOE) is Standing.RELEASED


def test_release_while_closing_and_after_the_seal() -> None:
    part = Story(ANN, BOB)
    part(ev.OfferMade(header(ANN)))
    part(ev.UpdateVerified(ANN, digest(ANN)))
    part(ev.Tick(60.0))
    assert part(ev.ClientReleased(BOB)) == (ev.AnswerRelease(BOB, folded=False),)
    assert part(ev.ClientReleased(ANN)) == (ev.AnswerRelease(ANN, folded=True),)
    part(ev.UpdateFolded(ANN, digest(ANN)))
    part(ev.SumHashed(SUM, 80))
    assert part(ev.ClientReleased(ANN)) == (ev.AnswerRelease(ANN, folded=True),)
    assert part(ev.ClientReleased(ZOE)) == (ev.AnswerRelease(ZOE, folded=False),)
    assert part.state.ledger.contributors == (Contributor(ANN, 10, digest(ANN)),)


def test_an_unlisted_offer_asks_the_reducer_and_counts_once_admitted() -> None:
    part = Story(ANN)
    assert part(ev.OfferMade(header(ZOE))) == (ev.RequestRelease(header(ZOE)),)
    assert part.counts == Counts()
    assert part(ev.ClientAdmitted(ZOE, attached=True, now=1.0)) == (ev.SendTask(ZOE),)
    part.fold(ZOE)
    part.fold(ANN)
    part(ev.SumHashed(SUM, 80))
    assert [c.client for c in part.state.ledger.contributors] == [ANN, ZOE]


def test_one_admitted_while_it_is_away_has_the_grace_to_come() -> None:
    part = Story(ANN)
    assert part(ev.ClientAdmitted(ZOE, attached=False, now=10.0)) == ()
    assert mc.next_wake(part.state) == 13.0
    part(ev.Tick(13.0))
    assert part.standing(ZOE) is Standing.LOST


def test_a_released_client_may_be_admitted_again() -> None:
    part = Story(ANN)
    part(ev.ClientReleased(ZOE))
    part(ev.ClientAdmitted(ZOE, attached=True, now=1.0))
    assert part(ev.OfferMade(header(ZOE))) == (ev.GrantUpload(header(ZOE)),)


def test_admitting_one_that_is_at_work_changes_nothing() -> None:
    part = Story(ANN)
    part(ev.OfferMade(header(ANN)))
    before = part.state
    assert part(ev.ClientAdmitted(ANN, attached=True, now=1.0)) == (ev.SendTask(ANN),)
    assert part.state == before
