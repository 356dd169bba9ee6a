"""A training that fails in passing, in a round that needs every client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.reducer import round as rd
from fedn.testing.federation import Federation

SEED = {"w": np.zeros(4)}


class Moody:
    """Adds one, but not the first ``times`` times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def train(self, model: Any, config: Any) -> Any:
        if self.left:
            self.left -= 1
            raise MemoryError("not now")
        return {"w": model["w"] + 1}, 10


async def test_a_round_whose_only_client_fails_several_times_is_committed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rd, "RETRY_SECONDS", 0.01)
    async with Federation(tmp_path) as federation:
        await federation.add_combiner("combiner-1")
        await federation.add_client("client-1", Moody(3))
        await federation.story.until("network_changed", clients=1)
        info = await federation.start_session(SEED, rounds=1, min_clients=1, validate=False, check=False)
        await federation.story.until("session_finished")
        record = federation.state.record(info.session, 1).record
        assert [part.part for part in record.parts] == [3]
        assert record.refused == record.lost == ()
        assert len(federation.combiners["combiner-1"]._parts.held()) <= 1
