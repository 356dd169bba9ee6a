"""Bytes by client: counted for each chunk, told in few words."""

from __future__ import annotations

from fedn.combiner import traffic
from fedn.combiner.traffic import Meter
from fedn.domain.ids import ClientId
from fedn.domain.messages import Traffic, TrafficChanged

ANN, BOB = ClientId("ann"), ClientId("bob")


def test_chunks_are_counted_and_told_once() -> None:
    meter = Meter()
    meter.begin(ANN)
    meter.begin(BOB)
    for _ in range(3):
        meter.sent("ann", 10)
    meter.received("bob", 7)
    assert meter.changes() == TrafficChanged(7, 30, (Traffic(ANN, 0, 30), Traffic(BOB, 7, 0)))
    assert meter.changes() is None
    meter.received("ann", 1)
    assert meter.changes() == TrafficChanged(8, 30, (Traffic(ANN, 1, 30),))
    assert meter.everything() == TrafficChanged(8, 30, (Traffic(ANN, 1, 30), Traffic(BOB, 7, 0)))


def test_a_stranger_counts_in_all_alone_and_takes_no_memory() -> None:
    meter = Meter()
    for number in range(100):
        meter.sent(f"nobody-{number}", 5)
    assert meter.everything() == TrafficChanged(0, 500)


def test_who_attaches_again_begins_at_nothing() -> None:
    meter = Meter()
    meter.begin(ANN)
    meter.sent("ann", 5)
    meter.forget(ANN)
    assert meter.everything() == TrafficChanged(0, 5)
    meter.begin(ANN)
    meter.sent("ann", 2)
    assert meter.changes() == TrafficChanged(0, 7, (Traffic(ANN, 0, 2),))


def test_of_very_many_clients_some_are_told_at_a_time() -> None:
    meter = Meter()
    for number in range(traffic.MOST_TOLD + 1):
        meter.begin(ClientId(f"c{number}"))
        meter.sent(f"c{number}", 1)
    told = [meter.changes(), meter.changes()]
    assert [len(one.clients) for one in told if one] == [traffic.MOST_TOLD, 1]
