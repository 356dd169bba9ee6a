"""One part of a round at a combiner, told as transcripts of events and commands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedn.combiner import machine as mc
from fedn.combiner.machine import Standing
from fedn.domain.errors import InvalidTransition, RefusalCode, Refused
from fedn.domain.ids import ClientId, Digest, SessionId, digest_of
from fedn.domain.round import RoundSpec
from fedn.domain.update import MAX_EXAMPLES, Absence, Contributor, UpdateHeader

ANN, BOB, CAT, ZOE = (ClientId(name) for name in ("ann", "bob", "cat", "zoe"))
BASE, LAYOUT = digest_of(b"base"), digest_of(b"layout")
SUM = digest_of(b"sum")
BAD = Refused(RefusalCode.NOT_FINITE, "tensor 'w' holds NaN or infinity")
CLOSED = "the round is closed"


def header(client: ClientId, content: bytes = b"", **changes: object) -> UpdateHeader:
    digest = digest_of(client.encode() + content)
    made = UpdateHeader(SessionId("s"), 3, client, BASE, 10, 100, digest, LAYOUT)
    return replace(made, **changes)


def digest(client: ClientId) -> Digest:
    return header(client).digest


class Story:
    """A part that remembers its state; every call is one event and returns its commands."""

    def __init__(self, *clients: ClientId, away: frozenset[ClientId] = frozenset()) -> None:
        spec = RoundSpec(1, SessionId("s"), 3, 0, BASE, 1000, LAYOUT, clients, "{}", 0, 60.0, "mean")
        here = frozenset(clients) - away
        self.state, self.opened = mc.open_part(spec, here, now=0.0, grace=3.0, max_update_bytes=2**20)

    def __call__(self, event: mc.Event) -> tuple[mc.Command, ...]:
        self.state, commands = mc.step(self.state, event)
        return commands

    def fold(self, client: ClientId) -> None:
        """The whole way of one update."""
        self(mc.OfferMade(header(client)))
        self(mc.UpdateVerified(client, digest(client)))
        self(mc.UpdateFolded(client, digest(client)))

    @property
    def counts(self) -> mc.Counts:
        return self.state.ledger.counts

    def standing(self, client: ClientId) -> Standing:
        return self.state.ledger.entries[client].standing


# --- the ordinary way ------------------------------------------------------------------------------


def test_grant_receive_fold_receipt_seal() -> None:
    part = Story(ANN, BOB)
    assert part.opened == (mc.SendTask(ANN), mc.SendTask(BOB))
    assert part(mc.OfferMade(header(ANN))) == (mc.GrantUpload(header(ANN)),)
    assert part(mc.UpdateVerified(ANN, digest(ANN))) == (mc.FoldUpdate(header(ANN)),)
    assert part(mc.UpdateFolded(ANN, digest(ANN))) == (mc.SendReceipt(header(ANN)),)
    part(mc.OfferMade(header(BOB)))
    part(mc.UpdateVerified(BOB, digest(BOB)))
    assert part(mc.UpdateFolded(BOB, digest(BOB))) == (mc.SendReceipt(header(BOB)), mc.HashSum())
    assert part(mc.SumHashed(SUM, 80)) == (mc.AnnounceSeal(SUM, 80),)
    assert isinstance(part.state, mc.Sealed)
    assert part.state.ledger.contributors == (
        Contributor(ANN, 10, digest(ANN)), Contributor(BOB, 10, digest(BOB)),
    )  # fmt: skip
    assert part.counts == mc.Counts(offered=2, folded=2)


def test_an_empty_list_seals_at_once() -> None:
    part = Story()
    assert part.opened == (mc.HashSum(),)
    assert isinstance(part.state, mc.Closing)


def test_no_receipt_before_the_update_is_folded() -> None:
    part = Story(ANN, BOB)
    part(mc.OfferMade(header(ANN)))
    part(mc.UpdateVerified(ANN, digest(ANN)))
    assert part(mc.OfferMade(header(ANN))) == (mc.GrantUpload(header(ANN)),)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_same_update_again_gets_the_same_answer(steps: int) -> None:
    part = Story(ANN, BOB)
    way = [mc.OfferMade(header(ANN)), mc.UpdateVerified(ANN, digest(ANN)), mc.UpdateFolded(ANN, digest(ANN))]
    for event in way[:steps]:
        part(event)
    before = part.state
    again = part(mc.OfferMade(header(ANN)))
    assert again == ((mc.SendReceipt if steps == 3 else mc.GrantUpload)(header(ANN)),)
    assert part.state == before


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_another_update_under_the_same_identity_is_refused(steps: int) -> None:
    part = Story(ANN, BOB)
    way = [mc.OfferMade(header(ANN)), mc.UpdateVerified(ANN, digest(ANN)), mc.UpdateFolded(ANN, digest(ANN))]
    for event in way[:steps]:
        part(event)
    before, other = part.state, header(ANN, b"other")
    (answer,) = part(mc.OfferMade(other))
    assert isinstance(answer, mc.RefuseUpdate)
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
    (answer,) = part(mc.OfferMade(offer))
    assert isinstance(answer, mc.RefuseUpdate)
    assert answer.refused.code is code
    assert answer.refused.reason
    assert part(mc.OfferMade(offer)) == (answer,)
    assert part.counts == mc.Counts(offered=1, refused=1)


def test_the_largest_update_that_may_be_is_granted() -> None:
    part = Story(ANN)
    offer = header(ANN, size=2**20, examples=MAX_EXAMPLES)
    assert part(mc.OfferMade(offer)) == (mc.GrantUpload(offer),)


def test_bytes_that_are_not_usable_are_refused_for_good() -> None:
    part = Story(ANN, BOB)
    part(mc.OfferMade(header(ANN)))
    told = mc.RefuseUpdate(header(ANN), BAD)
    assert part(mc.UpdateRejected(ANN, digest(ANN), BAD)) == (mc.DropUpload(ANN), told)
    assert part(mc.OfferMade(header(ANN))) == (told,)
    part.fold(BOB)
    part(mc.SumHashed(SUM, 80))
    assert part.state.ledger.absences(Standing.REFUSED) == (Absence(ANN, BAD.reason),)
    assert part.counts == mc.Counts(offered=2, folded=1, refused=1)


def test_a_refusal_of_the_last_one_seals() -> None:
    part = Story(ANN)
    part(mc.OfferMade(header(ANN)))
    assert part(mc.UpdateRejected(ANN, digest(ANN), BAD))[-1] == mc.HashSum()


def test_failed_training_is_not_waited_for_but_a_later_update_is_taken() -> None:
    part = Story(ANN, BOB)
    assert part(mc.TrainingFailed(ANN, "ValueError: no data")) == ()
    assert part.state.ledger.absences(Standing.REFUSED) == (
        Absence(ANN, "training failed: ValueError: no data"),
    )
    assert part(mc.OfferMade(header(ANN))) == (mc.GrantUpload(header(ANN)),)


def test_failed_training_of_the_last_one_seals() -> None:
    part = Story(ANN, BOB)
    part.fold(ANN)
    assert part(mc.TrainingFailed(BOB, "boom")) == (mc.HashSum(),)


def test_failure_of_an_unlisted_client_or_of_one_that_has_offered_changes_nothing() -> None:
    part = Story(ANN)
    part(mc.OfferMade(header(ANN)))
    before = part.state
    assert part(mc.TrainingFailed(ANN, "late")) == part(mc.TrainingFailed(ZOE, "who?")) == ()
    assert part.state == before


# --- clients that leave ----------------------------------------------------------------------------


def test_one_that_leaves_while_uploading_is_lost_after_the_grace() -> None:
    part = Story(ANN, BOB)
    part(mc.OfferMade(header(ANN)))
    part(mc.ClientLeft(ANN, now=5.0))
    assert mc.next_wake(part.state) == 8.0
    assert part(mc.Tick(7.9)) == ()
    assert part(mc.Tick(8.0)) == (mc.DropUpload(ANN),)
    assert part.state.ledger.absences(Standing.LOST) == (
        Absence(ANN, "left and did not come back within 3 s"),
    )
    assert part.counts == mc.Counts(offered=1, lost=1)
    assert mc.next_wake(part.state) == 60.0


def test_one_that_comes_back_in_time_goes_on_under_its_grant() -> None:
    part = Story(ANN)
    part(mc.OfferMade(header(ANN)))
    part(mc.ClientLeft(ANN, now=5.0))
    assert part(mc.ClientArrived(ANN)) == (mc.SendTask(ANN),)
    assert part(mc.Tick(8.0)) == ()
    assert part(mc.OfferMade(header(ANN))) == (mc.GrantUpload(header(ANN)),)
    assert part.counts == mc.Counts(offered=1, pending=1)


def test_one_that_comes_back_after_it_was_given_up_is_asked_again() -> None:
    part = Story(ANN, BOB)
    part(mc.OfferMade(header(ANN)))
    part(mc.ClientLeft(ANN, now=5.0))
    part(mc.Tick(8.0))
    assert part(mc.ClientArrived(ANN)) == (mc.SendTask(ANN),)
    part.fold(ANN)
    assert part.counts == mc.Counts(offered=2, folded=1, lost=1)


def test_who_is_not_there_at_the_start_has_the_grace_to_come() -> None:
    part = Story(ANN, BOB, away=frozenset({BOB}))
    assert part.opened == (mc.SendTask(ANN),)
    assert mc.next_wake(part.state) == 3.0
    part.fold(ANN)
    assert part(mc.Tick(3.0)) == (mc.HashSum(),)
    assert part.standing(BOB) is Standing.LOST


def test_leaving_after_the_bytes_are_verified_changes_nothing() -> None:
    part = Story(ANN, BOB)
    part(mc.OfferMade(header(ANN)))
    part(mc.UpdateVerified(ANN, digest(ANN)))
    part(mc.ClientLeft(ANN, now=1.0))
    part(mc.Tick(10.0))
    assert part(mc.UpdateFolded(ANN, digest(ANN))) == (mc.SendReceipt(header(ANN)),)
    part(mc.ClientLeft(ANN, now=11.0))
    assert mc.next_wake(part.state) == 60.0


def test_bytes_verified_after_the_client_was_given_up_are_not_folded() -> None:
    part = Story(ANN, BOB)
    part(mc.OfferMade(header(ANN)))
    part(mc.ClientLeft(ANN, now=0.0))
    part(mc.Tick(3.0))
    assert part(mc.UpdateVerified(ANN, digest(ANN))) == ()
    assert part(mc.UpdateRejected(ANN, digest(ANN), BAD)) == ()
    assert part.standing(ANN) is Standing.LOST


# --- the deadline ----------------------------------------------------------------------------------


def test_the_deadline_seals_without_the_late_ones() -> None:
    part = Story(ANN, BOB, CAT)
    part.fold(ANN)
    part(mc.OfferMade(header(BOB)))
    assert part(mc.Tick(60.0)) == (mc.DropUpload(BOB), mc.CancelTask(CAT, CLOSED), mc.HashSum())
    assert part(mc.UpdateVerified(BOB, digest(BOB))) == ()
    part(mc.SumHashed(SUM, 80))
    assert part.state.ledger.contributors == (Contributor(ANN, 10, digest(ANN)),)
    assert part.state.ledger.absences(Standing.LOST) == (
        Absence(BOB, "upload not complete by the deadline"), Absence(CAT, "no update by the deadline"),
    )  # fmt: skip
    assert part.counts == mc.Counts(offered=2, folded=1, discarded=1)


def test_a_fold_under_way_at_the_deadline_still_counts() -> None:
    part = Story(ANN, BOB)
    part(mc.OfferMade(header(ANN)))
    part(mc.UpdateVerified(ANN, digest(ANN)))
    assert part(mc.Tick(60.0)) == (mc.CancelTask(BOB, CLOSED),)
    assert part(mc.UpdateFolded(ANN, digest(ANN))) == (mc.SendReceipt(header(ANN)), mc.HashSum())
    part(mc.SumHashed(SUM, 80))
    assert part.state.ledger.contributors == (Contributor(ANN, 10, digest(ANN)),)


def test_the_sum_is_hashed_once_after_the_last_of_two_folds() -> None:
    part = Story(ANN, BOB, CAT)
    for client in (ANN, BOB):
        part(mc.OfferMade(header(client)))
        part(mc.UpdateVerified(client, digest(client)))
    assert mc.HashSum() not in part(mc.Tick(60.0))
    assert part(mc.UpdateFolded(BOB, digest(BOB))) == (mc.SendReceipt(header(BOB)),)
    assert part(mc.UpdateFolded(ANN, digest(ANN))) == (mc.SendReceipt(header(ANN)), mc.HashSum())


def test_an_offer_after_the_close_is_for_the_reducer_to_judge() -> None:
    part = Story(ANN, BOB)
    part.fold(ANN)
    part(mc.Tick(60.0))
    assert part(mc.OfferMade(header(BOB))) == (mc.RequestRelease(header(BOB)),)
    part(mc.SumHashed(SUM, 80))
    assert part(mc.OfferMade(header(BOB))) == (mc.RequestRelease(header(BOB)),)
    assert part(mc.OfferMade(header(ZOE))) == (mc.RequestRelease(header(ZOE)),)
    assert part(mc.OfferMade(header(ANN))) == (mc.SendReceipt(header(ANN)),)


def test_no_tick_is_due_once_it_is_closed() -> None:
    part = Story(ANN)
    part.fold(ANN)
    assert mc.next_wake(part.state) is None
    part(mc.SumHashed(SUM, 80))
    assert mc.next_wake(part.state) is None


# --- clients that move -----------------------------------------------------------------------------


def test_release_of_a_waiting_client_puts_up_a_tombstone() -> None:
    part = Story(ANN, BOB)
    assert part(mc.ClientReleased(ANN)) == (mc.AnswerRelease(ANN, folded=False),)
    assert part(mc.OfferMade(header(ANN))) == (mc.RequestRelease(header(ANN)),)
    assert part(mc.ClientArrived(ANN)) == ()
    part.fold(BOB)
    part(mc.SumHashed(SUM, 80))
    assert part.state.ledger.contributors == (Contributor(BOB, 10, digest(BOB)),)
    assert part.state.ledger.absences(Standing.LOST) == ()


def test_release_of_a_granted_client_drops_its_upload() -> None:
    part = Story(ANN, BOB)
    part(mc.OfferMade(header(ANN)))
    assert part(mc.ClientReleased(ANN)) == (mc.AnswerRelease(ANN, folded=False), mc.DropUpload(ANN))
    assert part(mc.UpdateVerified(ANN, digest(ANN))) == ()
    assert part.counts == mc.Counts(offered=1, discarded=1)


@pytest.mark.parametrize("folded", [False, True])
def test_release_of_an_update_that_is_or_will_be_folded_is_denied(folded: bool) -> None:
    part = Story(ANN, BOB)
    part(mc.OfferMade(header(ANN)))
    part(mc.UpdateVerified(ANN, digest(ANN)))
    if folded:
        part(mc.UpdateFolded(ANN, digest(ANN)))
    assert part(mc.ClientReleased(ANN)) == (mc.AnswerRelease(ANN, folded=True),)
    assert part.standing(ANN) in {Standing.FOLDING, Standing.FOLDED}


def test_release_of_the_last_one_waited_for_seals() -> None:
    part = Story(ANN, BOB)
    part.fold(ANN)
    assert part(mc.ClientReleased(BOB)) == (mc.AnswerRelease(BOB, folded=False), mc.HashSum())


def test_release_of_an_unknown_client_keeps_it_out_too() -> None:
    part = Story(ANN)
    assert part(mc.ClientReleased(ZOE)) == (mc.AnswerRelease(ZOE, folded=False),)
    assert part.standing(ZOE) is Standing.RELEASED


def test_release_while_closing_and_after_the_seal() -> None:
    part = Story(ANN, BOB)
    part(mc.OfferMade(header(ANN)))
    part(mc.UpdateVerified(ANN, digest(ANN)))
    part(mc.Tick(60.0))
    assert part(mc.ClientReleased(BOB)) == (mc.AnswerRelease(BOB, folded=False),)
    assert part(mc.ClientReleased(ANN)) == (mc.AnswerRelease(ANN, folded=True),)
    part(mc.UpdateFolded(ANN, digest(ANN)))
    part(mc.SumHashed(SUM, 80))
    assert part(mc.ClientReleased(ANN)) == (mc.AnswerRelease(ANN, folded=True),)
    assert part(mc.ClientReleased(ZOE)) == (mc.AnswerRelease(ZOE, folded=False),)
    assert part.state.ledger.contributors == (Contributor(ANN, 10, digest(ANN)),)


def test_an_unlisted_offer_asks_the_reducer_and_counts_once_admitted() -> None:
    part = Story(ANN)
    assert part(mc.OfferMade(header(ZOE))) == (mc.RequestRelease(header(ZOE)),)
    assert part.counts == mc.Counts()
    assert part(mc.ClientAdmitted(ZOE, attached=True, now=1.0)) == (mc.SendTask(ZOE),)
    part.fold(ZOE)
    part.fold(ANN)
    part(mc.SumHashed(SUM, 80))
    assert [c.client for c in part.state.ledger.contributors] == [ANN, ZOE]


def test_one_admitted_while_it_is_away_has_the_grace_to_come() -> None:
    part = Story(ANN)
    assert part(mc.ClientAdmitted(ZOE, attached=False, now=10.0)) == ()
    assert mc.next_wake(part.state) == 13.0
    part(mc.Tick(13.0))
    assert part.standing(ZOE) is Standing.LOST


def test_a_released_client_may_be_admitted_again() -> None:
    part = Story(ANN)
    part(mc.ClientReleased(ZOE))
    part(mc.ClientAdmitted(ZOE, attached=True, now=1.0))
    assert part(mc.OfferMade(header(ZOE))) == (mc.GrantUpload(header(ZOE)),)


def test_admitting_one_that_is_at_work_changes_nothing() -> None:
    part = Story(ANN)
    part(mc.OfferMade(header(ANN)))
    before = part.state
    assert part(mc.ClientAdmitted(ANN, attached=True, now=1.0)) == (mc.SendTask(ANN),)
    assert part.state == before


# --- ends ------------------------------------------------------------------------------------------


def everybody() -> Story:
    """Ann folded, Bob folding, Cat granted, Zoe waiting."""
    part = Story(ANN, BOB, CAT, ZOE)
    part.fold(ANN)
    part(mc.OfferMade(header(BOB)))
    part(mc.UpdateVerified(BOB, digest(BOB)))
    part(mc.OfferMade(header(CAT)))
    return part


def test_abort_of_an_open_part_with_reoffer() -> None:
    part = everybody()
    assert part(mc.AbortAsked("fenced", reoffer=True)) == (
        mc.AnnounceAbort("fenced"), mc.AskReoffer(ANN), mc.DropUpload(BOB), mc.AskReoffer(BOB),
        mc.DropUpload(CAT), mc.AskReoffer(CAT),
    )  # fmt: skip
    assert part.counts == mc.Counts(offered=3, folded=1, discarded=2)


def test_abort_of_an_open_part_for_good() -> None:
    part = everybody()
    settled = [mc.SettleClient(c, False, "stopped") for c in (ANN, BOB, CAT)]
    assert part(mc.AbortAsked("stopped", reoffer=False)) == (
        mc.AnnounceAbort("stopped"), settled[0], mc.DropUpload(BOB), settled[1],
        mc.DropUpload(CAT), settled[2], mc.CancelTask(ZOE, "stopped"),
    )  # fmt: skip


@pytest.mark.parametrize("reoffer", [False, True])
def test_abort_of_a_closing_part_also_reaches_the_late_ones(reoffer: bool) -> None:
    part = everybody()
    part(mc.Tick(60.0))
    told = part(mc.AbortAsked("gone", reoffer))
    assert mc.DropUpload(BOB) in told
    for client in (ANN, BOB, CAT, ZOE):
        assert (mc.AskReoffer(client) if reoffer else mc.SettleClient(client, False, "gone")) in told


@pytest.mark.parametrize("reoffer", [False, True])
def test_abort_of_a_sealed_part(reoffer: bool) -> None:
    part = Story(ANN)
    part.fold(ANN)
    part(mc.SumHashed(SUM, 80))
    told = mc.AskReoffer(ANN) if reoffer else mc.SettleClient(ANN, False, "gone")
    assert part(mc.AbortAsked("gone", reoffer)) == (mc.AnnounceAbort("gone"), told)


def test_an_aborted_part_answers_but_does_nothing_more() -> None:
    part = everybody()
    part(mc.AbortAsked("fenced", reoffer=True))
    before = part.state
    assert part(mc.ClientReleased(ANN)) == (mc.AnswerRelease(ANN, folded=False),)
    assert part(mc.OfferMade(header(ANN))) == (mc.RequestRelease(header(ANN)),)
    silent: list[mc.Event] = [
        mc.UpdateFolded(BOB, digest(BOB)), mc.UpdateVerified(CAT, digest(CAT)), mc.SumHashed(SUM, 80),
        mc.AbortAsked("again", reoffer=False), mc.RoundAcked(True), mc.Tick(1e9), mc.ClientLeft(ZOE, 1.0),
        mc.ClientArrived(ZOE), mc.ClientAdmitted(ZOE, True, 1.0), mc.TrainingFailed(ZOE, "x"),
    ]  # fmt: skip
    assert [part(event) for event in silent] == [()] * len(silent)
    assert part.state == before


def test_the_ack_settles_everyone_listed() -> None:
    part = Story(ANN, BOB, CAT)
    part.fold(ANN)
    part(mc.OfferMade(header(BOB)))
    part(mc.UpdateRejected(BOB, digest(BOB), BAD))
    part(mc.Tick(60.0))
    part(mc.SumHashed(SUM, 80))
    assert part(mc.RoundAcked(counted=True)) == (
        mc.SettleClient(ANN, True, ""), mc.SettleClient(BOB, False, BAD.reason),
        mc.SettleClient(CAT, False, "no update by the deadline"),
    )  # fmt: skip


def test_the_ack_of_a_part_that_does_not_count() -> None:
    part = Story(ANN)
    part.fold(ANN)
    part(mc.SumHashed(SUM, 80))
    assert part(mc.RoundAcked(counted=False)) == (
        mc.SettleClient(ANN, False, "the round was committed without this part"),
    )


def test_the_ack_leaves_the_released_and_those_of_a_later_part_to_others() -> None:
    part = Story(ANN, BOB, CAT)
    part(mc.ClientReleased(BOB))
    part.fold(ANN)
    part(mc.Tick(60.0))
    part(mc.SumHashed(SUM, 80))
    assert part(mc.RoundAcked(True, elsewhere=frozenset({CAT}))) == (mc.SettleClient(ANN, True, ""),)


# --- what can't happen -----------------------------------------------------------------------------


def sealed() -> Story:
    part = Story(ANN)
    part.fold(ANN)
    part(mc.SumHashed(SUM, 80))
    return part


@pytest.mark.parametrize(
    ("part", "event"),
    [
        (everybody(), mc.SumHashed(SUM, 80)),
        (everybody(), mc.RoundAcked(True)),
        (everybody(), mc.UpdateFolded(CAT, digest(CAT))),
        (everybody(), mc.UpdateFolded(ANN, digest(ANN))),
        (sealed(), mc.SumHashed(SUM, 80)),
        (sealed(), mc.UpdateFolded(ANN, digest(ANN))),
    ],
)
def test_impossible_pairs_raise_with_their_story(part: Story, event: mc.Event) -> None:
    with pytest.raises(InvalidTransition) as raised:
        part(event)
    assert raised.value.details["story"]


def test_a_part_that_is_closing_can_not_be_acknowledged() -> None:
    part = Story()
    with pytest.raises(InvalidTransition):
        part(mc.RoundAcked(True))


def test_a_sealed_part_is_final() -> None:
    part = sealed()
    before = part.state
    for event in (
        mc.OfferMade(header(ANN)), mc.OfferMade(header(ZOE)), mc.ClientReleased(ZOE), mc.ClientArrived(ANN),
        mc.ClientLeft(ANN, 1.0), mc.ClientAdmitted(ZOE, True, 1.0), mc.TrainingFailed(ANN, "x"), mc.Tick(1e9),
        mc.UpdateVerified(ANN, digest(ANN)), mc.UpdateRejected(ANN, digest(ANN), BAD), mc.RoundAcked(True),
    ):  # fmt: skip
        part(event)
        assert part.state == before
