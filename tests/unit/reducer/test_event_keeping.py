"""Events on their way to the store: in order, kept while it is away, never in the way."""

from __future__ import annotations

import logging
import threading

import pytest

from fedn.domain.errors import StoreUnavailable
from fedn.ports import EventRow, Observed
from fedn.reducer import event_keeping
from fedn.reducer.event_keeping import LEAP, STOPPED, EventKeeper, last_number
from fedn.reducer.events import EventHub
from fedn.stores.memory import MemoryState


class Moody(MemoryState):
    """A state store that can be away, and is slow to say so."""

    def __init__(self) -> None:
        super().__init__()
        self.there = threading.Event()
        self.there.set()
        self.asked = threading.Semaphore(0)

    def add_events(self, rows, term=None):
        self.asked.release()
        if not self.there.is_set():
            raise StoreUnavailable("gone for lunch")
        super().add_events(rows, term)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_keeping, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(event_keeping, "GATHER_SECONDS", 0.01)


def tell(hub: EventHub, count: int) -> None:
    for number in range(count):
        hub.observe(Observed("told", {"session": "s", "round": number}))


def test_what_is_told_is_stored_with_the_same_numbers():
    state = Moody()
    keeper = EventKeeper(state, state.take_term(), keep=5000)
    hub = EventHub(begin=7, keep=keeper.keep)
    writers = [threading.Thread(target=tell, args=(hub, 300)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    hub.observe(Observed(STOPPED, {"term": 1, "loss": float("nan"), "kinds": {"a": (1, b"x")}}))
    keeper.close()
    rows = state.events()
    assert [row.number for row in rows] == list(range(8, 909))
    assert rows[:900] == list(hub.recent())[-901:-1]
    assert rows[-1].fields == {"term": 1, "loss": None, "kinds": {"a": [1, "b'x'"]}}
    assert last_number(state, 2) == 908


def test_a_store_that_is_away_is_waited_for_and_nobody_waits_meanwhile(caplog: pytest.LogCaptureFixture):
    state = Moody()
    state.there.clear()
    keeper = EventKeeper(state, state.take_term(), keep=5000, waiting=10)
    hub = EventHub(keep=keeper.keep)
    tell(hub, 1)
    assert state.asked.acquire(timeout=30)
    tell(hub, 14)  # four more than may wait
    assert state.asked.acquire(timeout=30)
    state.there.set()
    keeper.close()
    assert [row.number for row in state.events()] == [*range(1, 12)]
    told = [record.message for record in caplog.records]
    assert told == [
        "events wait until they can be stored: gone for lunch",
        "the state store does not take events fast enough: some are not stored",
        "4 events are not stored",
    ]


def test_a_reducer_stops_though_its_store_is_away(caplog: pytest.LogCaptureFixture):
    state = Moody()
    state.there.clear()
    keeper = EventKeeper(state, state.take_term(), keep=5000)
    tell(EventHub(keep=keeper.keep), 3)
    keeper.close(0.05)
    assert state.events() == []
    assert "events are not stored" in caplog.records[-1].message


def test_a_replaced_reducer_writes_nothing(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    state = Moody()
    keeper = EventKeeper(state, state.take_term(), keep=5000)
    state.take_term()
    hub = EventHub(keep=keeper.keep)
    tell(hub, 3)
    assert state.asked.acquire(timeout=30)
    keeper.close()
    tell(hub, 3)
    assert (state.events(), caplog.records) == ([], [])


def test_only_the_newest_are_kept():
    state = Moody()
    state.add_events([EventRow(number, 1.0, "old", "", -1, {}) for number in range(1, 50)])
    keeper = EventKeeper(state, state.take_term(), keep=20)
    tell(EventHub(begin=last_number(state, 1), keep=keeper.keep), 2)
    keeper.close()
    assert [row.number for row in state.events()] == [*range(32, 50), LEAP + 50, LEAP + 51]


def test_of_a_huge_event_the_largest_fields_are_left_out():
    state = Moody()
    keeper = EventKeeper(state, state.take_term(), keep=20)
    fields = {"round": 4, "refused": ["c" * 50] * 1000, "plan": {"x": "y" * 40_000}, "lost": ["d"] * 100}
    EventHub(keep=keeper.keep).observe(Observed("round_committed", fields))
    keeper.close()
    (row,) = state.events()
    assert row.fields == {"round": 4, "lost": ["d"] * 100, "left_out": ["refused", "plan"]}


def test_numbers_leap_behind_a_reducer_that_was_killed():
    state = Moody()
    assert (last_number(state, 1), last_number(state, 2)) == (0, LEAP)
    state.add_events([EventRow(5, 1.0, STOPPED, "", -1, {"term": 1})])
    assert last_number(state, 2) == 5
    assert last_number(state, 3) == 5 + LEAP  # that of term 2 was killed before it could write
    state.add_events([EventRow(6, 1.0, "told", "", -1, {})])
    assert last_number(state, 2) == 6 + LEAP
