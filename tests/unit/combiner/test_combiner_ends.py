"""How a part of a round ends: acknowledged or aborted, and what can't happen to it any more."""

from __future__ import annotations

import pytest
from part_story import ANN, BAD, BOB, CAT, SUM, ZOE, Story, digest, header

from fedn.combiner import events as ev
from fedn.combiner import machine as mc
from fedn.combiner.ledger import Counts
from fedn.domain.errors import InvalidTransition

# --- ends ------------------------------------------------------------------------------------------


def everybody() -> Story:
    """Ann folded, Bob folding, Cat granted, Zoe waiting."""
    part = Story(ANN, BOB, CAT, ZOE)
    part.fold(ANN)
    part(ev.OfferMade(header(BOB)))
    part(ev.UpdateVerified(BOB, digest(BOB)))
    part(ev.OfferMade(header(CAT)))
    return part


def test_abort_of_an_open_part_with_reoffer() -> None:
    part = everybody()
    assert part(ev.AbortAsked("fenced", reoffer=True)) == (
        ev.AnnounceAbort("fenced"), ev.AskReoffer(ANN), ev.DropUpload(BOB), ev.AskReoffer(BOB),
        ev.DropUpload(CAT), ev.AskReoffer(CAT),
    )  # fmt: skip
    assert part.counts == Counts(offered=3, folded=1, discarded=2)


def test_abort_of_an_open_part_for_good() -> None:
    part = everybody()
    settled = [ev.SettleClient(c, False, "stopped") for c in (ANN, BOB, CAT, ZOE)]
    assert part(ev.AbortAsked("stopped", reoffer=False)) == (
        ev.AnnounceAbort("stopped"), settled[0], ev.DropUpload(BOB), settled[1],
        ev.DropUpload(CAT), settled[2], settled[3],
    )  # fmt: skip


@pytest.mark.parametrize("reoffer", [False, True])
def test_abort_of_a_closing_part_also_reaches_the_late_ones(reoffer: bool) -> None:
    part = everybody()
    part(ev.Tick(60.0))
    told = part(ev.AbortAsked("gone", reoffer))
    assert ev.DropUpload(BOB) in told
    for client in (ANN, BOB, CAT, ZOE):
        assert (ev.AskReoffer(client) if reoffer else ev.SettleClient(client, False, "gone")) in told


@pytest.mark.parametrize("reoffer", [False, True])
def test_abort_of_a_sealed_part(reoffer: bool) -> None:
    part = Story(ANN)
    part.fold(ANN)
    part(ev.SumHashed(SUM, 80))
    told = ev.AskReoffer(ANN) if reoffer else ev.SettleClient(ANN, False, "gone")
    assert part(ev.AbortAsked("gone", reoffer)) == (ev.AnnounceAbort("gone"), told)


def test_an_aborted_part_answers_but_does_nothing_more() -> None:
    part = everybody()
    part(ev.AbortAsked("fenced", reoffer=True))
    before = part.state
    assert part(ev.ClientReleased(ANN)) == (ev.AnswerRelease(ANN, folded=False),)
    assert part(ev.OfferMade(header(ANN))) == (ev.RequestRelease(header(ANN)),)
    silent: list[ev.Event] = [
        ev.UpdateFolded(BOB, digest(BOB)), ev.UpdateVerified(CAT, digest(CAT)), ev.SumHashed(SUM, 80),
        ev.AbortAsked("again", reoffer=False), ev.RoundAcked(True), ev.Tick(1e9), ev.ClientLeft(ZOE, 1.0),
        ev.ClientArrived(ZOE), ev.ClientAdmitted(ZOE, True, 1.0), ev.TrainingFailed(ZOE, "x"),
    ]  # fmt: skip
    assert [part(event) for event in silent] == [()] * len(silent)
    assert part.state == before


def test_the_ack_settles_who_is_folded_or_refused() -> None:
    part = Story(ANN, BOB)
    part.fold(ANN)
    part(ev.OfferMade(header(BOB)))
    part(ev.UpdateRejected(BOB, digest(BOB), BAD))
    part(ev.SumHashed(SUM, 80))
    assert part(ev.RoundAcked(counted=True)) == (
        ev.SettleClient(ANN, True, ""), ev.SettleClient(BOB, False, BAD.reason),
    )  # fmt: skip


def test_the_ack_of_a_part_that_does_not_count_has_its_updates_looked_up() -> None:
    part = Story(ANN)
    part.fold(ANN)
    part(ev.SumHashed(SUM, 80))
    assert part(ev.RoundAcked(counted=False)) == (ev.AskReoffer(ANN),)


@pytest.mark.parametrize("counted", [False, True])
def test_the_ack_has_the_updates_that_came_too_late_looked_up(counted: bool) -> None:
    """Bob was sending, or had sent all; nothing else would tell him how his update ended."""
    part = Story(ANN, BOB, CAT)
    part.fold(ANN)
    part(ev.OfferMade(header(BOB)))
    part(ev.ClientLeft(CAT, 1.0))
    part(ev.Tick(60.0))
    part(ev.SumHashed(SUM, 80))
    told = part(ev.RoundAcked(counted))
    assert told[1:] == (ev.AskReoffer(BOB), ev.AskReoffer(CAT))


@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize("counted", [False, True])
def test_the_ack_of_a_part_that_is_not_sealed_drops_it_and_settles_nobody(
    closing: bool, counted: bool
) -> None:
    """Even if it says that this part counts: it can only mean another process's part of that number."""
    part = everybody()
    if closing:
        part(ev.Tick(60.0))
    told = part(ev.RoundAcked(counted))
    assert told[0] == ev.AnnounceAbort(mc.UNCOUNTED)
    assert {c.client for c in told if isinstance(c, ev.AskReoffer)} >= {ANN, BOB, CAT}
    assert not [c for c in told if isinstance(c, ev.SettleClient)]
    assert isinstance(part.state, mc.Aborted)


def test_the_ack_has_looked_up_who_was_released() -> None:
    """It counts elsewhere or nowhere, and may be back here with its update."""
    part = Story(ANN, BOB)
    part(ev.ClientReleased(BOB))
    part.fold(ANN)
    part(ev.SumHashed(SUM, 80))
    assert part(ev.RoundAcked(counted=True)) == (ev.SettleClient(ANN, True, ""), ev.AskReoffer(BOB))


@pytest.mark.parametrize("reoffer", [False, True])
def test_an_abort_reaches_who_was_released_once_its_upload_had_been_dropped(reoffer: bool) -> None:
    part = everybody()
    part(ev.Tick(60.0))
    assert part(ev.ClientReleased(CAT)) == (ev.AnswerRelease(CAT, folded=False),)
    told = part(ev.AbortAsked("gone", reoffer))
    assert (ev.AskReoffer(CAT) if reoffer else ev.SettleClient(CAT, False, "gone")) in told


# --- what can't happen -----------------------------------------------------------------------------


def sealed() -> Story:
    part = Story(ANN)
    part.fold(ANN)
    part(ev.SumHashed(SUM, 80))
    return part


def test_the_ack_leaves_to_a_later_part_whom_that_lists() -> None:
    part = Story(ANN, BOB)
    part.fold(ANN)
    part.fold(BOB)
    part(ev.SumHashed(SUM, 80))
    assert part(ev.RoundAcked(False, elsewhere=frozenset({BOB}))) == (ev.AskReoffer(ANN),)


@pytest.mark.parametrize(
    ("part", "event"),
    [
        (everybody(), ev.SumHashed(SUM, 80)),
        (everybody(), ev.UpdateFolded(CAT, digest(CAT))),
        (everybody(), ev.UpdateFolded(ANN, digest(ANN))),
        (sealed(), ev.SumHashed(SUM, 80)),
        (sealed(), ev.UpdateFolded(ANN, digest(ANN))),
    ],
)
def test_impossible_pairs_raise_with_their_story(part: Story, event: ev.Event) -> None:
    with pytest.raises(InvalidTransition) as raised:
        part(event)
    assert raised.value.details["story"]


def test_a_sealed_part_is_final() -> None:
    part = sealed()
    before = part.state
    for event in (
        ev.OfferMade(header(ANN)), ev.OfferMade(header(ZOE)), ev.ClientReleased(ZOE), ev.ClientArrived(ANN),
        ev.ClientLeft(ANN, 1.0), ev.ClientAdmitted(ZOE, True, 1.0), ev.TrainingFailed(ANN, "x"), ev.Tick(1e9),
        ev.UpdateVerified(ANN, digest(ANN)), ev.UpdateRejected(ANN, digest(ANN), BAD), ev.RoundAcked(True),
    ):  # fmt: skip
        part(event)
        assert part.state == before
