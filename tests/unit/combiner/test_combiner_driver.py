"""A combiner by itself: what its clients hear when the reducer calls, also about what is not there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from fedn.combiner import events as ev
from fedn.combiner import machine as mc
from fedn.combiner.driver import Combiner
from fedn.combiner.limits import Limits
from fedn.combiner.staging import PartSum, Upload
from fedn.domain import messages as m
from fedn.domain.errors import NotFound, Refused
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, SessionId, digest_of
from fedn.domain.model import layout_of
from fedn.domain.round import RoundSpec, ValidationSpec
from fedn.domain.update import UpdateHeader
from fedn.helpers.files import seed_file
from fedn.stores.cache import ModelCache
from fedn.stores.memory import MemoryModels

S, ANN, BOB = SessionId("s"), ClientId("ann"), ClientId("bob")
SMALL, LARGE = seed_file({"w": np.zeros(4)}), seed_file({"w": np.zeros(20_000)})
"""One rides along, the other is sent."""


class Visitor:
    """A client at the other end of an Attach stream; its update is the model itself, unchanged."""

    def __init__(self, client: ClientId) -> None:
        self.client = client
        self._says: asyncio.Queue[m.ClientMessage] = asyncio.Queue()
        self._heard: asyncio.Queue[m.CombinerMessage] = asyncio.Queue()
        self._says.put_nowait(m.Hello(PROTOCOL_VERSION, client, client))

    async def stay(self, combiner: Combiner) -> None:
        async for message in combiner.attach(self._messages()):
            self._heard.put_nowait(message)

    async def _messages(self) -> AsyncIterator[m.ClientMessage]:
        while True:
            yield await self._says.get()

    async def hears(self) -> m.CombinerMessage:
        return await asyncio.wait_for(self._heard.get(), 20)

    def offers(self, file: bytes = SMALL) -> None:
        digest, layout = digest_of(file), layout_of(file).digest
        header = UpdateHeader(S, 1, self.client, digest, 10, len(file), digest, layout)
        self._says.put_nowait(m.UpdateOffered(header, file if file is SMALL else b""))

    def reports(self) -> None:
        self._says.put_nowait(m.ModelValidated(S, 1, self.client, digest_of(SMALL), 5, {"loss": 0.5}))


class Unasked:
    """The reducer: the model rides along, so nothing is fetched."""

    def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[bytes]:
        raise AssertionError(request)


class Scene:
    """One combiner, whoever is attached to it, and the reducer's calls."""

    def __init__(self, directory: Path) -> None:
        models = ModelCache(MemoryModels(), keep=1)
        self.combiner = Combiner(CombinerName("c"), Unasked(), models, directory, Limits())  # type: ignore[arg-type]
        self._tasks: list[asyncio.Task[None]] = []

    async def attaches(self, client: ClientId) -> Visitor:
        visitor = Visitor(client)
        self._tasks.append(asyncio.create_task(visitor.stay(self.combiner)))
        assert isinstance(await visitor.hears(), m.Welcome)
        return visitor

    def runs(
        self, *clients: ClientId, file: bytes = SMALL, deadline: float = 60.0
    ) -> AsyncIterator[m.RoundEvent]:
        layout, process = layout_of(file).digest, self.combiner.incarnation
        return self.combiner.run_round(
            RoundSpec(1, S, 1, 0, digest_of(file), len(file), layout, clients, "{}", 0, deadline, "mean",
                      process, file)
        )  # fmt: skip

    def validates(
        self, *clients: ClientId, deadline: float = 60.0, kind: m.TaskKind = m.TaskKind.VALIDATE
    ) -> AsyncIterator[m.ValidationEvent]:
        return self.combiner.run_validation(
            ValidationSpec(1, S, 1, digest_of(SMALL), len(SMALL), clients, "{}", 0, deadline, SMALL, kind)
        )

    def time_is_up(self) -> None:
        [run] = self.combiner._parts
        self.combiner._decide(run, ev.Tick(run.state.ledger.closes_at))

    async def acks(self, *counted: int) -> None:
        await self.combiner.ack(m.AckRound(1, S, 1, counted))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.combiner.close()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    await scene.close()


async def folded(scene: Scene) -> tuple[Visitor, Visitor, AsyncIterator[m.RoundEvent]]:
    """Ann is folded, Bob is still at work."""
    ann, bob = await scene.attaches(ANN), await scene.attaches(BOB)
    events = scene.runs(ANN, BOB)
    assert isinstance(await anext(events), m.RoundOpened)
    assert [type(await v.hears()) for v in (ann, bob)] == [m.Task, m.Task]
    ann.offers()
    assert isinstance(await ann.hears(), m.Receipt)
    assert isinstance(await anext(events), m.UpdateReceived)
    return ann, bob, events


async def test_the_ack_of_a_sealed_part_settles_its_clients(scene: Scene) -> None:
    ann, bob, events = await folded(scene)
    bob.offers()
    assert isinstance(await bob.hears(), m.Receipt)
    assert [type(event) async for event in events] == [m.UpdateReceived, m.PartSealed]
    await scene.acks(0)
    assert [await v.hears() for v in (ann, bob)] == [m.Settled(S, 1, True, "")] * 2


async def test_whoever_follows_slowly_hears_everything_once(scene: Scene) -> None:
    """What comes while the past is repeated is neither left out nor told twice."""
    _, bob, events = await folded(scene)
    again = scene.runs(ANN, BOB)
    assert isinstance(await anext(again), m.RoundOpened)
    bob.offers()
    told = [event async for event in events]
    assert [type(event) for event in told] == [m.UpdateReceived, m.PartSealed]
    assert [e.client async for e in again if isinstance(e, m.UpdateReceived)] == [ANN, BOB]


async def test_whoever_follows_a_validation_slowly_hears_everything_once(scene: Scene) -> None:
    ann, bob = await scene.attaches(ANN), await scene.attaches(BOB)
    events, again = scene.validates(ANN, BOB), scene.validates(ANN, BOB)
    reported = asyncio.ensure_future(anext(events))
    assert isinstance(await ann.hears(), m.Task)
    ann.reports()
    assert await reported == await anext(again)
    bob.reports()
    assert [type(event) async for event in events] == [m.ModelValidated, m.ValidationSealed]
    assert [type(event) async for event in again] == [m.ModelValidated, m.ValidationSealed]


async def test_a_validation_that_nobody_waits_for_is_cancelled_and_a_check_goes_on(scene: Scene) -> None:
    ann = await scene.attaches(ANN)
    checked = [event async for event in scene.validates(ANN, deadline=0.0, kind=m.TaskKind.CHECK)]
    validated = [event async for event in scene.validates(ANN, deadline=0.0)]
    assert checked == validated == [m.ValidationSealed(0, (ANN,))]
    said = [await ann.hears() for _ in range(3)]
    assert [type(message) for message in said] == [m.Task, m.Task, m.TaskCancelled]
    assert [message.kind for message in said if isinstance(message, m.TaskCancelled)] == [m.TaskKind.VALIDATE]


async def test_who_comes_later_to_a_check_that_is_under_way_is_asked_too(scene: Scene) -> None:
    ann = await scene.attaches(ANN)
    events = scene.validates(ANN)
    waiting = asyncio.ensure_future(anext(events))
    assert isinstance(await ann.hears(), m.Task)
    bob = await scene.attaches(BOB)
    more = scene.validates(BOB)
    later = asyncio.ensure_future(anext(more))
    assert isinstance(await bob.hears(), m.Task)
    bob.reports()
    assert (await later).client == BOB == (await waiting).client
    ann.reports()
    assert [type(event) async for event in more] == [m.ModelValidated, m.ValidationSealed]


async def test_an_ack_that_counts_an_open_part_settles_nobody(scene: Scene) -> None:
    """It can only mean another process's part of that number."""
    ann, _, events = await folded(scene)
    await scene.acks(0)
    assert await ann.hears() == m.Reoffer(S, 1)
    assert await anext(events) == m.RoundAborted(mc.UNCOUNTED)


async def test_an_ack_that_counts_an_unknown_part_settles_nobody(scene: Scene) -> None:
    ann, bob, events = await folded(scene)
    bob.offers()
    assert isinstance(await bob.hears(), m.Receipt)
    assert [type(event) async for event in events] == [m.UpdateReceived, m.PartSealed]
    await scene.acks(7)
    assert [await v.hears() for v in (ann, bob)] == [m.Reoffer(S, 1)] * 2


async def test_an_ack_of_a_round_that_is_not_held_is_remembered_and_no_more(scene: Scene) -> None:
    await scene.acks(0)
    assert [event async for event in scene.runs(ANN)] == [m.RoundAborted("round 1 is committed")]


async def test_a_closed_part_admits_nobody(scene: Scene) -> None:
    _, bob, events = await folded(scene)
    bob.offers()
    assert [type(event) async for event in events] == [m.UpdateReceived, m.PartSealed]
    admit = m.AdmitClient(1, S, 1, 0, ClientId("cat"))
    assert await scene.combiner.admit(admit) == m.AdmitAnswer(admitted=False)


async def test_a_fault_at_the_deadline_ends_the_part_and_is_stated(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else would come to it: the reducer would wait for this part for ever."""
    step = mc.step

    def faulty(state: mc.State, event: ev.Event) -> mc.Outcome:
        if isinstance(event, ev.Tick):
            raise RuntimeError("a bug")
        return step(state, event)

    monkeypatch.setattr(mc, "step", faulty)
    await scene.attaches(ANN)
    async with asyncio.timeout(20):
        told = [event async for event in scene.runs(ANN, deadline=0.1)]
    assert told[1:] == [m.RoundAborted("internal fault: a bug")]


async def test_whose_part_closes_while_its_update_is_checked_is_to_offer_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    check, checking, go_on = PartSum.verify, threading.Event(), threading.Event()

    def slow(data: PartSum, upload: Upload) -> Refused | None:
        checking.set()
        assert go_on.wait(30)
        return check(data, upload)

    async def chunks() -> AsyncIterator[bytes]:
        yield LARGE

    monkeypatch.setattr(PartSum, "verify", slow)
    ann = await scene.attaches(ANN)
    events = scene.runs(ANN, file=LARGE)
    await anext(events)
    assert isinstance(await ann.hears(), m.Task)
    ann.offers(LARGE)
    granted = await ann.hears()
    assert isinstance(granted, m.Granted)
    sending = asyncio.create_task(scene.combiner.submit(granted.grant, 0, chunks()))
    assert await asyncio.to_thread(checking.wait, 30)
    scene.time_is_up()
    assert isinstance(await anext(events), m.PartSealed)
    go_on.set()
    with pytest.raises(NotFound, match="offer the update again"):
        await sending


async def test_a_long_round_tells_where_its_clients_are_and_where_their_time_went(scene: Scene) -> None:
    await scene.attaches(ANN)
    events = scene.runs(ANN, BOB)
    assert isinstance(await anext(events), m.RoundOpened)
    noted = await asyncio.wait_for(anext(events), 20)
    assert isinstance(noted, m.StagesNoted)
    assert {one.client: one.stage for one in noted.clients} == {ANN: "training", BOB: "waiting"}
    bob = await scene.attaches(BOB)
    assert isinstance(await bob.hears(), m.Task)
    bob.offers()
    assert isinstance(await bob.hears(), m.Receipt)
    received = await anext(event async for event in events if isinstance(event, m.UpdateReceived))
    assert set(received.seconds) == set(m.LAPS)
    assert received.seconds["waiting"] > 0
    again = scene.runs(ANN, BOB)
    past = [await anext(again) for _ in range(3)]
    assert [type(event) for event in past] == [m.RoundOpened, m.UpdateReceived, m.StagesNoted]
    assert isinstance(past[-1], m.StagesNoted)
    assert {one.client: one.stage for one in past[-1].clients} == {ANN: "training", BOB: "folded"}


async def test_an_update_that_was_offered_before_its_part_opened_has_no_training_time(scene: Scene) -> None:
    ann = await scene.attaches(ANN)
    ann.offers()
    watching = scene.combiner.watch(m.WatchRequest(PROTOCOL_VERSION, 1))
    await anext(event async for event in watching if isinstance(event, m.ReleaseRequested))
    events = scene.runs(ANN)
    assert isinstance(await anext(events), m.RoundOpened)
    assert isinstance(await ann.hears(), m.Task)
    ann.offers()
    received = await anext(event async for event in events if isinstance(event, m.UpdateReceived))
    assert set(received.seconds) == set(m.LAPS) - {"training"}
