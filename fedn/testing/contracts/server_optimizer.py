"""The promises of `fedn.ports.ServerOptimizer`, as tests. See the package docstring for how to use them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from types import MappingProxyType

import numpy as np
import pytest

from fedn.aggregation.memory import check_slots, read_memory, write_memory
from fedn.aggregation.write import ServerStep
from fedn.helpers.files import layout_of, seed_file
from fedn.ports import ServerOptimizer, Vector

ELEMENTS = 12
ROUNDS = 6


class ServerOptimizerContract:
    """Subclass and provide a fixture ``optimizer`` that returns one as a session builds it."""

    def test_its_slots_are_a_few_names_with_finite_numbers(self, optimizer: ServerOptimizer) -> None:
        check_slots(optimizer)

    def test_every_step_is_a_finite_model(self, optimizer: ServerOptimizer) -> None:
        for model in run(optimizer):
            assert model.dtype == np.float64
            assert model.shape == (ELEMENTS,)
            assert np.isfinite(model).all()

    def test_a_step_is_that_of_its_arguments(self, optimizer: ServerOptimizer) -> None:
        """A commit that is tried again, and a block that is stepped again, come out the same."""
        first = list(run(optimizer))
        for model, again in zip(run(optimizer), first, strict=True):
            _step(optimizer, model, model + 1.0, memory_of(optimizer, 5.0), 99)  # another session's
            np.testing.assert_array_equal(model, again)

    def test_it_leaves_the_mean_alone(self, optimizer: ServerOptimizer) -> None:
        base, mean = np.zeros(ELEMENTS), next(means())
        _step(optimizer, base, mean, memory_of(optimizer), 1)
        np.testing.assert_array_equal(mean, next(means()))

    @pytest.mark.parametrize("cut", [1, 5, ELEMENTS - 1])
    def test_blocks_may_be_cut_anywhere(self, optimizer: ServerOptimizer, cut: int) -> None:
        base, mean = np.linspace(-1, 1, ELEMENTS), next(means())
        whole, pieces = memory_of(optimizer), memory_of(optimizer)
        wanted = _step(optimizer, base, mean, whole, 1).copy()
        for part in (slice(cut, None), slice(cut)):
            views = {name: values[part] for name, values in pieces.items()}
            np.testing.assert_array_equal(_step(optimizer, base[part], mean[part], views, 1), wanted[part])
        for name in optimizer.slots:
            np.testing.assert_array_equal(pieces[name], whole[name])

    def test_a_restart_in_every_round_changes_nothing(self, optimizer: ServerOptimizer) -> None:
        """Model and state go through their files, as the trail's stores keep them."""
        model, state = seed_file({"w": np.zeros(ELEMENTS)}), b""
        layout = layout_of(model)
        for number, (mean, wanted) in enumerate(zip(means(), run(deepcopy(optimizer)), strict=True), 1):
            fresh = deepcopy(optimizer)
            memory = read_memory(memoryview(state), layout, fresh) if state else {}
            step = ServerStep(memoryview(model), layout, mean, fresh, number, memory)
            model = b"".join(step.model())
            state = b"".join(write_memory(step, {"round": str(number)})) if fresh.slots else b""
            np.testing.assert_array_equal(np.frombuffer(model[-8 * ELEMENTS :], np.float64), wanted)


def means() -> Iterator[Vector]:
    """What the clients of each round say, on very different scales; one element never moves."""
    draw = np.random.default_rng(2021)
    scale = np.array([0.0, *np.logspace(-6, 3, ELEMENTS - 1)])
    for _ in range(ROUNDS):
        yield draw.normal(size=ELEMENTS) * scale


def memory_of(optimizer: ServerOptimizer, more: float = 0.0) -> dict[str, Vector]:
    """Every slot before the first step."""
    return {name: np.full(ELEMENTS, first + more) for name, first in optimizer.slots.items()}


def run(optimizer: ServerOptimizer) -> Iterator[Vector]:
    """The model after each round, from zeros."""
    model, memory = np.zeros(ELEMENTS), memory_of(optimizer)
    for number, mean in enumerate(means(), 1):
        model = _step(optimizer, model, mean, memory, number).copy()
        yield model


def _step(
    optimizer: ServerOptimizer, base: Vector, mean: Vector, memory: Mapping[str, Vector], number: int
) -> Vector:
    """As `fedn.aggregation.write` calls it: the base may be overwritten, the mapping stays as it is."""
    with np.errstate(all="ignore"):
        return optimizer.step(base.copy(), mean, MappingProxyType(dict(memory)), number)
