"""Where a client's time in a part goes; the clock is the test's."""

from __future__ import annotations

import pytest

from fedn.combiner.ledger import Entry, Standing
from fedn.combiner.stopwatch import Stopwatch
from fedn.domain.ids import ClientId, SessionId, digest_of
from fedn.domain.messages import LAPS, STAGES, ClientStage
from fedn.domain.update import TRAIN_SECONDS, UpdateHeader

ANN, BOB = ClientId("ann"), ClientId("bob")


def header(train_seconds: float | None) -> UpdateHeader:
    metrics = {} if train_seconds is None else {TRAIN_SECONDS: train_seconds}
    return UpdateHeader(
        SessionId("s"), 1, ANN, digest_of(b"m"), 1, 8, digest_of(b"u"), digest_of(b"l"), metrics
    )


class Trial:
    """A watch over a part that lists Ann, and whose time the test sets."""

    def __init__(self, trained: bool = False) -> None:
        self.now = 100.0
        self.watch = Stopwatch(lambda: self.now)
        self.watch.listed(ANN, trained)

    def after(self, seconds: float) -> Stopwatch:
        self.now += seconds
        return self.watch


def test_a_clients_seconds_are_those_between_what_happened_and_add_up() -> None:
    trial = Trial()
    trial.after(2).asked(ANN)
    trial.after(5).asked(ANN)  # it was away for a moment
    trial.after(25).offered(header(29.5))
    trial.after(4).let_in(ANN)
    trial.after(1).offered(header(29.5))  # the upload broke and goes on
    trial.after(0).let_in(ANN)
    seconds = trial.after(7).folded(ANN)
    assert seconds == {"waiting": 2, "training": 30, "queued": 4, "uploading": 8}
    assert tuple(seconds) == LAPS


@pytest.mark.parametrize("train_seconds", [40.0, None], ids=["in an earlier life", "offered before"])
def test_what_was_trained_before_it_was_asked_has_no_training_time(train_seconds: float | None) -> None:
    """The client's own word tells of the first, an offer that lay here already of the second."""
    trial = Trial(trained=train_seconds is None)
    trial.after(1).asked(ANN)
    trial.after(2).offered(header(train_seconds))
    trial.after(3).let_in(ANN)
    assert trial.after(4).folded(ANN) == {"waiting": 1, "queued": 3, "uploading": 4}


def test_after_a_failure_the_next_training_is_timed_alone() -> None:
    trial = Trial()
    trial.after(1).asked(ANN)
    trial.after(50).failed(ANN)
    trial.after(50).asked(ANN)
    trial.after(3).offered(header(None))
    trial.after(0).let_in(ANN)
    assert trial.after(1).folded(ANN) == {"waiting": 0, "training": 3, "queued": 0, "uploading": 1}


def test_only_what_has_changed_is_told_and_all_of_it_to_whoever_comes_late() -> None:
    trial = Trial()
    entries = {ANN: Entry(), BOB: Entry(away_since=100.0)}
    trial.after(1).asked(ANN)
    assert trial.after(2).changes(entries) == (
        ClientStage(ANN, "training", 2),
        ClientStage(BOB, "waiting", 0),
    )
    assert trial.after(1).changes(entries) == ()
    moved = {ANN: Entry(Standing.REFUSED), BOB: Entry(Standing.RELEASED)}
    assert trial.after(1).changes(moved) == (ClientStage(ANN, "refused", 0),)
    assert trial.after(5).told() == (ClientStage(ANN, "refused", 5), ClientStage(BOB, "waiting", 7))


@pytest.mark.parametrize("standing", sorted({*Standing} - {Standing.RELEASED}))
def test_every_standing_has_a_stage(standing: Standing) -> None:
    [told] = Trial().watch.changes({ANN: Entry(standing)})
    assert told.stage in STAGES
