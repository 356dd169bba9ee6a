"""The owner's say over a client of a federation in one event loop: what it does, and what leaves it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_packages import gone, python, running

from fedn.client.ledger import Ledger
from fedn.client.ledger_check import Totals, entries, verify_ledger
from fedn.client.noting import Notes
from fedn.client.owner import PAUSED, Allowed, Owner, pause, resume
from fedn.client.trainer import AppTrainer
from fedn.domain import messages as m
from fedn.domain.errors import LinkBroken
from fedn.domain.hours import parse_hours
from fedn.domain.ids import ClientId
from fedn.ports import PackageInfo
from fedn.testing.federation import Federation

SMALL, LARGE = {"w": np.zeros(4)}, {"w": np.zeros(400_000)}
"""A small model and its updates ride along; a large one is fetched, its updates are uploaded in chunks."""


class App:
    """Counts its rounds; a gate that is shut holds its training up."""

    def __init__(self) -> None:
        self.trained: list[int] = []
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def train(self, model: Any, config: Any) -> Any:
        self.begun.set()
        self.gate.wait(60)
        self.trained.append(config["round"])
        return {name: value + 1 for name, value in model.items()}, 10, {"loss": 0.5}

    def validate(self, model: Any) -> Any:
        return 7, {"mean": float(model["w"].mean())}


class Overheard:
    """A link to a combiner that remembers what is sent on it: messages and bytes of updates."""

    def __init__(self, link: Any, said: list[Any], sent: list[int], break_after: list[int]) -> None:
        self._link, self._said, self._sent, self._break_after = link, said, sent, break_after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)

    def attach(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        return self._link.attach(self._heard(messages))

    async def _heard(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for message in messages:
            self._said.append(message)
            yield message

    def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Any]:
        self._said.append(request)
        return self._link.fetch_model(request)

    async def submit(self, grant: str, offset: int, chunks: AsyncIterator[Any]) -> None:
        await self._link.submit(grant, offset, self._counted(chunks))

    async def _counted(self, chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self._sent.append(0)
        async for chunk in chunks:
            self._sent[-1] += len(chunk)
            yield chunk
            if self._break_after and len(self._sent) == 1 and self._sent[0] >= self._break_after[0]:
                raise LinkBroken("cut for the test")


class One:
    """The client of these tests, with its folder, its ledger, and what was overheard."""

    def __init__(self, client: Any, app: App, folder: Path) -> None:
        self.client, self.app = client, app
        self.paused = folder / "paused.json"
        self.ledger = folder / "ledger"
        self.said: list[Any] = []
        self.sent: list[int] = []
        self.break_after: list[int] = []
        client._notes = Notes(Ledger(self.ledger), "http://reducer")
        client._owner = Owner(paused=self.paused)
        dial = client._dial
        client._dial = lambda *to: Overheard(dial(*to), self.said, self.sent, self.break_after)

    def of(self, *kinds: type) -> list[Any]:
        return [message for message in self.said if isinstance(message, kinds)]

    def noted(self, *what: str) -> list[Any]:
        return [entry for entry in entries(self.ledger) if entry.what in what]


async def grow(federation: Federation, others: int = 1, **allowed: Any) -> One:
    """A combiner, the client of the test, and others that are allowed everything."""
    await federation.add_combiner("combiner-1")
    await federation.story.until("network_changed", combiners=1)
    app = App()
    one = One(await federation.add_client("client-1", app), app, federation._directory / "client-1")
    one.client._owner = Owner(Allowed(**allowed), one.paused)
    for number in range(others):
        await federation.add_client(f"client-{number + 2}", App())
    return one


def contributors(federation: Federation, session: Any, number: int) -> list[str]:
    return sorted(c.client for c in federation.state.record(session, number).record.contributors)


async def until(ready: Any) -> None:
    async with asyncio.timeout(30):
        while not ready():
            await asyncio.sleep(0.02)


# --- what leaves is in the ledger ------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "break_after"), [(SMALL, None), (LARGE, None), (LARGE, 2**20)])
async def test_the_ledger_says_what_was_overheard(tmp_path: Path, seed: Any, break_after: int | None) -> None:
    async with Federation(tmp_path) as federation:
        one = await grow(federation)
        if break_after:
            one.break_after.append(break_after)
        info = await federation.start_session(seed, rounds=2, min_clients=2)
        await federation.story.until("session_finished")
        await federation.story.until("round_validated", round=2)

        report, totals = verify_ledger(one.ledger), Totals()
        assert report.ok
        for entry in entries(one.ledger):
            totals.add(entry)
        offers, reports = one.of(m.UpdateOffered), one.of(m.ModelValidated)
        assert [e.digest for e in one.noted("update_offered")] == [o.header.digest for o in offers]
        assert len(one.noted("hello_said")) == len(one.of(m.Hello)) == 1
        assert len(one.noted("file_asked")) == len(one.of(m.FetchRequest))
        said = [(e.round, e.details["examples"], e.details["metrics"]) for e in
                one.noted("validation_reported", "check_reported")]  # fmt: skip
        assert said == [(r.round, r.examples, dict(r.metrics)) for r in reports]
        inline = sum(len(offer.inline) for offer in offers)
        assert totals.update_size == inline + sum(one.sent)
        assert bool(sum(one.sent)) == (seed is LARGE)
        assert len(one.noted("upload_broken")) == bool(break_after)
        mine = [
            contributor.digest
            for number in (1, 2)
            for contributor in federation.state.record(info.session, number).record.contributors
            if contributor.client == "client-1"
        ]
        assert totals.updates == set(mine)
        assert {(e.to, e.address) for e in one.noted("update_offered")} == {("combiner-1", "combiner-1")}
        for entry in one.noted("update_offered"):
            assert entry.details["metrics"].keys() == {"loss", "train_seconds"}
        [asked] = one.noted("combiner_asked")
        assert (asked.to, asked.address) == ("reducer", "http://reducer")


@pytest.mark.parametrize("seed", [SMALL, LARGE], ids=["inline", "uploaded"])
async def test_no_update_leaves_that_can_not_be_noted_and_beats_go_on(tmp_path: Path, seed: Any) -> None:
    async with Federation(tmp_path) as federation:
        one = await grow(federation)
        one.app.gate.clear()
        info = await federation.start_session(seed, rounds=1, min_clients=2, validate=False)
        await federation.story.until("working", kind="train")
        ledger, kept = one.ledger, tmp_path / "kept"
        one.client._notes._ledger.close()  # it opens a new file, for which there is no room
        ledger.rename(kept)
        one.app.gate.set()
        waits = await federation.story.until("waiting")
        while "ledger" not in waits["reason"]:
            waits = await federation.story.until("waiting", count=len(federation.story.named("waiting")) + 1)
        assert str(ledger) in waits["reason"]
        assert one.of(m.UpdateOffered) == []
        assert one.sent == []
        beats = len(one.of(m.Beat))
        one.client._send(m.Beat())
        await until(lambda: len(one.of(m.Beat)) > beats)
        kept.rename(ledger)
        await federation.story.until("session_finished")
        assert contributors(federation, info.session, 1) == ["client-1", "client-2"]
        assert verify_ledger(ledger).ok


# --- what is not allowed ---------------------------------------------------------------------------


async def test_a_session_that_is_not_allowed_goes_on_without_this_client(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        one = await grow(federation, sessions=["s-other*"])
        await federation.story.until("network_changed", clients=2)
        info = await federation.start_session(SMALL, rounds=1, min_clients=1, validate=False)
        unfit = await federation.story.until("client_unfit", client="client-1")
        assert unfit["reason"] == f"this client's owner does not allow session {info.session} (sessions)"
        await federation.story.until("session_finished")
        assert contributors(federation, info.session, 1) == ["client-2"]
        assert one.app.trained == []
        assert [e.details["reason"] for e in one.noted("failure_told")] == [unfit["reason"]]


async def test_a_task_is_refused_even_if_nobody_has_checked(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        await grow(federation, sessions=["s-other*"])
        await federation.story.until("network_changed", clients=2)
        plan = {"rounds": 1, "min_clients": 1, "validate": False, "check": False}
        info = await federation.start_session(SMALL, **plan)
        await federation.story.until("session_finished")
        [absence] = federation.state.record(info.session, 1).record.refused
        assert (absence.client, "(sessions)" in absence.reason) == ("client-1", True)


async def test_an_update_of_a_session_that_is_not_allowed_any_more_is_dropped_at_the_start(
    tmp_path: Path,
) -> None:
    async with Federation(tmp_path) as federation:
        one = await grow(federation)
        federation.clients["client-2"]._trainer._app.gate.clear()
        info = await federation.start_session(SMALL, rounds=1, min_clients=2, validate=False)
        await until(one.client._journal.held)
        await federation.stop_client("client-1")
        again = One(await federation.add_client("client-1", one.app), one.app, tmp_path / "client-1")
        again.client._owner = Owner(Allowed(sessions=["s-other*"]))
        await federation.story.until("attached", count=3)
        assert again.of(m.UpdateOffered) == again.client._journal.held() == []
        assert federation.state.session(info.session).head.round == 0
        federation.clients["client-2"]._trainer._app.gate.set()


# --- away ------------------------------------------------------------------------------------------


async def test_a_pause_lets_what_was_begun_end_and_nobody_waits_for_this_client_then(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        one = await grow(federation)
        one.app.gate.clear()
        await federation.story.until("network_changed", clients=2)
        info = await federation.start_session(SMALL, rounds=2, min_clients=1, validate=False)
        await asyncio.to_thread(one.app.begun.wait, 30)
        pause(one.paused, 0.0, now=False)
        await federation.story.until("leaving", reason=PAUSED)
        one.app.gate.set()
        await federation.story.until("away", reason=PAUSED)
        await federation.story.until("session_finished")
        assert contributors(federation, info.session, 1) == ["client-1", "client-2"]
        assert one.app.trained == [1]
        assert one.client._journal.held() == []
        assert not one.client._state.under_way

        resume(one.paused)
        await federation.story.until("back")
        await federation.story.until("attached", count=3)
        again = await federation.start_session(SMALL, rounds=1, min_clients=2, validate=False)
        await federation.story.until("session_finished", count=2)
        assert contributors(federation, again.session, 1) == ["client-1", "client-2"]


async def test_who_can_not_wait_leaves_at_once_and_drops_what_was_at_work(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        one = await grow(federation)
        one.app.gate.clear()
        await federation.story.until("network_changed", clients=2)
        info = await federation.start_session(SMALL, rounds=1, min_clients=1, validate=False)
        await asyncio.to_thread(one.app.begun.wait, 30)
        pause(one.paused, 0.0, now=True)
        await federation.story.until("session_finished")
        [absence] = federation.state.record(info.session, 1).record.refused
        assert (absence.client, absence.reason) == ("client-1", f"training failed: {PAUSED}")
        one.app.gate.set()
        await until(lambda: one.client._state.slot is None and one.client._journal.held() == [])


async def test_a_round_that_needs_every_client_goes_on_when_a_paused_one_is_back(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        one = await grow(federation)
        one.app.gate.clear()
        await federation.story.until("network_changed", clients=2)
        info = await federation.start_session(SMALL, rounds=1, min_clients=2, validate=False)
        await asyncio.to_thread(one.app.begun.wait, 30)
        pause(one.paused, 0.0, now=True)
        await federation.story.until("away", reason=PAUSED)
        why = f"(client-1: training failed: {PAUSED})"
        await federation.story.until("waiting", reason=f"1 of 2 updates; waiting for more clients {why}")
        one.app.gate.set()
        resume(one.paused)
        await federation.story.until("session_finished")
        assert contributors(federation, info.session, 1) == ["client-1", "client-2"]


async def test_it_leaves_when_its_hours_end_and_comes_back_when_they_begin(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        one = await grow(federation, others=0)
        clock = ["2026-11-20T05:59"]
        hours = parse_hours("hours", "20:00-06:00")
        one.client._owner = Owner(Allowed(hours=hours), clock=lambda: datetime.fromisoformat(clock[0]))
        await federation.story.until("attached")
        clock[0] = "2026-11-20T06:00"
        seen = await federation.story.until("away")
        assert seen["reason"] == "this client takes part at 20:00-06:00 only"
        await federation.story.until("network_changed", count=2, clients=0)
        clock[0] = "2026-11-20T20:00"
        await federation.story.until("attached", count=2)


async def test_a_pause_that_ends_before_the_client_has_left_changes_nothing(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        one = await grow(federation)
        one.app.gate.clear()
        await federation.story.until("network_changed", clients=2)
        info = await federation.start_session(SMALL, rounds=2, min_clients=2, validate=False)
        await asyncio.to_thread(one.app.begun.wait, 30)
        pause(one.paused, 0.0, now=False)
        await federation.story.until("leaving")
        resume(one.paused)
        await until(lambda: not one.client._state.away)
        one.app.gate.set()
        await federation.story.until("session_finished")
        assert contributors(federation, info.session, 2) == ["client-1", "client-2"]
        assert federation.story.named("away") == []


# --- what nobody waits for -------------------------------------------------------------------------


class Stoppable(AppTrainer):
    """An app whose training can be ended from outside."""

    def cancel(self, task: m.Task) -> None:
        self._app.stopped.append((task.session, task.round, task.kind))
        self._app.gate.set()


async def test_a_training_whose_session_has_ended_is_stopped(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        one = await grow(federation)
        one.app.stopped = []
        one.client._trainer = Stoppable(one.app, ClientId("client-1"))
        one.app.gate.clear()
        await federation.story.until("network_changed", clients=2)
        info = await federation.start_session(SMALL, rounds=1, min_clients=2, validate=False)
        await asyncio.to_thread(one.app.begun.wait, 30)
        await federation.reducer.stop_session(info.session)
        await until(lambda: one.app.stopped)
        assert one.app.stopped == [(info.session, 1, m.TaskKind.TRAIN)]
        await until(lambda: one.client._state.slot is None)
        assert one.of(m.UpdateOffered) == []


NEVER = """
import time

def train(model, data, config):
    time.sleep(600)
"""


async def test_who_can_not_wait_has_the_processes_of_a_package_ended(tmp_path: Path) -> None:
    package = python(NEVER, "train")
    with running(tmp_path / "package", "x") as runner:
        async with Federation(tmp_path) as federation:
            await federation.add_combiner("combiner-1")
            digest, size = federation.models.put([package.archive])
            federation.state.add_package(PackageInfo(digest, size, "never", {}, 0.0))
            client = await federation.run_client("client-1", runner.trainer)
            paused = tmp_path / "paused.json"
            client._owner = Owner(paused=paused)
            await federation.story.until("network_changed", clients=1)
            plan = {"rounds": 1, "package": digest, "check": False, "validate": False}
            await federation.start_session(SMALL, **plan)
            await federation.story.until("working", kind="train", seconds=60.0)
            await until(lambda: runner.workers)
            pause(paused, 0.0, now=True)
            await federation.story.until("away")
            await until(lambda: gone(runner.workers[0]))
