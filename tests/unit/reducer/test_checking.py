"""Clients check before their first round; who can't take part is left out, and named with the reason."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np

from fedn.testing.federation import Federation

SEED = {"w": np.zeros(4)}


class App:
    """Takes models with ``width`` numbers; counts what it is asked."""

    def __init__(self, width: int = 4) -> None:
        self.width = width
        self.checked = self.trained = 0

    def check(self, model: Any) -> Any:
        self.checked += 1
        if len(model["w"]) != self.width:
            raise ValueError(f"has {self.width} columns, the model {len(model['w'])}")
        return 12, {"columns": self.width}

    def train(self, model: Any, config: Any) -> Any:
        self.trained += 1
        return model, 10

    def validate(self, model: Any) -> Any:
        return 10, {"accuracy": 1.0}


async def start(federation: Federation, **apps: App) -> None:
    await federation.add_combiner("east")
    await federation.add_combiner("west")
    for name, app in apps.items():
        await federation.add_client(name, app)
    await federation.story.until("network_changed", clients=len(apps))


async def test_who_can_not_take_part_is_left_out_with_a_reason(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        good, bad = App(), App(width=5)
        await start(federation, ann=good, bob=bad)
        info = await federation.start_session(SEED, rounds=3)
        unfit = await federation.story.until("client_unfit", client="bob")
        assert "app.check(): raised ValueError" in unfit["reason"]
        assert "5 columns" not in unfit["reason"]  # what an error says may quote the data
        await federation.story.until("session_finished")
        records = [federation.state.record(info.session, n).record for n in (1, 2, 3)]
        assert [[c.client for c in record.contributors] for record in records] == [["ann"]] * 3
        assert (good.checked, bad.checked, bad.trained) == (1, 1, 0)
        while federation.reducer.progress(info.session):  # as long as it tidies up
            await asyncio.sleep(0)
        assert federation.reducer.unfit(info.session) == {"bob": unfit["reason"]}
        await federation.stop_reducer()
        await federation.start_reducer()
        assert federation.reducer.unfit(info.session) is None  # not known any more


async def test_a_session_nobody_can_take_part_in_waits_and_says_why(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        await start(federation, bob=App(width=5))
        info = await federation.start_session(SEED, rounds=1)
        await federation.story.until("client_unfit", client="bob")
        progress = federation.reducer.progress(info.session)
        assert "bob can't take part" in progress["reason"]
        assert "raised ValueError" in progress["unfit"]["bob"]


async def test_everybody_checks_before_the_first_round_and_later_ones_when_they_come(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = {name: App() for name in ("ann", "bob", "cat")}
        await start(federation, **apps)
        info = await federation.start_session(SEED, rounds=2, min_clients=1)
        await federation.story.until("session_finished")
        first = federation.state.record(info.session, 1).record
        assert {c.client for c in first.contributors} == set(apps)
        rows = [row for row in federation.state.metrics(info.session) if row.kind == "check"]
        assert {(row.client, row.round, row.examples) for row in rows} == {(name, 0, 12) for name in apps}
        assert rows[0].metrics == {"columns": 4.0}


async def test_a_client_that_is_mended_takes_part_once_it_is_back(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        await start(federation, ann=App(width=5))
        info = await federation.start_session(SEED, rounds=1)
        await federation.story.until("client_unfit", client="ann")
        federation.story.events.clear()  # nobody was there at the beginning, either
        await federation.stop_client("ann")
        await federation.story.until("network_changed", clients=0)
        assert list(federation.reducer.unfit(info.session)) == ["ann"]  # also of who has left
        await federation.add_client("ann", App())
        await federation.story.until("session_finished")
        assert federation.reducer.unfit(info.session) == {}


async def test_after_a_restart_of_the_reducer_nobody_checks_again(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        app = App()
        await start(federation, ann=app)
        await federation.start_session(SEED, rounds=200)
        await federation.story.until("round_committed", round=1)
        await federation.stop_reducer()
        await federation.start_reducer()
        await federation.story.until("session_finished")
        assert app.checked == 1


async def test_without_the_check_nobody_is_asked(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        app = App()
        await start(federation, ann=app)
        await federation.start_session(SEED, rounds=1, check=False)
        await federation.story.until("session_finished")
        assert app.checked == 0
