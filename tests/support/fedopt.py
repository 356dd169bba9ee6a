"""Reddi et al., "Adaptive Federated Optimization", 2021: its algorithms 1 and 2 in plain numpy, line by line.

The oracle of the server optimizers' tests: it imports nothing of fedn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Settings:
    """η, β₁, β₂ and τ of the paper; ``kind`` is sgd, adagrad, adam or yogi."""

    kind: str
    eta: float = 1.0
    beta1: float = 0.0
    beta2: float = 0.99
    tau: float = 1e-3


def trajectory(settings: Settings, x: Any, means: Iterable[Any]) -> Iterator[Any]:
    """The model after each round in which the clients' mean is the next of ``means``; nothing is rounded."""
    m = np.zeros_like(x, np.float64)
    v = np.full_like(x, settings.tau**2, np.float64)
    for mean in means:
        x, m, v = next_state(settings, x, m, v, mean)
        yield x


def next_state(s: Settings, x: Any, m: Any, v: Any, mean: Any) -> tuple[Any, Any, Any]:
    """One round: (x, m, v)."""
    delta = mean - x
    if s.kind == "sgd":
        m = s.beta1 * m + delta
        return x + s.eta * m, m, v
    m = s.beta1 * m + (1 - s.beta1) * delta
    match s.kind:
        case "adagrad":
            v = v + delta**2
        case "yogi":
            v = v - (1 - s.beta2) * delta**2 * np.sign(v - delta**2)
        case "adam":
            v = s.beta2 * v + (1 - s.beta2) * delta**2
    return x + s.eta * m / (np.sqrt(v) + s.tau), m, v
