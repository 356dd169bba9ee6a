"""Tells people of combiners and clients that come, go and move; `federation.py` says when to look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from fedn.domain.ids import ClientId, CombinerName, Incarnation
from fedn.domain.messages import ClientInfo
from fedn.ports import Observed, Observer
from fedn.reducer.network import Seen
from fedn.reducer.peers import Peer
from fedn.reducer.whereabouts import Whereabouts, names_of

TELL_SECONDS = 0.5
"""Clients that come, leave or move within this time are told of at once."""


class Moves:
    """What is told of the network. For one event loop; ``seen`` may be read from any thread."""

    def __init__(self, peers: Mapping[CombinerName, Peer], observer: Observer) -> None:
        self._peers = peers
        self._observer = observer
        self._whereabouts = Whereabouts()
        self._up: dict[CombinerName, Incarnation] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seen(self) -> Mapping[ClientId, Seen]:
        return self._whereabouts.seen

    def soon(self) -> None:
        """Clients have come, left or moved."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TELL_SECONDS, self._clients)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()

    def up(self, combiner: CombinerName, incarnation: Incarnation, clients: int) -> None:
        """It is here; told once of each process, unless that was lost meanwhile."""
        if self._up.get(combiner) != incarnation:
            self._up[combiner] = incarnation
            self._tell("combiner_up", combiner, count=clients)

    def lost(self, combiner: CombinerName) -> None:
        """It is given up, with the clients that it had."""
        self._up.pop(combiner, None)
        peer = self._peers.get(combiner)
        self._of("combiner_lost", combiner, peer.had if peer else ())

    def draining(self, peer: Peer) -> None:
        """It is to have no clients from now on, or may have some again."""
        if peer.drained_at:
            self._of("combiner_draining", peer.name, peer.had)
        else:
            self._tell("combiner_undrained", peer.name)

    def _clients(self) -> None:
        self._timer = None
        # Last come those that are live: who is at one of them, and at one out of reach, is at the former.
        peers = sorted(self._peers.values(), key=lambda peer: peer.live)
        roster = ((peer.name, info) for peer in peers for info in peer.roster)
        for observed in self._whereabouts.update(roster, time.time()):
            self._observer.observe(observed)
        if self._whereabouts.waiting:
            self.soon()

    def _of(self, event: str, combiner: CombinerName, clients: tuple[ClientInfo, ...]) -> None:
        self._tell(event, combiner, clients=names_of(clients), count=len(clients))

    def _tell(self, event: str, combiner: CombinerName, **fields: object) -> None:
        self._observer.observe(Observed(event, {"combiner": combiner, **fields}))
