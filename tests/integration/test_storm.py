"""All clients of a combiner come back at once after it was killed: it stands, and everybody counts once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import Running, names, running

from fedn.client.driver import Client
from fedn.client.journal import FileJournal
from fedn.client.links import GrpcCombiner
from fedn.client.trainer import AppTrainer
from fedn.combiner.admission import Places
from fedn.combiner.limits import Limits
from fedn.domain.errors import Busy, InvalidInput
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, SessionId, digest_of
from fedn.domain.messages import ClientInfo, Hello, UpdateOffered
from fedn.domain.update import UpdateHeader
from fedn.helpers.files import seed_file
from fedn.ports import Observed
from fedn.sandbox.processes import Sandbox, free_port
from fedn.stores.cache import ModelCache
from fedn.stores.memory import MemoryModels
from fedn.testing.federation import Federation
from fedn.wire.reducer_link import HttpReducer

CLIENTS = 300
ELEMENTS = 10_000
"""80 kB: too much to ride along, so that every client fetches and submits."""
PATIENCE = 120.0


class Crowd:
    """Many clients of one process: real links, real journals, an app that waits for its turn."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.reducer = HttpReducer(sandbox.url)
        self.trained: Counter[tuple[str, int]] = Counter()
        self._home = sandbox.directory / "clients"
        self._loop = asyncio.get_running_loop()
        self._gates = [asyncio.Event() for _ in range(CLIENTS)]
        self._clients = [self._client(index) for index in range(CLIENTS)]

    def _client(self, index: int) -> Client:
        name = f"client-{index}"
        client = ClientId(f"{name}-0")
        home = self._home / name
        app = AppTrainer(_Waiting(index, self._wait, self.trained), client)
        journal = FileJournal(home / "journal", 2**30, home / "kept")
        cache = ModelCache(MemoryModels(), keep=1)
        return Client(ClientInfo(client, name), self.reducer, GrpcCombiner, app, journal, cache, _Nobody())

    def _wait(self, index: int) -> None:
        asyncio.run_coroutine_threadsafe(self._gates[index].wait(), self._loop).result()

    def open_gates(self, count: int) -> None:
        """From any thread."""
        for gate in self._gates[:count]:
            self._loop.call_soon_threadsafe(gate.set)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        running = [asyncio.create_task(client.run()) for client in self._clients]
        try:
            yield
        finally:
            self.open_gates(CLIENTS)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            for client in self._clients:
                await client.close()
            await self.reducer.close()


class _Waiting:
    def __init__(self, index: int, wait: Callable[[int], None], trained: Counter[tuple[str, int]]) -> None:
        self._index, self._wait, self._trained = index, wait, trained

    def train(self, model: dict[str, Any], config: Any) -> tuple[dict[str, Any], int]:
        self._wait(self._index)
        self._trained[f"client-{self._index}", config["round"]] += 1
        return {name: value + self._index for name, value in model.items()}, 1 + self._index

    def validate(self, model: dict[str, Any]) -> dict[str, float]:
        return {}


class _Nobody:
    def observe(self, observed: Observed) -> None:
        pass


async def test_everybody_reconnects_at_once_and_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federations.PATIENCE", PATIENCE)
    with running(tmp_path, monkeypatch, combiners=0, clients=0) as federation:
        port = f"--port={free_port(0)}"
        federation.sandbox.start_combiner("combiner-1", port)
        crowd = Crowd(federation.sandbox)
        async with crowd.at_work():
            session = await asyncio.to_thread(_half_way, federation, crowd)
            first = await asyncio.to_thread(told, federation)
            federation.sandbox.kill("combiner-1")
            crowd.open_gates(CLIENTS)
            federation.sandbox.start_combiner("combiner-1", port)
            await asyncio.to_thread(federation.finished, session)

            federation.sandbox.check()  # the combiner lives
            [_, record] = federation.records(session)
            everybody = sorted(f"client-{index}" for index in range(CLIENTS))
            assert names(record) == everybody
            assert crowd.trained == Counter((name, 1) for name in everybody)
            assert await asyncio.to_thread(federation.audit, session) < 1e-6
            for seen in (first, await asyncio.to_thread(told, federation)):
                assert all(gauge["value"] <= gauge["peak"] <= gauge["limit"] for gauge in seen.values())
                assert (seen["uploads"]["limit"], seen["fetches"]["limit"]) == (4, 16)


class Plain:
    """An ordinary client's app."""

    def train(self, model: Any, config: Any) -> Any:
        return {name: value + 1 for name, value in model.items()}, 10

    def validate(self, model: Any) -> Any:
        return {}


async def test_whoever_is_turned_away_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has the only place keeps it until somebody has been turned away."""
    turned_away = {"fetches": asyncio.Event(), "uploads": asyncio.Event()}
    right = Places._wait

    async def wait(places: Places, own: asyncio.Semaphore) -> None:
        try:
            await right(places, own)
        except Busy:
            turned_away[places._what].set()
            raise
        await turned_away[places._what].wait()

    monkeypatch.setattr(Places, "_wait", wait)
    limits = Limits(uploads_in_flight=1, uploads_waiting=0, fetches_in_flight=1, fetches_waiting=0)
    async with Federation(tmp_path, combiner_limits=limits) as federation:
        await federation.add_combiner("combiner-1")
        for number in range(6):
            await federation.add_client(f"client-{number}", Plain())
        await federation.story.until("network_changed", clients=6)
        seed = {"w": np.zeros(300_000)}  # several chunks each way
        session = await federation.start_session(seed, rounds=2, min_clients=6, validate=False)
        await federation.story.until("session_finished", seconds=60)
        records = [stored.record for stored in federation.state.records(session.session)]
        assert [sum(len(part.contributors) for part in record.parts) for record in records] == [0, 6, 6]
        assert all(happened.is_set() for happened in turned_away.values())


async def test_streams_without_hello_are_few_and_short(tmp_path: Path) -> None:
    async def quiet() -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield  # never

    limits = Limits(handshakes=1, hello_within=0.2)
    async with Federation(tmp_path, combiner_limits=limits) as federation:
        combiner = await federation.add_combiner("combiner-1")
        first = asyncio.create_task(anext(combiner.attach(quiet())))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        with pytest.raises(Busy, match=r"1 clients are attaching \(handshakes\)"):
            await anext(combiner.attach(quiet()))
        with pytest.raises(InvalidInput, match="is not Hello"):
            await first
        await federation.add_client("client-1", Plain())
        await federation.story.until("network_changed", clients=1)


async def test_offers_beyond_the_limit_are_answered_with_busy(tmp_path: Path) -> None:
    async with Federation(tmp_path, combiner_limits=Limits(max_parked=0)) as federation:
        combiner = await federation.add_combiner("combiner-1")
        said: asyncio.Queue[Any] = asyncio.Queue()
        digest = digest_of(b"")
        header = UpdateHeader(SessionId("s"), 1, ClientId("ann"), digest, 1, 1, digest, digest)
        for message in (Hello(PROTOCOL_VERSION, ClientId("ann"), ""), UpdateOffered(header)):
            said.put_nowait(message)

        async def up() -> AsyncIterator[Any]:
            while True:
                yield await said.get()

        with pytest.raises(Busy, match="max_parked"):
            async for _ in combiner.attach(up()):
                pass


def _half_way(federation: Running, crowd: Crowd) -> str:
    """A session whose first round has the updates of half of the crowd."""
    federation.attached(CLIENTS)
    seed = seed_file({"w": np.zeros(ELEMENTS)})
    model = federation.reducer.upload("/models", iter([seed]), len(seed), name="zeros")
    plan = {"rounds": 1, "min_clients": CLIENTS, "validate": False, "round_deadline": PATIENCE}
    session = federation.reducer.post("/sessions", {"name": "s", "model": model["digest"], "plan": plan})
    crowd.open_gates(CLIENTS // 2)
    federation.received(session["session"], CLIENTS // 2)
    return str(session["session"])


def told(federation: Running) -> dict[str, Any]:
    """The gauges, once they tell of the whole crowd and of its uploads; they come once a second."""

    def gauges() -> Any:
        [combiner] = federation.reducer.get("/network")["combiners"]
        seen = {gauge["name"]: gauge for gauge in combiner["gauges"]}
        return seen and seen["clients"]["peak"] == CLIENTS and seen["uploads"]["peak"] and seen

    return dict(federation.until(gauges))
