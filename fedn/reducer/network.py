"""Who is there: combiners, their clients, and where a client is sent. Pure values and one decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fedn.domain.errors import Conflict, NotFound, Unavailable
from fedn.domain.ids import ClientId, CombinerName, Incarnation, SessionId
from fedn.domain.messages import UNSAID, ClientInfo, Gauge, Host, LogLine, RoundHeld, Traffic


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
    """A combiner as people see it; ``clients`` and ``gauges`` are empty while it is out of reach.

    ``seen_at`` is when it was heard of last (Unix time); ``drained_at`` since when it drains, 0 if it does
    not. ``received`` and ``sent`` are bytes of all clients since it started, ``traffic`` those of each since
    it attached. ``had`` are the clients that it had when it went out of reach, or began to drain.
    """

    combiner: CombinerName
    address: str
    incarnation: str
    live: bool
    clients: tuple[ClientInfo, ...]
    gauges: tuple[Gauge, ...] = ()
    host: Host = UNSAID
    seen_at: float = 0.0
    drained_at: float = 0.0
    received: int = 0
    sent: int = 0
    traffic: Mapping[ClientId, Traffic] = field(default_factory=dict)
    had: tuple[ClientInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """A client where it was last, and when that was (Unix time)."""

    info: ClientInfo
    combiner: CombinerName
    seen_at: float


@dataclass(frozen=True, slots=True)
class NetworkView:
    """The whole network as people see it."""

    term: int
    combiners: tuple[CombinerView, ...]
    gauges: tuple[Gauge, ...] = ()
    """The reducer's own."""
    seen: Mapping[ClientId, Seen] = field(default_factory=dict)
    """Where clients were last, also of those that are gone; it may lag behind by a second."""
    logs: Mapping[str, tuple[LogLine, ...]] = field(default_factory=dict)
    """The last log lines of members, as role:name, that share them."""

    @property
    def attached(self) -> tuple[ClientInfo, ...]:
        """Every client at a combiner that is live."""
        return tuple(client for combiner in self.combiners if combiner.live for client in combiner.clients)

    @property
    def names(self) -> dict[str, str]:
        """What clients call themselves by their ids, also those that were here lately."""
        seen = {str(client): one.info.name for client, one in self.seen.items()}
        return seen | {str(one.client): one.name for combiner in self.combiners for one in combiner.clients}

    @property
    def unmistakable(self) -> dict[str, str]:
        """Of `names` those that one client alone has: sentences may call it so."""
        names = self.names
        how_many = Counter(names.values())
        return {client: name for client, name in names.items() if how_many[name] == 1}


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
    combiner to ``avoid`` (the client just lost it) is taken only if there is no other; one that drains never.

    Raises:
        Unavailable: no combiner is live, or all that are drain.
    """
    live = [c for c in view.combiners if c.live and not c.drained_at]
    if not live and any(c.live for c in view.combiners):
        raise Unavailable("all combiners that are live drain; `fedn combiner undrain NAME` ends that")
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


def check_drain(view: NetworkView, combiner: CombinerName) -> None:
    """Whether ``combiner`` may drain: its clients need another one to go to. Raises NotFound, Conflict."""
    if combiner not in {c.combiner for c in view.combiners}:
        raise NotFound(f"there is no combiner {combiner!r}; `fedn status` shows all", combiner=combiner)
    if not any(c.live and not c.drained_at for c in view.combiners if c.combiner != combiner):
        raise Conflict(
            f"no other combiner is live that could take the clients of {combiner}; start one first, with "
            "`fedn combiner start`", combiner=combiner,
        )  # fmt: skip
