"""The event hub: numbering, resuming, lagging, the cap, and waking up."""

from __future__ import annotations

import threading

import pytest

from fedn.domain.errors import Busy, Unavailable
from fedn.ports import Observed
from fedn.reducer.events import LAGGED, EventHub


def tell(hub: EventHub, *names: str) -> None:
    for name in names:
        hub.observe(Observed(name, {"session": "s"}))


def names(events) -> list[str]:
    return [event.event for event in events if event is not None]


def test_events_are_numbered_and_the_ring_is_bounded():
    hub = EventHub(ring=3)
    tell(hub, "a", "b", "c", "d")
    assert [(e.number, e.event) for e in hub.recent()] == [(2, "b"), (3, "c"), (4, "d")]
    assert names(hub.recent(after=3)) == ["d"]
    assert hub.recent(after=99) == ()


def test_a_reader_resumes_behind_the_last_number_it_saw():
    hub = EventHub()
    tell(hub, "a", "b", "c")
    with hub.subscribe(after=1) as reader:
        hub.close()
        assert names(reader.follow()) == ["b", "c"]


def test_a_new_reader_sees_only_what_comes():
    hub = EventHub()
    tell(hub, "old")
    with hub.subscribe() as reader:
        tell(hub, "new")
        hub.close()
        assert names(reader.follow()) == ["new"]


def test_a_number_from_another_process_is_brought_into_range():
    hub = EventHub()
    with hub.subscribe(after=500) as reader:
        tell(hub, "a")
        hub.close()
        assert names(reader.follow()) == ["a"]


def test_a_reader_that_was_overtaken_is_told_and_dropped_and_may_come_back():
    hub = EventHub(ring=2)
    tell(hub, "a")
    with hub.subscribe(after=0) as reader:
        tell(hub, "b", "c", "d")
        (last,) = reader.follow()
        assert (last.event, last.fields, last.number) == (LAGGED, {"missed": 4}, 4)
    with hub.subscribe(after=last.number) as reader:
        tell(hub, "e")
        hub.close()
        assert names(reader.follow()) == ["e"]


def test_silence_gives_heartbeats():
    hub = EventHub()
    with hub.subscribe() as reader:
        assert next(reader.follow(heartbeat=0.001)) is None


def test_streams_are_capped_and_a_closed_one_frees_its_place():
    hub = EventHub(streams=1)
    first = hub.subscribe()
    with pytest.raises(Busy, match="event_streams"):
        hub.subscribe()
    first.close()
    first.close()
    with hub.subscribe():
        assert hub.streams_open == 1
    assert hub.streams_open == 0


def test_closing_wakes_everybody_and_refuses_newcomers():
    hub = EventHub()
    reader = hub.subscribe()
    heard: list[object] = []
    thread = threading.Thread(target=lambda: heard.extend(reader.follow(heartbeat=60)))
    thread.start()
    hub.close()
    thread.join(10)
    assert not thread.is_alive()
    assert heard == []
    with pytest.raises(Unavailable):
        hub.subscribe()


def test_many_threads_observe_and_one_reads_every_event_once_in_order():
    hub = EventHub(ring=10_000)
    reader = hub.subscribe()
    writers = [threading.Thread(target=tell, args=(hub, *["x"] * 200)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    hub.close()
    assert [event.number for event in reader.follow()] == list(range(1, 801))
