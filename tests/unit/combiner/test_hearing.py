"""Who counts as silent."""

from __future__ import annotations

from fedn.combiner.hearing import silent
from fedn.domain.ids import ClientId

ANN, BOB = ClientId("ann"), ClientId("bob")


def test_two_beats_without_a_word_are_silence() -> None:
    heard = [(ANN, 10.0), (BOB, 10.5)]
    assert silent(heard, since=0.0, now=13.9, beat=2.0) == []
    assert silent(heard, since=0.0, now=14.0, beat=2.0) == [(ANN, 4.0)]


def test_nobody_is_blamed_for_the_time_in_which_nobody_listened() -> None:
    assert silent([(ANN, 10.0)], since=50.0, now=53.9, beat=2.0) == []
    assert silent([(ANN, 10.0)], since=50.0, now=54.0, beat=2.0) == [(ANN, 4.0)]
