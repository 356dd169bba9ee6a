"""A combiner is emptied: its clients go elsewhere, rounds go on, nobody trains twice, and it stays empty."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from federations import names, running
from test_in_process import SEED, contributors, grow, outcome, weighted

from fedn.domain.errors import Conflict, NotFound
from fedn.domain.ids import CombinerName
from fedn.testing.federation import Federation

ONE, TWO = CombinerName("combiner-1"), CombinerName("combiner-2")


def clients(federation: Federation, combiner: str) -> list[str]:
    return sorted(info.client for info in federation.combiners[combiner]._clients)


def told(federation: Federation, combiner: str, how: str) -> list[str]:
    """Of whom it was told."""
    changes = [f for f in federation.story.named("clients_changed") if f["combiner"] == combiner]
    return sorted(name for fields in changes for name in fields[how])


async def until(ready: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not ready():
            await asyncio.sleep(0.01)


async def test_clients_of_an_open_round_leave_and_nobody_trains_twice(tmp_path: Path) -> None:
    """One has been folded there, one trains meanwhile, one is elsewhere already."""
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=2, clients=3, closed=True)
        before = clients(federation, ONE)
        assert before, "nobody is there to move"
        await until(lambda: told(federation, ONE, "attached") == before)
        info = await federation.start_session(SEED, rounds=2, min_clients=3, check=False)
        await federation.story.until("round_opened")
        first = int(before[0].removeprefix("client-")) - 1
        apps[first].gate.set()
        await federation.story.until("update_received", client=before[0])
        await federation.reducer.drain(ONE)
        drained = await federation.story.until("combiner_draining", combiner=ONE)
        assert (sorted(drained["clients"]), drained["count"]) == (before, len(before))
        await until(lambda: len(clients(federation, TWO)) == 3)
        await until(lambda: told(federation, TWO, "moved") == before)
        for app in apps:
            app.gate.set()
        await federation.story.until("session_finished")
        assert [app.trained for app in apps] == [[1, 2]] * 3
        assert outcome(federation, info.session) == pytest.approx(2 * weighted(apps), rel=1e-12)
        assert contributors(federation, info.session, 2) == ["client-1", "client-2", "client-3"]


async def test_it_stays_empty_through_restarts_until_it_is_undrained(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        await grow(federation, combiners=2, clients=2)
        await federation.reducer.drain(ONE)
        await federation.reducer.drain(ONE)
        assert len(federation.story.named("combiner_draining")) == 1
        await until(lambda: len(clients(federation, TWO)) == 2)
        await federation.stop_reducer()
        await federation.start_reducer()
        await federation.kill_combiner(ONE)
        await federation.add_combiner(ONE)
        await until(lambda: federation.combiners[ONE]._entrance.draining)  # told anew
        assert (await federation.reducer.assign("late", ONE, "")).combiner == TWO  # type: ignore[arg-type]
        with pytest.raises(
            Conflict, match="no other combiner is live that could take the clients of combiner-2"
        ):
            await federation.reducer.drain(TWO)
        await federation.reducer.undrain(ONE)
        await federation.story.until("combiner_undrained", combiner=ONE)
        await until(lambda: not federation.combiners[ONE]._entrance.draining)
        assert (await federation.reducer.assign("late", ONE, "")).combiner == ONE  # type: ignore[arg-type]
        with pytest.raises(NotFound, match="no combiner 'combiner-9'"):
            await federation.reducer.drain(CombinerName("combiner-9"))


def test_a_combiner_process_is_drained_during_a_session_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, monkeypatch, combiners=2, clients=3) as federation:
        reducer = federation.reducer
        for index in range(3):
            federation.sandbox.start_client(index, *(["--share-log"] if index == 0 else []))
        federation.attached(3)
        full = max((ONE, TWO), key=lambda name: len(federation.clients_at(name)))
        other = ONE if full == TWO else TWO
        there = federation.clients_at(full)
        session = federation.start(rounds=3, min_clients=3)
        federation.until(lambda: federation.session(session)["progress"].get("expected") == 3)
        shown = reducer.post(f"/combiners/{full}/drain")
        assert shown["draining"]
        assert {one["name"] for one in shown["had"]["clients"]} == there
        federation.until(lambda: len(federation.clients_at(other)) == 3)
        (drained,) = [c for c in reducer.get("/network")["combiners"] if c["combiner"] == full]
        assert (drained["live"], drained["draining"], drained["clients"]) == (True, True, [])
        assert drained["had"]["moved"] == {other: len(there)}
        federation.open_gate()
        federation.until(lambda: federation.session(session)["head"]["round"] >= 1)
        assert any("is up" in line["text"] for line in reducer.get(f"/combiners/{full}")["log"])
        federation.sandbox.kill(full)
        federation.finished(session)
        assert [names(record) for record in federation.records(session)[1:]] == [
            ["client-1", "client-2", "client-3"]
        ] * 3
        assert [federation.trained(index) for index in range(3)] == [[1, 2, 3]] * 3
        client = drained["had"]["clients"][0]["client"]
        federation.until(lambda: (one := reducer.get(f"/clients/{client}"))["sent"] and one["received"])
        one = reducer.get(f"/clients/{client}")
        assert one["combiner"] == other
        shared = {c["name"]: f"/clients/{c['client']}" for c in reducer.get("/clients")["clients"]}
        federation.until(lambda: reducer.get(shared["client-1"])["log"])
        assert reducer.get(shared["client-2"])["log"] == []
        assert one["host"]["cpus"] > 0
        assert one["sessions"][0]["rounds"] == 3
