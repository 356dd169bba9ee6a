"""The deadline of a part comes while updates are on their way: whoever is late hears how it ended.

In every session here the round is the last one, so that no later task tells anybody that it is over.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.client.driver import Client
from fedn.combiner import events as ev
from fedn.combiner import machine as mc
from fedn.combiner.driver import Combiner
from fedn.combiner.runs import RoundRun
from fedn.combiner.staging import PartSum, Upload
from fedn.domain.errors import Refused
from fedn.domain.update import UpdateHeader
from fedn.ports import Buffer
from fedn.reducer.driver import SessionDriver
from fedn.reducer.intake import Intake
from fedn.testing.federation import Federation

SMALL, LARGE = {"w": np.zeros(4)}, {"w": np.zeros(300_000)}
"""One rides along with its offer, the other is sent in several chunks."""
LATE = "client-2"


class App:
    """Adds one, once its gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.trained = 0

    def train(self, model: Any, config: Any) -> Any:
        assert self.gate.wait(30)
        self.trained += 1
        return {name: value + 1 for name, value in model.items()}, 10

    def validate(self, model: Any) -> Any:
        return {}


async def begun(
    federation: Federation, seed: Any, min_clients: int, clients: int = 2
) -> tuple[Combiner, list[App]]:
    """A round, its clients at work, and the first one's update folded."""
    combiner = await federation.add_combiner("combiner-1")
    apps = [App() for _ in range(clients)]
    for number, app in enumerate(apps, 1):
        await federation.add_client(f"client-{number}", app)
    await federation.story.until("network_changed", clients=clients)
    await federation.start_session(seed, rounds=1, min_clients=min_clients, validate=False)
    apps[0].gate.set()
    await federation.story.until("update_received", client="client-1")
    return combiner, apps


def time_is_up(combiner: Combiner) -> None:
    """For the part that was opened last."""
    run = list(combiner._parts)[-1]
    combiner._decide(run, ev.Tick(run.state.ledger.closes_at))


def parts(federation: Federation) -> dict[int, list[str]]:
    [session] = federation.state.sessions()
    record = federation.state.record(session.session, 1).record
    return {part.part: [c.client for c in part.contributors] for part in record.parts}


async def not_counted(federation: Federation) -> None:
    """The late one is told so, and deletes its copy."""
    end = await federation.story.until("settled", counted=False)
    assert end["reason"] == "upload not complete by the deadline"
    assert list(federation.clients[LATE]._journal.held()) == []
    assert parts(federation) == {0: ["client-1"]}


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """The late one stops after the first chunk: (it is there, it may go on)."""
    there, go_on, chunks = asyncio.Event(), asyncio.Event(), Client._chunks

    async def slow(client: Client, header: UpdateHeader, offset: int) -> AsyncIterator[Buffer]:
        async for chunk in chunks(client, header, offset):
            yield chunk
            if header.client == LATE:
                there.set()
                await go_on.wait()

    monkeypatch.setattr(Client, "_chunks", slow)
    return there, go_on


@pytest.fixture
def checking(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """The second update that is checked stays in the check: (it is there, it may go on)."""
    right, seen = PartSum.verify, list[Upload]()
    there, go_on = threading.Event(), threading.Event()

    def slow(data: PartSum, upload: Upload) -> Refused | None:
        seen.append(upload)
        if len(seen) == 2:
            there.set()
            assert go_on.wait(30)
        return right(data, upload)

    monkeypatch.setattr(PartSum, "verify", slow)
    return there, go_on


async def test_an_update_of_which_all_bytes_are_there_is_looked_up(
    tmp_path: Path, checking: tuple[threading.Event, threading.Event]
) -> None:
    there, go_on = checking
    async with Federation(tmp_path) as federation:
        combiner, (_, late) = await begun(federation, LARGE, min_clients=1)
        late.gate.set()
        assert await asyncio.to_thread(there.wait, 30)
        time_is_up(combiner)
        await federation.story.until("round_committed")
        await not_counted(federation)
        go_on.set()


async def test_an_update_that_came_along_with_its_offer_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Federation(tmp_path) as federation:
        combiner, (_, late) = await begun(federation, SMALL, min_clients=1)
        take = combiner._intake.take

        async def too_late(run: RoundRun, upload: Upload, inline: bytes) -> None:
            time_is_up(combiner)
            await take(run, upload, inline)

        monkeypatch.setattr(combiner._intake, "take", too_late)
        late.gate.set()
        await federation.story.until("round_committed")
        await not_counted(federation)


async def test_an_upload_that_never_ends_holds_up_no_round_that_has_its_quorum(
    tmp_path: Path, sending: tuple[asyncio.Event, asyncio.Event]
) -> None:
    there, _ = sending
    async with Federation(tmp_path) as federation:
        combiner, (_, late) = await begun(federation, LARGE, min_clients=1)
        late.gate.set()
        await there.wait()
        time_is_up(combiner)
        await federation.story.until("round_committed")
        await not_counted(federation)


async def test_nor_one_that_is_offered_again_while_its_part_is_fetched(
    tmp_path: Path, sending: tuple[asyncio.Event, asyncio.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is too slow each time would have the round wait for one deadline after another."""
    there, go_on = sending
    offered, fetch, requested = asyncio.Event(), Intake.fetch, SessionDriver.release_requested

    async def fetch_later(intake: Intake, *part: Any) -> bool:
        await offered.wait()
        return await fetch(intake, *part)

    def hear(session: SessionDriver, *offer: Any) -> None:
        requested(session, *offer)
        offered.set()

    monkeypatch.setattr(Intake, "fetch", fetch_later)
    monkeypatch.setattr(SessionDriver, "release_requested", hear)
    async with Federation(tmp_path) as federation:
        combiner, (_, late) = await begun(federation, LARGE, min_clients=1)
        late.gate.set()
        await there.wait()
        time_is_up(combiner)
        go_on.set()
        await federation.story.until("round_committed")
        await not_counted(federation)


async def test_below_the_quorum_an_update_that_came_too_late_counts_in_the_next_part(
    tmp_path: Path, checking: tuple[threading.Event, threading.Event]
) -> None:
    there, go_on = checking
    async with Federation(tmp_path) as federation:
        combiner, (first, late) = await begun(federation, LARGE, min_clients=2)
        late.gate.set()
        assert await asyncio.to_thread(there.wait, 30)
        time_is_up(combiner)
        go_on.set()
        await federation.story.until("settled", count=2, counted=True)
        assert parts(federation) == {0: ["client-1"], 1: [LATE]}
        assert (first.trained, late.trained) == (1, 1)


async def test_a_restarted_reducer_keeps_the_part_in_which_a_late_one_counts(tmp_path: Path) -> None:
    """The late one is lost in part 0, and folded in part 1."""
    async with Federation(tmp_path) as federation:
        combiner, apps = await begun(federation, SMALL, min_clients=3, clients=3)
        time_is_up(combiner)
        apps[1].gate.set()
        await federation.story.until("update_received", client=LATE)
        await federation.stop_reducer()
        assert [type(run.state) for run in combiner._parts] == [mc.Sealed, mc.Open]
        await federation.start_reducer()
        apps[2].gate.set()
        await federation.story.until("session_finished")
        assert parts(federation) == {0: ["client-1"], 1: [LATE, "client-3"]}
        assert [app.trained for app in apps] == [1, 1, 1]
