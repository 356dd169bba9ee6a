"""A whole federation in one process: the real machines and drivers, no sockets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedn.testing.federation import Federation

SEED = {"w": np.zeros(4), "b": np.ones((2, 3), dtype=np.float32)}


class AddOne:
    """Adds its number to every element; weight 10 · number."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.trained: list[int] = []

    def train(self, model, config):
        self.trained.append(config["round"])
        return {k: v + self.number for k, v in model.items()}, 10 * self.number, {"loss": 1.0 / self.number}

    def validate(self, model):
        return 5, {"mean": float(model["w"].mean())}


async def grow(federation: Federation, combiners: int, clients: int) -> list[AddOne]:
    apps = [AddOne(i + 1) for i in range(clients)]
    for i in range(combiners):
        await federation.add_combiner(f"combiner-{i + 1}")
    for i, app in enumerate(apps):
        await federation.add_client(f"client-{i + 1}", app)
    return apps


async def test_rounds_average_by_examples_over_two_combiners(tmp_path: Path) -> None:
    async with Federation(tmp_path) as federation:
        apps = await grow(federation, combiners=2, clients=5)
        info = await federation.start_session(SEED, rounds=3, min_clients=5)
        await federation.story.until("session_finished")
        step = sum(10 * a.number * a.number for a in apps) / sum(10 * a.number for a in apps)
        head = federation.state.session(info.session).head
        assert head.round == 3
        assert federation.tensors(head.model)["w"] == pytest.approx(np.full(4, 3 * step), rel=1e-12)
        assert [app.trained for app in apps] == [[1, 2, 3]] * 5
        validated = federation.story.named("round_validated")
        assert [v["metrics"]["mean"] for v in validated] == pytest.approx([step, 2 * step, 3 * step])
