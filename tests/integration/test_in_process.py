"""A whole federation in one process: the real machines and drivers, no sockets."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.combiner.limits import Limits as CombinerLimits
from fedn.domain.errors import Conflict, Unavailable
from fedn.domain.ids import Incarnation
from fedn.domain.messages import RoundAborted
from fedn.domain.round import RoundSpec
from fedn.reducer.federation import Limits as ReducerLimits
from fedn.stores.trail import verify_trail
from fedn.testing.federation import Federation

SEED = {"w": np.zeros(4), "b": np.ones((2, 3), dtype=np.float32)}


class AddNumber:
    """Adds its number to every element, with weight 10 · number; waits for its gate first."""

    def __init__(self, number: int, closed: bool = False) -> None:
        self.number = number
        self.trained: list[int] = []
        self.gate = threading.Event()
        if not closed:
            self.gate.set()

    def train(self, model: Any, config: Any) -> Any:
        assert self.gate.wait(30)
        self.trained.append(config["round"])
        return {k: v + self.number for k, v in model.items()}, 10 * self.number, {"loss": 1.0 / self.number}

    def validate(self, model: Any) -> Any:
        return 5, {"mean": float(model["w"].mean())}


class Broken:
    def train(self, model: Any, config: Any) -> Any:
        raise RuntimeError("the scanner is on fire")

    def validate(self, model: Any) -> Any:
        raise RuntimeError("still burning")


async def grow(federation: Federation, combiners: int, clients: int, closed: bool = False) -> list[AddNumber]:
    """Clients 1, 3, … prefer combiner-1, clients 2, 4, … combiner-2 (if there are two)."""
    apps = [AddNumber(i + 1, closed) for i in range(clients)]
    for i in range(combiners):
        await federation.add_combiner(f"combiner-{i + 1}")
    await federation.story.until("network_changed", combiners=combiners)
    for i, app in enumerate(apps):
        await federation.add_client(f"client-{i + 1}", app, f"combiner-{i % combiners + 1}")
    await federation.story.until("network_changed", combiners=combiners, clients=clients)
    return apps


def weighted(apps: list[AddNumber]) -> float:
    return sum(10 * a.number * a.number for a in apps) / sum(10 * a.number for a in apps)


def contributors(federation: Federation, session: Any, number: int) -> list[str]:
    return sorted(c.client for c in federation.state.record(session, number).record.contributors)


def outcome(federation: Federation, session: Any) -> float:
    """The first element of the newest model, after checking the whole trail."""
    assert verify_trail(federation.state, federation.models, session).ok
    return float(federation.tensors(federation.state.session(session).head.model)["w"][0])


async def test_rounds_average_by_examples_over_two_combiners(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=2, clients=5)
        info = await federation.start_session(SEED, rounds=3, min_clients=5)
        await federation.story.until("session_finished")
        step = weighted(apps)
        assert outcome(federation, info.session) == pytest.approx(3 * step, rel=1e-12)
        assert [app.trained for app in apps] == [[1, 2, 3]] * 5
        validated = federation.story.named("round_validated")
        assert [v["metrics"]["mean"] for v in validated] == pytest.approx([step, 2 * step, 3 * step])


async def test_simple_averaging_counts_every_combiner_the_same(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=2, clients=3)
        info = await federation.start_session(SEED, rounds=1, min_clients=3, averaging="simple")
        await federation.story.until("session_finished")
        expected = (weighted([apps[0], apps[2]]) + weighted([apps[1]])) / 2
        assert outcome(federation, info.session) == pytest.approx(expected, rel=1e-12)


async def test_a_client_whose_code_fails_is_named_and_the_round_goes_on(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        await grow(federation, combiners=1, clients=1)
        await federation.add_client("broken", Broken())
        await federation.story.until("network_changed", clients=2)
        info = await federation.start_session(SEED, rounds=1, check=False)
        await federation.story.until("session_finished")
        [absence] = federation.state.record(info.session, 1).record.refused
        assert absence.client == "broken"
        assert "raised RuntimeError" in absence.reason
        assert "scanner" not in absence.reason


async def test_a_round_that_misses_its_quorum_waits_says_why_and_goes_on(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=1, clients=1)
        await federation.add_client("broken", Broken())
        await federation.story.until("network_changed", clients=2)
        info = await federation.start_session(SEED, rounds=1, min_clients=2, check=False)
        waiting = await federation.story.until("waiting", session=info.session)
        assert waiting["reason"].startswith(
            "1 of 2 updates; waiting for more clients (broken: training failed"
        )
        await federation.add_client("client-2", AddNumber(2))
        await federation.story.until("session_finished")
        assert contributors(federation, info.session, 1) == ["client-1", "client-2"]
        assert apps[0].trained == [1]


async def test_sessions_run_side_by_side(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=2, clients=4)
        infos = [await federation.start_session(SEED, rounds=4, min_clients=4) for _ in range(3)]
        await federation.story.until("session_finished", count=3)
        for info in infos:
            assert outcome(federation, info.session) == pytest.approx(4 * weighted(apps), rel=1e-12)
        assert all(sorted(app.trained) == sorted([1, 2, 3, 4] * 3) for app in apps)


async def test_a_stopped_session_keeps_its_rounds_and_frees_its_clients(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=1, clients=2, closed=True)
        info = await federation.start_session(SEED, rounds=5, min_clients=2)
        apps[0].gate.set()
        await federation.story.until("update_received")
        stopped = await federation.reducer.stop_session(info.session)
        assert (stopped.state, stopped.head.round) == ("cancelled", 0)
        apps[1].gate.set()
        again = await federation.start_session(SEED, rounds=1, min_clients=2)
        await federation.story.until("session_finished", session=again.session)
        assert outcome(federation, again.session) == pytest.approx(weighted(apps))


async def test_at_most_max_clients_take_part(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        await grow(federation, combiners=2, clients=5)
        info = await federation.start_session(SEED, rounds=6, max_clients=2, seed=7)
        await federation.story.until("session_finished")
        chosen = [contributors(federation, info.session, number) for number in range(1, 7)]
        assert all(len(names) == 2 for names in chosen)
        assert len({tuple(names) for names in chosen}) > 1


async def test_a_late_client_joins_the_next_round(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        [first] = await grow(federation, combiners=1, clients=1, closed=True)
        info = await federation.start_session(SEED, rounds=2)
        await federation.story.until("round_opened")
        await federation.add_client("client-2", AddNumber(2))
        await federation.story.until("network_changed", clients=2)
        first.gate.set()
        await federation.story.until("session_finished")
        assert contributors(federation, info.session, 1) == ["client-1"]
        assert contributors(federation, info.session, 2) == ["client-1", "client-2"]


async def test_a_dead_combiners_clients_move_and_nobody_trains_or_counts_twice(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=2, clients=4, closed=True)
        info = await federation.start_session(SEED, rounds=2, min_clients=4)
        apps[0].gate.set()
        await federation.story.until("update_received", client="client-1")
        await federation.kill_combiner("combiner-1")
        for app in apps:
            app.gate.set()
        await federation.story.until("session_finished")
        assert [app.trained for app in apps] == [[1, 2]] * 4
        assert len(contributors(federation, info.session, 1)) == 4
        assert outcome(federation, info.session) == pytest.approx(2 * weighted(apps), rel=1e-12)


async def test_a_combiner_that_was_only_out_of_reach_is_fenced_and_taken_back(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=2, clients=4, closed=True)
        info = await federation.start_session(SEED, rounds=1, min_clients=4)
        apps[0].gate.set()
        await federation.story.until("update_received", client="client-1")
        away = federation.combiners.pop("combiner-1")
        federation.cut("combiner-1")
        await federation.story.until("combiner_lost", combiner="combiner-1")
        federation.combiners["combiner-1"] = away  # the same process, its sums intact
        await federation.story.until("network_changed", count=2, combiners=2)
        for app in apps:
            app.gate.set()
        await federation.story.until("session_finished")
        assert [app.trained for app in apps] == [[1]] * 4
        assert contributors(federation, info.session, 1) == [f"client-{n}" for n in range(1, 5)]
        assert outcome(federation, info.session) == pytest.approx(weighted(apps), rel=1e-12)


async def test_a_combiner_restarted_under_its_old_name_gets_the_updates_again(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=1, clients=3, closed=True)
        info = await federation.start_session(SEED, rounds=2, min_clients=3)
        apps[0].gate.set()
        apps[1].gate.set()
        await federation.story.until("update_received", count=2)
        await federation.kill_combiner("combiner-1")
        await federation.add_combiner("combiner-1")
        apps[2].gate.set()
        await federation.story.until("session_finished")
        assert [app.trained for app in apps] == [[1, 2]] * 3
        assert outcome(federation, info.session) == pytest.approx(2 * weighted(apps), rel=1e-12)


async def test_a_restarted_reducer_goes_on_with_the_open_round(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=2, clients=4, closed=True)
        info = await federation.start_session(SEED, rounds=3, min_clients=4)
        apps[0].gate.set()
        await federation.story.until("update_received", client="client-1")
        await federation.stop_reducer()
        for app in apps:
            app.gate.set()
        await federation.start_reducer()
        await federation.story.until("session_finished")
        assert [app.trained for app in apps] == [[1, 2, 3]] * 4
        assert federation.state.record(info.session, 3).record.term == 2
        assert outcome(federation, info.session) == pytest.approx(3 * weighted(apps), rel=1e-12)


async def test_a_client_that_changes_combiner_counts_where_it_was_folded(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=2, clients=4, closed=True)
        info = await federation.start_session(SEED, rounds=1, min_clients=4)
        apps[0].gate.set()  # folded at combiner-1
        await federation.story.until("update_received", client="client-1")
        for name in ("client-1", "client-3"):
            await federation.stop_client(name)
        apps[2].gate.set()
        await federation.add_client("client-1", apps[0], "combiner-2")
        await federation.add_client("client-3", apps[2], "combiner-2")
        await asyncio.sleep(0)
        apps[1].gate.set()
        apps[3].gate.set()
        await federation.story.until("session_finished", seconds=30)
        assert contributors(federation, info.session, 1) == [f"client-{n}" for n in range(1, 5)]
        assert apps[0].trained == [1]
        assert outcome(federation, info.session) == pytest.approx(weighted(apps), rel=1e-12)


async def test_a_paused_session_commits_its_open_round_and_rests_through_a_restart(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=2, clients=3, closed=True)
        info = await federation.start_session(SEED, rounds=3, min_clients=3)
        other = await federation.start_session(SEED, rounds=2, min_clients=3)
        await federation.story.until("round_opened", session=info.session)
        paused = await federation.reducer.pause_session(info.session)
        assert (paused.state, paused.reason) == ("paused", "paused by request")
        for app in apps:
            app.gate.set()
        await federation.story.until("session_finished", session=other.session)
        await federation.story.until("waiting", session=info.session, reason="paused by request")
        await federation.stop_reducer()
        await federation.start_reducer()
        await federation.story.until("waiting", count=2, session=info.session, reason="paused by request")
        assert federation.state.session(info.session).head.round == 1
        assert (await federation.reducer.resume_session(info.session)).state == "running"
        await federation.story.until("session_finished", session=info.session)
        assert outcome(federation, info.session) == pytest.approx(3 * weighted(apps), rel=1e-12)
        with pytest.raises(Conflict, match="has ended"):
            await federation.reducer.pause_session(info.session)


async def test_a_session_paused_in_an_open_round_keeps_it_through_a_restart(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=2, clients=3, closed=True)
        info = await federation.start_session(SEED, rounds=2, min_clients=3)
        apps[0].gate.set()
        await federation.story.until("update_received", client="client-1")
        await federation.reducer.pause_session(info.session)
        await federation.stop_reducer()
        for app in apps:
            app.gate.set()
        await federation.start_reducer()
        await federation.story.until("waiting", session=info.session, reason="paused by request")
        await federation.reducer.resume_session(info.session)
        await federation.story.until("session_finished")
        assert [app.trained for app in apps] == [[1, 2]] * 3
        assert outcome(federation, info.session) == pytest.approx(2 * weighted(apps), rel=1e-12)


async def test_a_late_copy_of_a_call_opens_nothing_again(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=1, clients=2)
        combiner = federation.combiners["combiner-1"]
        calls: list[RoundSpec] = []
        run_round = combiner.run_round
        combiner.run_round = lambda spec: (calls.append(spec), run_round(spec))[1]  # type: ignore[method-assign,func-returns-value]
        await federation.start_session(SEED, rounds=2, min_clients=2)
        await federation.story.until("session_finished")
        await federation.story.until("settled", count=4)
        for spec in calls:
            assert [type(event) async for event in run_round(spec)] == [RoundAborted]
        with pytest.raises(Unavailable, match="another process"):
            await anext(run_round(replace(calls[0], incarnation=Incarnation("another"))))
        assert [app.trained for app in apps] == [[1, 2]] * 2


async def test_a_client_whose_link_broke_or_that_died_goes_on_where_its_round_waits(tmp_path: Path) -> None:
    patient = ReducerLimits(combiner_grace=10.0, client_grace=10.0), CombinerLimits(client_grace=10.0)
    async with Federation(tmp_path, *patient) as federation:  # this is not about who is slow to come back
        apps = await grow(federation, combiners=2, clients=3, closed=True)  # two at combiner-1
        await federation.start_session(SEED, rounds=1, min_clients=3)
        await federation.story.until("round_opened")
        federation.cut("combiner-1")
        await federation.story.until("attached", count=3, combiner="combiner-1")
        await federation.story.until("attached", count=4, combiner="combiner-1")
        await federation.stop_client("client-1")
        await federation.add_client("client-1", apps[0])  # combiner-2 has fewer clients
        await federation.story.until("attached", count=5, combiner="combiner-1")
        for app in apps:
            app.gate.set()
        await federation.story.until("session_finished")
        assert federation.story.named("combiner_lost") == []
        assert [a.trained for a in apps][1:] == [[1], [1]]


async def test_where_a_rounds_time_went_is_told_while_it_is_open_and_kept(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        quick, slow = await grow(federation, combiners=2, clients=2, closed=True)
        info = await federation.start_session(SEED, rounds=1, min_clients=2)
        quick.gate.set()
        await federation.story.until("update_received", client="client-1")
        count, states = 0, {}
        while states != {"client-1": "folded", "client-2": "training"}:
            count += 1
            told = await federation.story.until("client_progress", count)
            states |= {client: one["state"] for client, one in told["clients"].items()}
        shown = federation.reducer.progress(info.session)
        assert {c: (one["combiner"], one["state"]) for c, one in shown["clients"].items()} == {
            "client-1": ("combiner-1", "folded"), "client-2": ("combiner-2", "training"),
        }  # fmt: skip
        slow.gate.set()
        committed = await federation.story.until("round_committed")
        assert set(committed["seconds"]) == {"clients", "reducing", "committing"}
        assert "training" not in committed["train"]["metrics"]
        validated = await federation.story.until("round_validated")
        assert set(validated["seconds"]) == {"validating"}
        rows = {r.client: r.metrics for r in federation.state.metrics(info.session) if r.kind == "timing"}
        assert rows.keys() == {"client-1", "client-2"}
        assert rows["client-2"]["training"] > rows["client-1"]["training"]
        assert sum(rows["client-2"].values()) < committed["seconds"]["clients"]
