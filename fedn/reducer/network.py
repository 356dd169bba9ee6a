"""Who is there: combiners, their clients, and where a client is sent. Pure values and one decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedn.domain.errors import Unavailable
from fedn.domain.ids import ClientId, CombinerName, Incarnation, SessionId
from fedn.domain.messages import ClientInfo, Gauge, RoundHeld


@dataclass(frozen=True, slots=True)
class Station:
    """A live combiner as the machines see it: its process, who is attached, what it held when it came up."""

    incarnation: Incarnation
    clients: frozenset[ClientId]
    held: tuple[RoundHeld, ...] = ()


Network = Mapping[CombinerName, Station]
"""The live combiners."""


def of_session(network: Network, session: SessionId) -> Network:
    """The network as one session sees it: parts held for other sessions are none of its business."""
    return {
        name: replace(station, held=tuple(held for held in station.held if held.session == session))
        for name, station in network.items()
    }


def attached(network: Network) -> dict[ClientId, CombinerName]:
    """Where every attached client is."""
    return {client: name for name, station in network.items() for client in station.clients}


@dataclass(frozen=True, slots=True)
class CombinerView:
    """A combiner as people see it; ``clients`` and ``gauges`` are empty while it is out of reach."""

    combiner: CombinerName
    address: str
    incarnation: str
    live: bool
    clients: tuple[ClientInfo, ...]
    gauges: tuple[Gauge, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkView:
    """The whole network as people see it."""

    term: int
    combiners: tuple[CombinerView, ...]
    gauges: tuple[Gauge, ...] = ()
    """The reducer's own."""


def choose_combiner(
    view: NetworkView,
    expected: Mapping[ClientId, CombinerName],
    client: ClientId,
    prefer: str,
    avoid: str,
    place: str = "",
) -> CombinerView:
    """The preferred combiner if it lives, else its ``place`` in an open round, else the least loaded.

    ``expected`` are clients sent somewhere that have not attached yet; they count as load. The
    combiner to ``avoid`` (the client just lost it) is taken only if there is no other.

    Raises:
        Unavailable: no combiner is live.
    """
    live = [c for c in view.combiners if c.live]
    if not live:
        raise Unavailable("no combiner is connected to the reducer; start one with `fedn combiner start`")
    candidates = [c for c in live if c.combiner != avoid] or live
    for wanted in (prefer, place):
        if found := [c for c in candidates if c.combiner == wanted]:
            return found[0]
    coming: dict[CombinerName, int] = {}
    for other, combiner in expected.items():
        if other != client:
            coming[combiner] = coming.get(combiner, 0) + 1
    return min(candidates, key=lambda c: (len(c.clients) + coming.get(c.combiner, 0), c.combiner))
