"""A whole federation in one event loop: the real machines and drivers, memory stores, no sockets.

The links between the tiers are direct calls, with a switch to cut each of them. What the fast tests
use, and what an app's author can use to see it train before there is a network.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedn.client.driver import Client
from fedn.client.journal import FileJournal
from fedn.client.trainer import AppTrainer
from fedn.combiner.driver import Combiner
from fedn.combiner.limits import Limits as CombinerLimits
from fedn.domain import messages as m
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, Digest
from fedn.domain.plan import plan_from
from fedn.helpers.files import read_file, seed_file
from fedn.ports import ModelInfo, Observed, SessionInfo, Tensors
from fedn.reducer.federation import Limits as ReducerLimits
from fedn.reducer.federation import Reducer
from fedn.stores.cache import ModelCache
from fedn.stores.memory import MemoryModels, MemoryState
from fedn.testing.links import Severable

REDUCER_LIMITS = ReducerLimits(combiner_grace=0.2, client_grace=0.5)
COMBINER_LIMITS = CombinerLimits(client_grace=0.3)
"""Less patience than in production: links in one process break cleanly."""


@dataclass
class Story:
    """An Observer that remembers; `until` waits for an event."""

    events: list[Observed] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def observe(self, observed: Observed) -> None:
        self.events.append(observed)
        self._changed.set()

    def named(self, event: str) -> list[Mapping[str, Any]]:
        return [seen.fields for seen in self.events if seen.event == event]

    async def until(
        self, event: str, count: int = 1, seconds: float = 20.0, **fields: Any
    ) -> Mapping[str, Any]:
        """The ``count``-th event of that name with these fields; TimeoutError if it does not come."""
        async with asyncio.timeout(seconds):
            while True:
                found = [f for f in self.named(event) if fields.items() <= f.items()]
                if len(found) >= count:
                    return found[count - 1]
                self._changed.clear()
                await self._changed.wait()


class Federation:
    """One reducer, combiners and clients by name: ``async with Federation(directory) as federation``."""

    def __init__(
        self,
        directory: Path,
        reducer_limits: ReducerLimits = REDUCER_LIMITS,
        combiner_limits: CombinerLimits = COMBINER_LIMITS,
    ) -> None:
        self.state, self.models = MemoryState(), MemoryModels()
        self.story = Story()
        self.combiners: dict[str, Combiner] = {}
        self.clients: dict[str, Client] = {}
        self._directory = directory
        self._reducer_limits = reducer_limits
        self._combiner_limits = combiner_limits
        self._running: dict[str, asyncio.Task[None]] = {}
        self.links: dict[str, list[Severable]] = {}
        self.reducer: Reducer

    async def __aenter__(self) -> Federation:
        await self.start_reducer()
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self._running):
            await self.stop_client(name)
        await self.reducer.close()
        for combiner in self.combiners.values():
            await combiner.close()

    # --- tiers -----------------------------------------------------------------------------------------

    async def start_reducer(self) -> None:
        """Start the reducer, or another one on the same stores after `stop_reducer`."""
        self.reducer = Reducer(self.state, self.models, self._link, self.story, self._reducer_limits)
        await self.reducer.start()
        for combiner in self.combiners.values():
            await self._register(combiner)

    async def stop_reducer(self) -> None:
        """As a crash leaves it: nothing is told, the stores stay."""
        await self.reducer.close()

    async def add_combiner(self, name: str) -> Combiner:
        """Start (or, under an old name, restart) a combiner."""
        models = ModelCache(MemoryModels(), keep=3)
        link, limits = ReducerOf(self), self._combiner_limits
        combiner = Combiner(CombinerName(name), link, models, self._directory, limits)
        self.combiners[name] = combiner
        await self._register(combiner)
        return combiner

    async def kill_combiner(self, name: str) -> None:
        """It is gone with everything it held, and its links break."""
        combiner = self.combiners.pop(name)
        self.cut(name)
        await combiner.close()

    def cut(self, name: str) -> None:
        """Break every link to a combiner; new ones can be made while it is in ``combiners``."""
        for link in self.links.pop(name, []):
            link.sever()

    async def add_client(self, name: str, app: Any, combiner: str = "", keep_updates: bool = False) -> Client:
        """Start a client; under an old name it finds its old journal."""
        client_id = ClientId(name)
        home = self._directory / name
        journal = FileJournal(home / "journal", 2**30, home / "kept" if keep_updates else None)
        client = Client(
            m.ClientInfo(client_id, name), ReducerOf(self), self._link, AppTrainer(app, client_id),
            journal, ModelCache(MemoryModels(), keep=2), self.story, combiner,
        )  # fmt: skip
        self.clients[name] = client
        self._running[name] = asyncio.create_task(client.run())
        return client

    async def stop_client(self, name: str) -> None:
        """As a crash leaves it: the journal stays."""
        task = self._running.pop(name)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await self.clients.pop(name).close()

    # --- sessions --------------------------------------------------------------------------------------

    async def start_session(self, seed: Tensors, /, **plan: Any) -> SessionInfo:
        """Seed a model and start a session with this plan."""
        digest, size = self.models.put([seed_file(seed)])
        self.state.add_model(ModelInfo(digest, size, "seed", "seed", 0.0))
        return await self.reducer.start_session("test", digest, size, plan_from(plan))

    def tensors(self, digest: Digest) -> dict[str, np.ndarray[Any, Any]]:
        """A stored model's tensors."""
        with self.models.map(digest) as file:
            return read_file(file)

    # --- links -----------------------------------------------------------------------------------------

    async def _register(self, combiner: Combiner) -> None:
        me = m.Registration(PROTOCOL_VERSION, combiner.name, combiner.name, combiner.incarnation)
        await self.reducer.register(me)

    def _link(self, address: str, name: str) -> Severable:
        return Severable(
            lambda: self.combiners.get(address), lambda link: self.links.setdefault(address, []).append(link)
        )


class ReducerOf:
    """ports.ReducerLink to whichever reducer the federation has now."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    async def register(self, registration: m.Registration) -> Sequence[str]:
        return await self._federation.reducer.register(registration)

    async def assign(self, client: ClientId, prefer: str, avoid: str) -> m.Assignment:
        return await self._federation.reducer.assign(client, prefer, avoid)

    def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Any]:
        return self._federation.reducer.fetch_model(request)

    async def close(self) -> None:
        """Nothing to close."""


__all__ = ["Federation", "ReducerOf", "Story"]
