"""A session that can't begin, or not yet: it keeps nobody else, can be stopped, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_in_process import SEED, contributors, grow

from fedn.domain.errors import Conflict, StoreUnavailable
from fedn.domain.ids import Digest
from fedn.reducer import federation as reducer_module
from fedn.reducer.driver import NOBODY
from fedn.stores.memory import MemoryModels
from fedn.testing.federation import Federation

OTHER = {"w": np.full(4, 2.0)}


class Patchy(MemoryModels):
    """Models of which some can't be read for now."""

    def __init__(self) -> None:
        super().__init__()
        self.unreadable: set[Digest] = set()

    @contextmanager
    def map(self, digest: Digest) -> Iterator[memoryview]:
        if digest in self.unreadable:
            raise StoreUnavailable("the disk has a bad day")
        with super().map(digest) as view:
            yield view


def patchy(directory: Path) -> tuple[Federation, Patchy]:
    federation, models = Federation(directory), Patchy()
    federation.models = models
    return federation, models


async def test_a_session_that_cannot_go_on_keeps_no_other_from_it(tmp_path: Path) -> None:
    federation, models = patchy(tmp_path)
    async with federation:
        apps = await grow(federation, combiners=1, clients=2, closed=True)
        stuck = await federation.start_session(SEED, rounds=1, min_clients=2, check=False)
        well = await federation.start_session(OTHER, rounds=1, min_clients=2, check=False)
        await federation.story.until("round_opened", count=2)
        await federation.stop_reducer()
        models.unreadable.add(stuck.head.model)
        for app in apps:
            app.gate.set()
        await federation.start_reducer()
        await federation.story.until("session_finished", session=well.session)

        shown = federation.reducer.progress(stuck.session)
        assert (shown["state"], shown["reason"]) == ("waiting", "starting; the disk has a bad day")
        models.unreadable.clear()
        await federation.story.until("session_finished", session=stuck.session)
        assert contributors(federation, stuck.session, 1) == ["client-1", "client-2"]
        assert [sorted(app.trained) for app in apps] == [[1, 1]] * 2


async def test_a_session_is_stopped_before_it_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was running before the restart: what clients hold of it is settled, not counted."""
    monkeypatch.setattr(reducer_module, "START_SECONDS", 0.05)
    federation, models = patchy(tmp_path)
    async with federation:
        apps = await grow(federation, combiners=1, clients=2, closed=True)
        session = (await federation.start_session(SEED, rounds=1, min_clients=2)).session
        apps[0].gate.set()
        await federation.story.until("update_received", client="client-1")
        await federation.stop_reducer()
        models.unreadable.add(federation.state.session(session).head.model)
        await federation.start_reducer()
        await until(lambda: federation.reducer.progress(session))
        stopped = await federation.reducer.stop_session(session)
        assert (stopped.state, stopped.reason) == ("cancelled", "stopped by request")
        assert federation.reducer.progress(session) == {}
        apps[1].gate.set()
        await until(lambda: not list(tmp_path.glob("**/*.update")))

        late = await federation.start_session(SEED, rounds=1)  # answered, though it has not begun
        assert late.state == "running"
        models.unreadable.clear()
        await federation.story.until("session_finished", session=late.session)


async def test_many_sessions_asked_for_at_once_stay_within_their_number(tmp_path: Path) -> None:
    limits = reducer_module.Limits(max_sessions=2)
    async with Federation(tmp_path, reducer_limits=limits) as federation:
        starts = [federation.start_session(SEED, rounds=1) for _ in range(5)]
        answers = await asyncio.gather(*starts, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, Exception)]
        assert [str(error) for error in refused] == [
            "2 sessions are running (max_sessions); stop one first"
        ] * 3


async def test_a_new_combiner_takes_the_place_of_the_one_that_is_gone_longest(tmp_path: Path) -> None:
    limits = reducer_module.Limits(combiner_grace=0.05, max_combiners=2)
    async with Federation(tmp_path, reducer_limits=limits) as federation:

        def here() -> set[tuple[str, bool]]:
            return {(combiner.combiner, combiner.live) for combiner in federation.reducer.view.combiners}

        for name in ("a", "b"):
            await federation.add_combiner(name)
        with pytest.raises(Conflict, match="2 combiners are registered"):
            await federation.add_combiner("c")
        for name in ("a", "b"):
            await federation.kill_combiner(name)
            await federation.story.until("combiner_lost", combiner=name)
        await federation.add_combiner("c")
        await until(lambda: here() == {("b", False), ("c", True)})
        await federation.stop_reducer()
        await federation.start_reducer()
        await until(lambda: here() == {("b", False), ("c", True)})


async def test_a_session_without_any_combiner_says_so(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=1, clients=1, closed=True)
        session = (await federation.start_session(SEED, rounds=1)).session
        await federation.story.until("round_opened")
        await federation.kill_combiner("combiner-1")
        await federation.story.until("waiting", session=session, reason=NOBODY)
        await until(lambda: NOBODY in federation.reducer.progress(session)["reason"])
        await federation.add_combiner("combiner-1")
        await until(lambda: NOBODY not in federation.reducer.progress(session)["reason"])
        apps[0].gate.set()
        await federation.story.until("session_finished")


async def test_a_release_is_told_after_the_change_that_came_before_it(tmp_path: Path) -> None:
    """Changes are gathered; a request that overtook one would be judged by the network before it."""
    told: list[str] = []

    class Session:
        def network_changed(self, network: Any) -> None:
            told.append("network")

        def release_requested(self, combiner: Any, header: Any) -> None:
            told.append("release")

        async def close(self) -> None: ...

    class Header:
        session = "s"

    async with Federation(tmp_path) as federation:
        reducer: Any = federation.reducer
        reducer._sessions["s"] = Session()
        reducer._network_changes()
        reducer._release_requested("combiner-1", Header())
        assert told == []
        await until(lambda: len(told) == 2)
        assert told == ["network", "release"]


async def until(ready: Any) -> None:
    async with asyncio.timeout(20):
        while not ready():
            await asyncio.sleep(0.01)
