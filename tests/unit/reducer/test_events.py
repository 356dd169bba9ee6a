"""The event hub: numbering, resuming, lagging, the cap, and waking up."""

from __future__ import annotations

import threading

import pytest

from fedn.domain.errors import Busy, Unavailable
from fedn.ports import Observed
from fedn.reducer.events import FLEETING, LAGGED, EventHub

(FLEETING_ONE,) = FLEETING


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


def test_a_number_that_never_was_is_behind_everything():
    hub = EventHub()
    with hub.subscribe(after=500) as reader:
        tell(hub, "a")
        (last,) = reader.follow()
        assert (last.event, last.fields, last.number) == (LAGGED, {"missed": 1}, 1)


def test_numbers_go_on_where_the_reducer_before_ended_and_are_kept_before_they_are_told():
    kept: list[tuple[int, str, int, int]] = []
    hub = EventHub(
        begin=40, keep=lambda row: kept.append((row.number, row.session, row.round, len(hub.recent())))
    )
    assert hub.oldest == 41
    hub.observe(Observed("a", {"session": "s", "round": 3}))
    hub.observe(Observed("b", {}))
    assert kept == [(41, "s", 3, 0), (42, "", -1, 1)]
    with hub.subscribe(after=40) as all_of_it, hub.subscribe(after=7) as lagging:
        hub.close()
        assert names(all_of_it.follow()) == ["a", "b"]
        assert [event.fields for event in lagging.follow()] == [{"missed": 2}]


def test_fleeting_events_are_told_and_leave_no_gap():
    kept: list[int] = []
    hub = EventHub(ring=3, keep=lambda row: kept.append(row.number))
    with hub.subscribe() as reader:
        tell(hub, "a", FLEETING_ONE, "b")
        behind_a = hub.subscribe(after=1)
        hub.observe(Observed(FLEETING_ONE, {}))
        assert ([row.number for row in hub.recent()], hub.oldest, kept) == ([2], 2, [1, 2])
        hub.close()
        assert [event.event for event in reader.follow()] == [LAGGED]
        assert [(event.number, event.event) for event in behind_a.follow()] == [(2, "b"), (2, FLEETING_ONE)]


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
