"""Server optimizers against the paper's algorithms in plain numpy, and against closed forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from fedopt import Settings, trajectory

from fedn.aggregation.optimizers import Adagrad, Adam, Sgd, Yogi
from fedn.ports import ServerOptimizer, Vector

STEPS = 20
CASES = [
    (Sgd(0.7), Settings("sgd", 0.7)),
    (Sgd(1.0, 0.9), Settings("sgd", 1.0, 0.9)),
    (Sgd(0.1, 0.5), Settings("sgd", 0.1, 0.5)),
    (Adagrad(0.1), Settings("adagrad", 0.1)),
    (Adagrad(0.3, 0.4, 1e-2), Settings("adagrad", 0.3, 0.4, tau=1e-2)),
    (Adam(0.01), Settings("adam", 0.01)),
    (Adam(0.1, 0.9, 0.95, 1e-4), Settings("adam", 0.1, 0.9, 0.95, 1e-4)),
    (Yogi(0.05), Settings("yogi", 0.05)),
    (Yogi(0.1, 0.9, 0.9, 1e-2), Settings("yogi", 0.1, 0.9, 0.9, 1e-2)),
]


def beginning(optimizer: ServerOptimizer, elements: int) -> dict[str, Vector]:
    return {name: np.full(elements, first) for name, first in optimizer.slots.items()}


def stepped(optimizer: ServerOptimizer, x: Vector, means: list[Vector]) -> Iterator[Vector]:
    memory = beginning(optimizer, len(x))
    for number, mean in enumerate(means, 1):
        x = optimizer.step(x.copy(), mean, memory, number)
        yield x


@pytest.mark.parametrize(("optimizer", "settings"), CASES, ids=lambda case: getattr(case, "kind", ""))
def test_twenty_steps_are_those_of_the_paper(optimizer: ServerOptimizer, settings: Settings) -> None:
    """Elements of every size, among them one that no client moves and one that turns about."""
    draw = np.random.default_rng(7)
    x = np.array([0.0, 1.0, -5.0, 1e-6, 1e3, 2.0])
    moves = draw.normal(size=(STEPS, 6)) * [1.0, 1e-3, 10.0, 1e-6, 100.0, 1.0] * [0, 1, 1, 1, 1, 1]
    moves[:, 5] = [(-1) ** k for k in range(STEPS)]
    means = list(x + np.cumsum(moves, axis=0))
    pairs = zip(stepped(optimizer, x, means), trajectory(settings, x, means), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-15)


def test_sgd_with_learning_rate_one_is_the_mean_to_the_bit() -> None:
    base, mean = np.array([1e16, 0.1]), np.array([1.0, 0.3])
    assert Sgd().slots == {}
    assert Sgd().step(base, mean, {}, 1).tolist() == [1.0, 0.3]


def closed_form(kind: str, t: int) -> tuple[float, float]:
    """(m, v) after ``t`` rounds in all of which Δ = 1, with β₁ = 0.9, β₂ = 0.99, τ = 0.1."""
    m = 1 - 0.9**t
    match kind:
        case "adagrad":
            return m, 0.01 + t
        case "adam":
            return m, 0.99**t * 0.01 + 1 - 0.99**t
    return m, 0.01 + 0.01 * t


@pytest.mark.parametrize("kind", [Adagrad, Adam, Yogi])
def test_clients_that_always_move_by_one(kind: Any) -> None:
    knobs: Mapping[str, float] = {} if kind is Adagrad else {"beta2": 0.99}
    optimizer = kind(learning_rate=0.5, momentum=0.9, epsilon=0.1, **knobs)
    x, memory = np.zeros(1), beginning(optimizer, 1)
    for t in range(1, STEPS + 1):
        before, x = x, optimizer.step(x.copy(), x + 1.0, memory, t)
        m, v = closed_form(kind.__name__.lower(), t)
        assert memory["m"][0] == pytest.approx(m, rel=1e-13)
        assert memory["v"][0] == pytest.approx(v, rel=1e-13)
        assert x[0] - before[0] == pytest.approx(0.5 * m / (v**0.5 + 0.1), rel=1e-12)


def test_momentum_adds_up_to_a_geometric_sum() -> None:
    optimizer, x = Sgd(0.5, 0.9), np.zeros(1)
    memory = beginning(optimizer, 1)
    for t in range(1, STEPS + 1):
        before, x = x, optimizer.step(x.copy(), x + 1.0, memory, t)
        assert x[0] - before[0] == pytest.approx(0.5 * (1 - 0.9**t) / (1 - 0.9), rel=1e-12)


@pytest.mark.parametrize("kind", [Adagrad, Adam, Yogi])
def test_without_momentum_nothing_is_kept_of_it(kind: Any) -> None:
    assert kind(epsilon=0.5).slots == {"v": 0.25}
