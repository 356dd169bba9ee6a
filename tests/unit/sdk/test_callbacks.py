"""Callbacks: in order, in a thread of their own, and what they raise or how slow they are hurts nobody."""

from __future__ import annotations

import logging
import threading

import pytest

from fedn.sdk import events
from fedn.sdk.events import Callbacks, Teller, Update, Version


def update(number: int) -> Update:
    return Update("s", number, "ann", "made")


def version(number: int, session: str = "s") -> Version:
    return Version(session, number, "d", dict)


def test_everybody_hears_of_what_they_asked_for_in_order():
    callbacks = Callbacks()
    heard, versions = [], []
    callbacks.on_update(heard.append)
    callbacks.on_update(heard.append)
    callbacks.on_new_version(versions.append)
    teller = Teller(callbacks)
    for number in range(100):
        teller.tell(update(number))
    teller.tell(version(1))
    teller.close()
    assert heard == [update(number) for number in range(100) for _ in range(2)]
    assert versions == [version(1)]


def test_what_one_raises_goes_to_the_log_and_the_others_hear_all_the_same(caplog: pytest.LogCaptureFixture):
    def broken(_: Update) -> None:
        raise ValueError("out of paper")

    callbacks = Callbacks()
    heard: list[Update] = []
    callbacks.on_update(broken)
    callbacks.on_update(heard.append)
    teller = Teller(callbacks)
    with caplog.at_level(logging.ERROR, "fedn.sdk"):
        teller.tell(update(1))
        teller.close()
    assert heard == [update(1)]
    assert "out of paper" in caplog.text


def test_a_slow_one_misses_versions_that_were_replaced_and_the_oldest_updates(monkeypatch):
    monkeypatch.setattr(events, "MOST", 3)
    begun, go_on = threading.Event(), threading.Event()
    versions: list[Version] = []
    numbers: list[int] = []
    callbacks = Callbacks()

    @callbacks.on_update
    def slow(told: Update) -> None:
        begun.set()
        assert go_on.wait(30)
        numbers.append(told.round)

    callbacks.on_new_version(versions.append)
    teller = Teller(callbacks)
    teller.tell(update(0))
    assert begun.wait(30)
    for number in range(1, 4):
        teller.tell(version(number))
    teller.tell(version(1, "other"))
    go_on.set()
    teller.close()
    assert versions == [version(3), version(1, "other")]
    assert numbers == [0]

    go_on.clear()
    begun.clear()
    teller = Teller(callbacks)
    teller.tell(update(0))
    assert begun.wait(30)
    for number in range(1, 7):
        teller.tell(update(number))
    go_on.set()
    teller.close()
    assert numbers == [0, 0, 4, 5, 6]


def test_a_callback_may_end_it_all():
    callbacks = Callbacks()
    ended = threading.Event()

    @callbacks.on_update
    def enough(_: Update) -> None:
        teller.close()
        ended.set()

    teller = Teller(callbacks)
    teller.tell(update(1))
    assert ended.wait(30)
