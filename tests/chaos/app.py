"""What the clients of the chaos suite train: a pure function, so that anybody can train it again.

Plain numpy; `audit` replays whole sessions with the very same function. It halves the model and adds noise
that depends on round and client alone: values stay below 2, and rounding errors die out.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

Model = dict[str, Any]


def trained(model: Model, round_: int, index: int) -> Model:
    """The update of client ``index`` in ``round_``."""
    noise = np.random.default_rng([round_, index])
    return {
        name: (value * 0.5 + noise.uniform(-1.0, 1.0, value.shape)).astype(value.dtype)
        for name, value in sorted(model.items())
    }


def examples(round_: int, index: int) -> int:
    """Its weight."""
    return 10 + (7 * round_ + 13 * index) % 90


def seed_model(elements: int) -> Model:
    """A model of about four bytes an element, in two dtypes."""
    return {"b": np.linspace(-1, 1, 5), "w": np.linspace(-1, 1, elements, dtype=np.float32)}


class Deterministic:
    """Takes 0.05 to 0.4 s that look random."""

    def __init__(self, index: int) -> None:
        self.index = index

    def train(self, model: Model, config: Any) -> tuple[Model, int]:
        time.sleep(np.random.default_rng([config["seed"]]).uniform(0.05, 0.4))
        return trained(model, config["round"], self.index), examples(config["round"], self.index)

    def validate(self, model: Model) -> dict[str, float]:
        return {"mean": float(model["b"].mean())}


def app(index: int, clients: int) -> Deterministic:
    return Deterministic(index)
