"""A whole federation in one event loop: the real machines and drivers, no sockets.

What `fedn.fit` trains with when it is given no network, and what `fedn.testing.Federation` builds on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from fedn.aggregation.dtypes import Array
from fedn.client.driver import Client
from fedn.client.journal import FileJournal
from fedn.combiner.driver import Combiner
from fedn.combiner.limits import Limits as CombinerLimits
from fedn.domain import messages as m
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, Digest
from fedn.domain.plan import plan_from
from fedn.helpers.files import read_file, seed_file
from fedn.ports import ModelInfo, Observer, SessionInfo, Tensors, Trainer
from fedn.reducer.federation import Limits as ReducerLimits
from fedn.reducer.federation import Reducer
from fedn.sdk.links import DirectCombiner, DirectReducer
from fedn.stores.cache import CacheStore, ModelCache
from fedn.stores.memory import MemoryModels, MemoryState

JOURNAL_BYTES = 2**33
PATIENT, WILLING = ReducerLimits(), CombinerLimits()


class InProcess:
    """One reducer, combiners and clients by name: ``async with InProcess(directory, observer) as network``.

    The trail is in memory, models in ``models`` (memory, too, unless it is given), journals below
    ``directory``. ``observer`` is told what the reducer and the clients see.
    """

    def __init__(
        self,
        directory: Path,
        observer: Observer,
        models: CacheStore | None = None,
        reducer_limits: ReducerLimits = PATIENT,
        combiner_limits: CombinerLimits = WILLING,
    ) -> None:
        self.state = MemoryState()
        self.models = MemoryModels() if models is None else models
        self.combiners: dict[str, Combiner] = {}
        self.clients: dict[str, Client] = {}
        self.reducer: Reducer
        self._directory = directory
        self._observer = observer
        self._reducer_limits = reducer_limits
        self._combiner_limits = combiner_limits
        self._running: dict[str, asyncio.Task[None]] = {}
        self._to_reducer = DirectReducer(lambda: self.reducer)

    async def __aenter__(self) -> Self:
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
        """Start the reducer, or another one on the same stores when the one before it was closed."""
        self.reducer = Reducer(self.state, self.models, self._link, self._observer, self._reducer_limits)
        await self.reducer.start()
        for combiner in self.combiners.values():
            await self._register(combiner)

    async def add_combiner(self, name: str) -> Combiner:
        """Start (or, under an old name, restart) a combiner."""
        cache, limits = ModelCache(MemoryModels(), keep=3), self._combiner_limits
        combiner = Combiner(CombinerName(name), self._to_reducer, cache, self._directory, limits)
        self.combiners[name] = combiner
        await self._register(combiner)
        return combiner

    async def run_client(
        self, name: str, trainer: Trainer, combiner: str = "", keep_updates: bool = False
    ) -> Client:
        """Start a client; under an old name it finds its old journal."""
        home = self._directory / name
        journal = FileJournal(home / "journal", JOURNAL_BYTES, home / "kept" if keep_updates else None)
        client = Client(
            m.ClientInfo(ClientId(name), name), self._to_reducer, self._link, trainer, journal,
            ModelCache(MemoryModels(), keep=2), self._observer, combiner,
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
        return await self.reducer.start_session("in-process", digest, size, plan_from(plan))

    def tensors(self, digest: Digest) -> dict[str, Array]:
        """A stored model's tensors."""
        with self.models.map(digest) as file:
            return read_file(file)

    # --- links -----------------------------------------------------------------------------------------

    async def _register(self, combiner: Combiner) -> None:
        me = m.Registration(PROTOCOL_VERSION, combiner.name, combiner.name, combiner.incarnation)
        await self.reducer.register(me)

    def _link(self, address: str, name: str) -> DirectCombiner:
        return DirectCombiner(lambda: self.combiners.get(address))
