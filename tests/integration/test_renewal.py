"""A certificate that ends, and the next one: nothing is lost by it, and nobody trains twice.

One reducer, one combiner and one client in this event loop, with gRPC and TLS between them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from secured import NAME, PATIENCE, Network, secured

from fedn.client.driver import Client
from fedn.client.journal import FileJournal
from fedn.client.links import GrpcCombiner
from fedn.client.trainer import AppTrainer
from fedn.domain import messages as m
from fedn.domain.identity import Role
from fedn.domain.ids import PROTOCOL_VERSION, ClientId
from fedn.domain.plan import plan_from
from fedn.helpers.files import seed_file
from fedn.identity.credentials import Wallet
from fedn.ports import Buffer, ModelInfo, SessionInfo
from fedn.reducer.federation import Reducer
from fedn.reducer.links import GrpcCombinerControl
from fedn.stores.cache import ModelCache
from fedn.stores.memory import MemoryModels, MemoryState
from fedn.testing.federation import Story

ANN = ClientId("ann")
SOON = 3.0
"""Seconds after which the first certificate ends."""


class App:
    """Trains for as long as the test wants."""

    def __init__(self) -> None:
        self.trained: list[int] = []
        self.go_on = threading.Event()

    def train(self, model: Any, config: Any) -> Any:
        self.trained.append(config["round"])
        assert self.go_on.wait(PATIENCE)
        return model, 10


class Gated(GrpcCombiner):
    """Its first upload stops after one chunk, until its stream is cut."""

    offsets: ClassVar[list[int]]

    async def submit(self, grant: str, offset: int, chunks: AsyncIterator[Buffer]) -> None:
        self.offsets.append(offset)
        await super().submit(grant, offset, self._slowly(chunks) if len(self.offsets) == 1 else chunks)

    async def _slowly(self, chunks: AsyncIterator[Buffer]) -> AsyncIterator[Buffer]:
        yield await anext(chunks)
        await asyncio.Event().wait()


class Scene:
    """What a test needs: the client's wallet, what it observed, and the reducer."""

    def __init__(self, network: Network, reducer: Reducer, models: MemoryModels) -> None:
        self.network, self.reducer, self.models = network, reducer, models
        self.wallet = Wallet(network.credentials(Role.CLIENT, ANN, SOON))
        self.seen, self.story = Story(), Story()
        self.app = App()

    def renew(self) -> None:
        self.wallet.replace(self.network.credentials(Role.CLIENT, ANN))

    async def start_session(self, **tensors: Any) -> SessionInfo:
        digest, size = self.models.put([seed_file(tensors)])
        self.reducer.state.add_model(ModelInfo(digest, size, "seed", "seed", 0.0))
        plan = plan_from({"rounds": 1, "min_clients": 1, "validate": False})
        return await self.reducer.start_session("test", digest, size, plan)

    def contributors(self, session: SessionInfo) -> list[str]:
        return [c.client for c in self.reducer.state.record(session.session, 1).record.contributors]


@asynccontextmanager
async def scene(directory: Path, link: type[GrpcCombiner] = GrpcCombiner) -> AsyncIterator[Scene]:
    """Everybody is attached; the client's certificate ends soon."""
    state, models, story = MemoryState(), MemoryModels(), Story()
    reducers: list[Reducer] = []

    class ToReducer:
        """The combiner is there before the reducer is."""

        def __getattr__(self, name: str) -> Any:
            return getattr(reducers[0], name)

    async with secured(directory, ToReducer()) as network:
        shown = Wallet(network.credentials(Role.REDUCER, ""))
        reducer = Reducer(state, models, partial(GrpcCombinerControl, wallet=shown), story)
        reducers.append(reducer)
        await reducer.start()
        made = Scene(network, reducer, models)
        made.story = story
        me = m.Registration(PROTOCOL_VERSION, NAME, f"127.0.0.1:{network.port}", network.combiner.incarnation)
        await reducer.register(me)
        client = Client(
            m.ClientInfo(ANN, ANN), reducer, partial(link, wallet=made.wallet), AppTrainer(made.app, ANN),
            FileJournal(directory / "journal", 2**30), ModelCache(MemoryModels(), keep=2), made.seen,
        )  # fmt: skip
        await story.until("network_changed", combiners=1)
        running = asyncio.create_task(client.run())
        try:
            await made.seen.until("attached")
            yield made
        finally:
            made.app.go_on.set()
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await client.close()
            await reducer.close()


async def test_a_training_under_way_goes_on_when_the_certificate_ends(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        session = await it.start_session(w=np.zeros(4))
        await it.seen.until("working")
        it.renew()
        await it.seen.until("detached")
        await it.seen.until("attached", 2)
        it.app.go_on.set()
        await it.story.until("session_finished")
        assert it.contributors(session) == [ANN]
        assert it.app.trained == [1]
        assert it.seen.named("waiting") == []  # it was back at once


async def test_an_upload_under_way_goes_on_where_it_stopped(tmp_path: Path) -> None:
    class Counted(Gated):
        offsets: ClassVar[list[int]] = []

    async with scene(tmp_path, Counted) as it:
        it.app.go_on.set()
        session = await it.start_session(w=np.zeros(300_000))  # three chunks
        it.renew()
        await it.story.until("session_finished")
        assert it.contributors(session) == [ANN]
        assert Counted.offsets == [0, 2**20]
        assert it.app.trained == [1]
        assert it.seen.named("waiting") == []


async def test_a_download_under_way_goes_on_where_it_stopped(tmp_path: Path) -> None:
    class Slow(GrpcCombiner):
        """Does not read on, for the first time, until its certificate has ended."""

        offsets: ClassVar[list[int]] = []
        go_on = asyncio.Event()

        async def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Buffer]:
            self.offsets.append(request.offset)
            async for chunk in super().fetch_model(request):
                yield chunk
                if len(self.offsets) == 1:
                    await self.go_on.wait()

    async with scene(tmp_path, Slow) as it:
        it.app.go_on.set()
        session = await it.start_session(w=np.zeros(4_000_000))  # more than what is read ahead
        it.renew()
        await it.seen.until("attached", 2)
        Slow.go_on.set()
        await it.story.until("session_finished")
        assert it.contributors(session) == [ANN]
        first, second = Slow.offsets
        assert 0 == first < second
        assert it.seen.named("waiting") == []


async def test_without_a_renewal_it_waits_outside_and_comes_in_with_the_next_one(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        await it.start_session(w=np.zeros(4))
        await it.seen.until("working")
        await it.seen.until("waiting", 2)
        assert len(it.seen.named("attached")) == 1
        it.renew()
        await it.seen.until("attached", 2)
        it.app.go_on.set()
        await it.story.until("session_finished")
        assert it.app.trained == [1]


async def test_one_that_the_combiner_calls_revoked_asks_the_reducer_who_alone_decides(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        it.renew()
        it.network.combiner.revoke([f"client:{ANN}"])
        said = await it.seen.until("waiting")
        assert said["reason"] == f"{NAME} says: client:ann was revoked; ask whoever runs this network, and " \
                                 "join anew with another token"  # fmt: skip
        it.network.combiner._entrance.members._revoked.clear()  # as at another one, where nobody claims so
        await it.seen.until("attached", 2)
