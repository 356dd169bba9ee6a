"""Why a federation at work waits: too few clients, a straggler held by a gate, updates that are refused."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.domain.errors import NotFound
from fedn.reducer import timing
from fedn.reducer.events import EventHub
from fedn.reducer.service import ReducerService
from fedn.reducer.why import Cause, Explanation, explain
from fedn.reducer.why_gathering import gathered
from fedn.testing.federation import Federation

SEED = {"w": np.zeros(4)}


class Gated:
    """Adds 1 once its gate is open."""

    def __init__(self, closed: bool = False) -> None:
        self.gate = threading.Event()
        if not closed:
            self.gate.set()

    def train(self, model: Any, config: Any) -> Any:
        assert self.gate.wait(60)
        return {name: value + 1 for name, value in model.items()}, 10

    def validate(self, model: Any) -> Any:
        return {"mean": float(model["w"].mean())}


class Diverged(Gated):
    """Its update is no number."""

    def train(self, model: Any, config: Any) -> Any:
        return {name: value * np.nan for name, value in model.items()}, 10


async def federated(federation: Federation, *apps: Gated) -> Callable[..., Explanation]:
    """A combiner and clients; returns what asks why, over the same seam as the web server's threads."""
    await federation.add_combiner("combiner-1")
    for number, app in enumerate(apps):
        await federation.add_client(f"client-{number + 1}", app)
    await federation.story.until("network_changed", clients=len(apps))
    hub = EventHub()
    front = ReducerService(federation.reducer, asyncio.get_running_loop(), hub, 2**20, 4)

    def why(session: Any, number: int | None = None) -> Explanation:
        return explain(gathered(front, session, number, time.time()))

    return why


async def until(why: Callable[[], Explanation], cause: Cause, words: str = "") -> Explanation:
    """Ask until that is the cause, in these words; its combiner tells where a client stands now and then."""
    async with asyncio.timeout(30):
        while (found := why()).cause is not cause or words not in found.text:
            await asyncio.sleep(0.02)
    return found


async def test_too_few_clients_are_counted_and_named(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        why = await federated(federation, Gated())
        info = await federation.start_session(SEED, rounds=2, min_clients=3)
        await federation.story.until(
            "waiting", session=info.session, reason="waiting for clients: 1 of 3 are ready"
        )
        found = why(info.session)
        assert found.cause is Cause.TOO_FEW_CLIENTS
        assert (
            "Round 1 of 2 has not begun: it needs 3 clients (min_clients), and 1 can take part (client-1)."
            in found.text
        )
        assert found.evidence[0] == "reason: waiting for clients: 1 of 3 are ready"
        with pytest.raises(NotFound, match="no round 2; its last is 0"):
            why(info.session, 2)
        await federation.reducer.stop_session(info.session)
        ended = why(info.session)
        assert (ended.cause, ended.text) == (
            Cause.CANCELLED,
            f"Round 1 was never committed. Session {info.name} was stopped, with 0 of 2 rounds committed: "
            "stopped by request.",
        )


async def test_who_keeps_the_others_waiting_is_named_while_it_does_and_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "STRAGGLING_LEAST", 0.1)
    slow = Gated(closed=True)
    async with Federation(tmp_path) as federation:
        why = await federated(federation, Gated(), Gated(), slow)
        info = await federation.start_session(SEED, rounds=1, min_clients=2)
        await federation.story.until("update_received", count=2)
        found = await until(lambda: why(info.session), Cause.STRAGGLER, "client-3 is training")
        assert "Round 1 of 1 has 2 of 3 updates after " in found.text
        assert "It waits for 1 client: client-3 is training, for " in found.text
        assert "The others took " in found.text
        assert "committed with what is in" in found.text
        assert found.evidence[0].startswith("client-3: training at combiner-1 since ")
        slow.gate.set()
        await federation.story.until("session_finished")
        after = why(info.session, 1)
        assert "3 updates went into it. It took " in after.text
        assert "The slowest client was client-3 (" in after.text
        assert why(info.session).cause is Cause.FINISHED


async def test_updates_that_are_refused_are_named_with_their_reason(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        why = await federated(federation, Gated(), Diverged(), Diverged())
        info = await federation.start_session(SEED, rounds=1, min_clients=2, check=False)
        found = await until(lambda: why(info.session), Cause.REFUSED_UPDATES)
        assert "Round 1 of 1 has 1 of the 2 updates that it needs (min_clients)" in found.text
        assert "2 updates refused: client-2 and client-3: " in found.text
        assert {("client", "client-2"), ("client", "client-3")} <= {
            (link.kind, link.id) for link in found.links
        }
        await federation.add_client("client-4", Gated())
        await federation.story.until("session_finished")
        after = why(info.session, 1)
        assert "2 updates went into it." in after.text
        assert "2 clients did not count: client-2 and client-3: " in after.text
