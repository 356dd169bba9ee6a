"""Where the network's picture puts everybody."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fedn.domain.messages import ClientInfo, Gauge, Traffic
from fedn.reducer.network import CombinerView, NetworkView, Seen
from fedn.reducer.pages.picture import CLIENTS, DOTS, NAMED, WIDTH, Doing, draw, thickness


def combiner(name, count, first=0, **more):
    clients = tuple(ClientInfo(f"id-{first + n}", f"client-{first + n:04}") for n in range(count))
    return CombinerView(name, "host:1", "i", more.pop("live", True), clients, **more)


def one(view, doings=None):
    (node,) = draw(view, doings or {}).nodes
    return node


@pytest.mark.parametrize("count", [0, 1, NAMED, NAMED + 1, 60, 61, DOTS])
def test_nobody_stands_on_anybody_or_outside(count):
    picture = draw(NetworkView(1, (combiner("a", count), combiner("b", count, first=count))), {})
    above, below = picture.nodes
    dots = [(dot, node.radius) for node in picture.nodes for dot in node.dots]
    assert len(dots) == 2 * count
    for dot, radius in dots:
        assert CLIENTS[0] <= dot.x - radius
        assert dot.x + radius <= WIDTH
        assert dot.y - radius >= 0
        assert dot.y + radius <= picture.height
    places = sorted((dot.x, dot.y) for dot, _ in dots)
    for here, there in pairwise(places):
        assert here[0] < there[0] or there[1] - here[1] >= 2 * above.radius
    lowest = max([above.y, *(dot.y for dot in above.dots)])
    assert lowest < min([below.y, *(dot.y for dot in below.dots)])
    assert above.named is (count <= NAMED)


def test_of_too_many_clients_there_are_numbers_alone():
    doings = {"id-0": Doing("training", "s", 1, "a", 0.0)}
    node = one(NetworkView(1, (combiner("a", DOTS + 1),)), doings)
    assert node.dots == ()
    assert (node.clients, node.counts) == (DOTS + 1, {"idle": DOTS, "training": 1})


def test_of_too_many_combiners_it_says_how_many_are_hidden():
    picture = draw(NetworkView(1, tuple(combiner(f"c{n}", 0) for n in range(53))), {})
    assert (len(picture.nodes), picture.hidden) == (50, 3)


def test_who_was_lost_stays_to_be_seen_where_it_was():
    gone = ClientInfo("id-9", "client-9")
    doings = {"id-9": Doing("training", "s", 3, "a", 0.0), "id-0": Doing("uploading", "s", 3, "a", 0.0)}
    view = NetworkView(1, (combiner("a", 1),), seen={"id-9": Seen(gone, "a", 1.0)})
    assert {dot.name: dot.state for dot in one(view, doings).dots} == {
        "client-0000": "uploading", "client-9": "lost",
    }  # fmt: skip


def test_of_a_combiner_that_is_lost_those_are_shown_who_went_nowhere():
    had = (ClientInfo("id-0", "moved"), ClientInfo("id-7", "nowhere"))
    dead = CombinerView("a", "host:1", "i", False, (), had=had)
    lost, here = draw(NetworkView(1, (dead, combiner("b", 1))), {}).nodes
    assert (lost.state, here.state) == ("lost", "live")
    assert [(dot.name, dot.state) for dot in lost.dots] == [("nowhere", "lost")]


def test_lines_are_thicker_where_more_went_and_the_bar_is_the_fullest_queue():
    gauges = (Gauge("clients", 1, 100, 1), Gauge("uploads", 3, 4, 4), Gauge("unbounded", 5, 0, 5))
    busy = combiner("a", 2, received=900, sent=100, gauges=gauges, traffic={"id-0": Traffic("id-0", 500, 0)})
    quiet = combiner("b", 0, received=10)
    a, b = draw(NetworkView(1, (busy, quiet)), {}).nodes
    assert a.line > b.line > 0
    assert a.dots[0].line > a.dots[1].line
    assert (a.load, a.fullest, b.load) == (0.75, "uploads 3 of 4", 0.0)
    assert thickness(0) < thickness(0.1) < thickness(1) == thickness(2)
