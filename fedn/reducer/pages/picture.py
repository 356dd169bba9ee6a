"""The network as a picture: the reducer at the left, its combiners in a column, their clients beside them.

Pure: a view of the network and what its clients do go in, places come out; `network.html` draws them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedn.domain.ids import ClientId
from fedn.reducer.network import CombinerView, NetworkView
from fedn.reducer.pages.round_bars import WORDS

WIDTH = 620
REDUCER = (4, 84, 46)
"""Left edge, width and height of the reducer's box."""
COMBINER = (124, 160, 58)
CLIENTS = (326, WIDTH - 4)
"""Left and right edge of the clients' dots."""
GAP = 22
COMBINERS_DRAWN = 50
NAMED = 12
"""So many clients of a combiner have their names beside them."""
NAMED_ROWS = 6
NAME_STEP = 23
DOTS = 300
"""Of more clients than these a combiner shows the numbers alone."""
ROOMY = 60
STEPS = (18, 12)
"""From dot to dot: of up to `ROOMY` of them, and of more."""
RADII = (6.0, 4.0)
LINES = (1.5, 7.0)
"""Least and most thickness of a line."""
IDLE, GONE = "idle", "lost"
STATES: Mapping[str, str] = {IDLE: "no task", **WORDS}
"""What a client may do, in the words of the legend."""


@dataclass(frozen=True, slots=True)
class Doing:
    """What a client does in an open round of a session, ``since`` then (Unix time)."""

    state: str
    session: str
    round: int
    combiner: str
    since: float


Doings = Mapping[ClientId, Doing]


@dataclass(frozen=True, slots=True)
class Dot:
    """A client. ``line`` is the thickness of the line to it."""

    client: str
    name: str
    state: str
    x: float
    y: float
    line: float

    @property
    def title(self) -> str:
        return f"{self.name}: {STATES.get(self.state, self.state)}"


@dataclass(frozen=True, slots=True)
class Node:
    """A combiner: its box from ``y`` down, its clients beside it.

    ``counts`` are its clients by state, those that are gone, too. ``dots`` are empty where there are too
    many, ``named`` says whether names fit beside them. ``load`` is how full its fullest queue is, 0 to 1.
    """

    combiner: str
    state: str
    y: float
    centre: float
    line: float
    load: float
    fullest: str
    attached: int
    counts: Mapping[str, int]
    dots: tuple[Dot, ...]
    named: bool
    radius: float

    @property
    def clients(self) -> int:
        return sum(self.counts.values())

    @property
    def told(self) -> str:
        """How many are attached, and how many are gone."""
        here = f"{self.attached} client{'' if self.attached == 1 else 's'}"
        return here + (f", {self.clients - self.attached} gone" if self.clients > self.attached else "")


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it, ``height`` high; ``hidden`` combiners are not drawn."""

    height: float
    centre: float
    nodes: tuple[Node, ...]
    hidden: int


def draw(view: NetworkView, doings: Doings) -> Picture:
    """Places of everybody."""
    shown = view.combiners[:COMBINERS_DRAWN]
    most = max((combiner.received + combiner.sent for combiner in shown), default=0)
    attached = {client.client for combiner in view.combiners for client in combiner.clients}
    nodes: list[Node] = []
    top = 4.0
    for combiner in shown:
        nodes.append(_node(combiner, _clients(view, combiner, doings, attached), top, most))
        top = nodes[-1].centre * 2 - top + GAP  # its centre is half its height below its top
    height = max(top - GAP, REDUCER[2] + 4) + 4
    centre = (nodes[0].centre + nodes[-1].centre) / 2 if nodes else height / 2
    return Picture(height, centre, tuple(nodes), len(view.combiners) - len(shown))


def combiner_state(combiner: CombinerView) -> str:
    """In a word."""
    if not combiner.live:
        return "lost"
    return "draining" if combiner.drained_at else "live"


def fullest(combiner: CombinerView) -> tuple[float, str]:
    """How full the fullest of a combiner's queues is, 0 to 1, and which one."""
    filled = [(gauge.value / gauge.limit, gauge) for gauge in combiner.gauges if gauge.limit > 0]
    if not filled:
        return 0.0, ""
    load, gauge = max(filled, key=lambda one: one[0])
    return min(load, 1.0), f"{gauge.name.replace('_', ' ')} {gauge.value:,} of {gauge.limit:,}"


def thickness(share: float) -> float:
    """Of a line that carries ``share`` of what the busiest one does: a tenth is half as thick, or so."""
    low, high = LINES
    return round(low + (high - low) * math.log10(1 + 9 * min(max(share, 0.0), 1.0)), 1)


def curve(x: float, y: float, to_x: float, to_y: float) -> str:
    """A line from one place to another that leaves and arrives level, as the path of an SVG."""
    middle = (x + to_x) / 2
    return f"M{x:.1f} {y:.1f}C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"


def _clients(
    view: NetworkView, combiner: CombinerView, doings: Doings, attached: set[ClientId]
) -> list[tuple[str, str, str]]:
    """Id, name and state of a combiner's clients, also of those that were just lost."""
    found = {
        info.client: (info.name, doings[info.client].state if info.client in doings else IDLE)
        for info in combiner.clients
    }
    for info in combiner.had if not combiner.live else ():
        if info.client not in attached:
            found[info.client] = (info.name, GONE)
    for client, doing in doings.items():
        if doing.combiner == combiner.combiner and client not in attached:
            seen = view.seen.get(client)
            found.setdefault(client, (seen.info.name if seen else "", GONE))
    named = [(str(client), name or str(client), state) for client, (name, state) in found.items()]
    return sorted(named, key=lambda one: (one[1], one[0]))


def _node(combiner: CombinerView, clients: Sequence[tuple[str, str, str]], top: float, most: int) -> Node:
    places, tall, radius = _places(len(clients))
    height = max(COMBINER[2], tall)
    centre = top + height / 2
    begin = centre - tall / 2
    bytes_of = {client: one.received + one.sent for client, one in combiner.traffic.items()}
    busiest = max(bytes_of.values(), default=0) or 1
    dots = tuple(
        Dot(client, name, state, x, begin + y, thickness(bytes_of.get(ClientId(client), 0) / busiest / 2))
        for (client, name, state), (x, y) in zip(clients, places, strict=False)
    )
    counted = Counter(state for _, _, state in clients)
    load, word = fullest(combiner)
    return Node(
        combiner=combiner.combiner, state=combiner_state(combiner), y=centre - COMBINER[2] / 2, centre=centre,
        line=thickness((combiner.received + combiner.sent) / (most or 1)), load=load, fullest=word,
        attached=len(combiner.clients),
        counts={state: counted[state] for state in (*STATES, *sorted(counted)) if counted[state]},
        dots=dots, named=len(clients) <= NAMED, radius=radius,
    )  # fmt: skip


def _places(count: int) -> tuple[list[tuple[float, float]], float, float]:
    """Where so many dots are within their part of the picture, how high that is, and their radius."""
    left, right = CLIENTS
    if count > DOTS or not count:
        return [], 0.0, RADII[0]
    if count <= NAMED:
        rows, step, across = min(count, NAMED_ROWS), NAME_STEP, (right - left) / 2
        places = [(left + 8 + across * (n // rows), step * (n % rows + 0.5)) for n in range(count)]
        return places, float(rows * step), RADII[0]
    size = 0 if count <= ROOMY else 1
    step, radius = STEPS[size], RADII[size]
    row = (right - left) // step
    places = [(left + step * (n % row + 0.5), step * (n // row + 0.5)) for n in range(count)]
    return places, float(-(-count // row) * step), radius
