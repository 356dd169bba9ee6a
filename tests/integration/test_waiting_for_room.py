"""A client without room for what it trained: it waits, trains once, and knows when to stop waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np

from fedn.client.journal import FileJournal
from fedn.stores.cache import file_cache
from fedn.testing.federation import Federation

SEED = {"w": np.zeros(4)}


class Counting:
    def __init__(self) -> None:
        self.trained: list[int] = []

    def train(self, model: Any, config: Any) -> Any:
        self.trained.append(config["round"])
        return model, 10


async def grow(federation: Federation, clients: int) -> list[Counting]:
    apps = [Counting() for _ in range(clients)]
    await federation.add_combiner("combiner-1")
    await federation.story.until("network_changed", combiners=1)
    for number, app in enumerate(apps, 1):
        await federation.add_client(f"client-{number}", app)
    await federation.story.until("network_changed", clients=clients)
    return apps


def reasons(federation: Federation) -> list[str]:
    return [fields["reason"] for fields in federation.story.named("waiting")]


async def test_what_was_trained_is_kept_until_the_disk_takes_it(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        [app] = await grow(federation, clients=1)
        journal = tmp_path / "client-1" / "journal"
        journal.rmdir()
        await federation.start_session(SEED, rounds=1, validate=False, check=False)
        seen = await federation.story.until("waiting")
        assert str(journal) in seen["reason"]
        journal.mkdir()
        await federation.story.until("session_finished")
        assert app.trained == [1]
        assert len(reasons(federation)) == 1


async def test_a_model_that_the_disk_does_not_take_is_asked_for_again(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        [app] = await grow(federation, clients=1)
        cache = tmp_path / "models"
        federation.clients["client-1"]._models = file_cache(cache, keep=2, in_memory=0)
        cache.rmdir()
        await federation.start_session({"w": np.zeros(20_000)}, rounds=1, validate=False, check=False)
        seen = await federation.story.until("waiting")
        assert str(cache) in seen["reason"]
        cache.mkdir()
        await federation.story.until("session_finished")
        assert app.trained == [1]


async def test_nobody_waits_for_room_any_longer_than_the_round_is_wanted(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, clients=2)
        journal = tmp_path / "client-1" / "journal"
        journal.rmdir()
        info = await federation.start_session(
            SEED, rounds=12, min_clients=1, round_deadline=1.0, validate=False, check=False
        )
        await federation.story.until("settled", round=1, counted=False)
        await federation.story.until("waiting", count=2)  # the second time for an update of a later round
        journal.mkdir()
        await federation.story.until("session_finished", seconds=40.0)
        assert apps[0].trained == sorted(set(apps[0].trained))
        first = federation.state.record(info.session, 1).record
        assert [c.client for c in first.contributors] == ["client-2"]


async def test_nor_than_its_session_lasts(tmp_path: Path) -> None:
    """No later task says that the last round is over."""
    async with Federation(tmp_path) as federation:
        await grow(federation, clients=2)
        client, journal = federation.clients["client-1"], tmp_path / "client-1" / "journal"
        journal.rmdir()
        await federation.start_session(
            SEED, rounds=1, min_clients=1, round_deadline=1.0, validate=False, check=False
        )
        await federation.story.until("settled", counted=False)
        async with asyncio.timeout(15):
            while client._state.slot:
                await asyncio.sleep(0.01)
        assert client._hindrance == ""
        journal.mkdir()
        assert list(client._journal.held()) == []


async def test_an_update_that_can_never_fit_fails_with_its_reason(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        await grow(federation, clients=2)
        federation.clients["client-1"]._journal = FileJournal(tmp_path / "narrow", limit=50)
        info = await federation.start_session(SEED, rounds=1, min_clients=1, validate=False, check=False)
        await federation.story.until("session_finished")
        [absence] = federation.state.record(info.session, 1).record.refused
        assert absence.client == "client-1"
        assert "journal_bytes" in absence.reason
