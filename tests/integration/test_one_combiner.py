"""Plug-ins in a whole federation in one process: parts that don't merge, and plug-ins that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_in_process import SEED, AddNumber, Broken, contributors, grow, outcome, weighted

from fedn import plugins
from fedn.aggregation.mean import Mean
from fedn.aggregation.optimizers import Sgd
from fedn.domain.errors import InvalidInput
from fedn.testing.federation import Federation


class Whole(Mean):
    """The mean of an aggregator that has seen all updates; of less it would be another one."""

    mergeable = False

    def merge(self, total: Any, part: Any) -> None:
        raise AssertionError("merged all the same")


class Brittle(Mean):
    """Can't do client-1, of 10 examples."""

    def accumulate(self, total: Any, data: memoryview, layout: Any, weight: int) -> None:
        if weight == 10:
            raise ArithmeticError("ten is right out")
        super().accumulate(total, data, layout, weight)


class Short(Mean):
    def report(self, total: Any, weight: int) -> Any:
        return super().report(total, weight)[:-1]


class Wild(Sgd):
    """Fails in round 2."""

    def step(self, base: Any, mean: Any, memory: Any, number: int) -> Any:
        return mean if number < 2 else mean * np.nan


KINDS = {"whole": Whole, "brittle": Brittle, "short": Short, "wild": Wild}


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    load = plugins.load
    monkeypatch.setattr(plugins, "load", lambda group, name: KINDS.get(name) or load(group, name))


async def until(ready: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not ready():
            await asyncio.sleep(0.01)


def reason(federation: Federation, session: Any) -> str:
    return str(federation.reducer.progress(session).get("reason", ""))


async def test_two_combiners_are_one_too_many_to_start_with(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        await grow(federation, combiners=2, clients=2)
        with pytest.raises(InvalidInput, match="'whole' don't merge, and 2 combiners are live"):
            await federation.start_session(SEED, aggregator="whole")
        assert federation.state.sessions() == []


async def test_a_second_combiner_that_comes_later_takes_no_part(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=1, clients=2, closed=True)
        info = await federation.start_session(SEED, rounds=3, min_clients=2, aggregator="whole")
        await federation.story.until("round_opened")
        await federation.add_combiner("combiner-2")
        await federation.story.until("network_changed", combiners=2)
        await federation.add_client("client-3", AddNumber(3), "combiner-2")
        await federation.story.until("network_changed", combiners=2, clients=3)
        await until(lambda: "only clients of combiner-1 take part, not 1" in reason(federation, info.session))
        for app in apps:
            app.gate.set()
        await federation.story.until("session_finished")
        assert outcome(federation, info.session) == pytest.approx(3 * weighted(apps), rel=1e-12)
        for number in (1, 2, 3):
            assert contributors(federation, info.session, number) == ["client-1", "client-2"]


async def test_who_makes_up_the_quorum_is_added_in_one_part_and_nobody_trains_twice(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=1, clients=2)
        await federation.add_client("broken", Broken())
        await federation.story.until("network_changed", clients=3)
        info = await federation.start_session(SEED, rounds=2, min_clients=3, aggregator="whole", check=False)
        await until(lambda: reason(federation, info.session).startswith("2 of 3 updates"))
        late = AddNumber(3)
        await federation.add_client("client-3", late)
        await federation.story.until("session_finished")
        assert outcome(federation, info.session) == pytest.approx(2 * weighted([*apps, late]), rel=1e-12)
        assert [app.trained for app in (*apps, late)] == [[1, 2]] * 3
        parts = [
            [part for part in federation.state.record(info.session, number).record.parts if part.contributors]
            for number in (1, 2)
        ]
        assert [len(found) for found in parts] == [1, 1]
        assert parts[0][0].part > 0


async def test_a_session_moves_with_its_clients_when_its_combiner_dies(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=1, clients=2, closed=True)
        info = await federation.start_session(SEED, rounds=2, min_clients=2, aggregator="whole")
        await federation.story.until("round_opened")
        await federation.add_combiner("combiner-2")
        await federation.story.until("network_changed", combiners=2)
        apps[0].gate.set()
        await federation.story.until("update_received", client="client-1")
        await federation.kill_combiner("combiner-1")
        apps[1].gate.set()
        await federation.story.until("session_finished")
        assert outcome(federation, info.session) == pytest.approx(2 * weighted(apps), rel=1e-12)
        assert [app.trained for app in apps] == [[1, 2]] * 2


# --- plug-ins that fail ------------------------------------------------------------------------------


async def test_an_aggregator_that_fails_on_an_update_says_so_and_can_be_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients keep what they trained; with a mended version the round goes on."""
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=1, clients=2)
        info = await federation.start_session(SEED, rounds=1, min_clients=2, aggregator="brittle")
        wanted = "aggregator: Brittle failed: ArithmeticError: ten is right out"
        await until(lambda: wanted in reason(federation, info.session))
        monkeypatch.setattr(Brittle, "accumulate", Mean.accumulate)
        await federation.story.until("session_finished")
        assert outcome(federation, info.session) == pytest.approx(weighted(apps), rel=1e-12)
        assert [app.trained for app in apps] == [[1], [1]]


@pytest.mark.parametrize(
    ("plan", "words", "committed"),
    [
        (
            {"aggregator": "short"},
            "aggregator: Short gave float64 of shape [9], not float64 of",
            0,
        ),
        ({"server_optimizer": "wild"}, "the next value is not finite as F64", 1),
    ],
    ids=["aggregator", "optimizer"],
)
async def test_a_plug_in_that_fails_at_the_commit_ends_the_session_with_its_trail_whole(
    tmp_path: Path, plan: dict[str, str], words: str, committed: int
) -> None:
    async with Federation(tmp_path) as federation:
        await grow(federation, combiners=1, clients=2)
        info = await federation.start_session(SEED, rounds=3, min_clients=2, **plan)
        failed = await federation.story.until("session_failed")
        assert words in failed["reason"]
        assert federation.state.session(info.session).head.round == committed
        outcome(federation, info.session)
        await until(lambda: not list(tmp_path.glob("**/*.update")))
