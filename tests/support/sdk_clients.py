"""Clients made of functions, a model that they train, and patience: for tests of the SDK on a network."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fedn
from fedn.domain.errors import Unavailable

PATIENCE = 60.0
SEED = {"w": np.zeros(4), "b": np.ones(2, np.float32)}


def until(ready: Callable[[], Any]) -> Any:
    """Wait for ``ready`` to be true; a bound on patience, not a measurement."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if result := ready():
                return result
        except Unavailable:
            pass
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def adding(client: fedn.Client, number: float, examples: int) -> fedn.Client:
    """It adds ``number`` to every element."""

    @client.train
    def train(model: Any, config: Any) -> Any:
        return {name: value + number for name, value in model.items()}, examples, {"loss": 1 / number}

    @client.validate
    def validate(model: Any) -> Any:
        return examples, {"accuracy": float(model["w"][0]) / 10}

    return client
