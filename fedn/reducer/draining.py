"""Empties a combiner, so that it can be stopped: its clients are sent elsewhere, and kept away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fedn.domain.errors import NotFound
from fedn.domain.ids import CombinerName
from fedn.ports import CombinerInfo, StateStore
from fedn.reducer.network import NetworkView, check_drain
from fedn.reducer.peers import Peer


class Draining:
    """Begins and ends it. First it is stored, then done: a reducer that starts again must not send clients
    to where they were told to leave.
    """

    def __init__(
        self,
        state: StateStore,
        peers: Mapping[CombinerName, Peer],
        changed: Callable[[Peer], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """``changed`` is told of a combiner that drains from now on, or no longer."""
        self._state = state
        self._peers = peers
        self._changed = changed
        self._spawn = spawn
        self._one = asyncio.Lock()

    async def begin(self, combiner: CombinerName, view: Callable[[], NetworkView]) -> None:
        """Nothing where it has begun. Raises NotFound, and Conflict where nobody could take the clients."""
        async with self._one:
            check_drain(view(), combiner)
            peer = self._peers[combiner]
            if not peer.drained_at:
                await self._store(peer, time.time())

    async def end(self, combiner: CombinerName) -> None:
        """Nothing where it does not drain. Raises NotFound."""
        async with self._one:
            if (peer := self._peers.get(combiner)) is None:
                raise NotFound(
                    f"there is no combiner {combiner!r}; `fedn status` shows all", combiner=combiner
                )
            if peer.drained_at:
                await self._store(peer, 0.0)

    async def _store(self, peer: Peer, at: float) -> None:
        async with peer.storing:
            info = CombinerInfo(peer.name, peer.address, peer.incarnation, peer.seen, at)
            await asyncio.to_thread(self._state.put_combiner, info)
            peer.drain(at)
        self._changed(peer)
        self._spawn(peer.tell_draining())
