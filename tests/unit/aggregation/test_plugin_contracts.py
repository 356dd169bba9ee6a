"""Contracts of aggregators and server optimizers: built-ins keep them, and each test finds what breaks it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fedn.aggregation.mean import Mean
from fedn.aggregation.optimizers import Adagrad, Adam, Sgd, Yogi
from fedn.ports import Aggregator, ServerOptimizer
from fedn.testing.contracts.aggregator import AggregatorContract
from fedn.testing.contracts.server_optimizer import ServerOptimizerContract


class TestMean(AggregatorContract):
    @pytest.fixture
    def aggregator(self) -> Aggregator:
        return Mean()


class TestOptimizers(ServerOptimizerContract):
    @pytest.fixture(
        params=[Sgd(), Sgd(0.5), Sgd(1.0, 0.9), Adagrad(), Adam(0.1, 0.9), Yogi(0.1, 0.9)],
        ids=["mean", "sgd", "momentum", "adagrad", "adam", "yogi"],
    )
    def optimizer(self, request: pytest.FixtureRequest) -> ServerOptimizer:
        return request.param


# --- what breaks a promise is found by the test of that promise --------------------------------------


class Silent(Mean):
    mergeable: Any = None


class LastOne(Mean):
    """What comes last is all there is."""

    def accumulate(self, total: Any, data: Any, layout: Any, weight: int) -> None:
        total[:] = 0
        super().accumulate(total, data, layout, weight)


class Shared(Mean):
    """Every sum is the same vector."""

    def __init__(self) -> None:
        self.only: Any = None

    def zero(self, layout: Any) -> Any:
        self.only = super().zero(layout) if self.only is None else self.only
        return self.only


class Counting(Mean):
    """Keeps the number of updates beside the vector, where it does not travel."""

    def __init__(self) -> None:
        self.count = 0

    def accumulate(self, total: Any, data: Any, layout: Any, weight: int) -> None:
        self.count += 1
        super().accumulate(total, data, layout, weight)

    def report(self, total: Any, weight: int) -> Any:
        return super().report(total, weight) * self.count / 4


class Averaged(Mean):
    """Merges means as if they were sums."""

    def merge(self, total: Any, part: Any) -> None:
        total += part / 2


class Short(Mean):
    def elements(self, layout: Any) -> int:
        return int(layout.float_elements) + 1


class Raw(Mean):
    """Takes the data buffer for one run of float64."""

    def accumulate(self, total: Any, data: Any, layout: Any, weight: int) -> None:
        values = np.frombuffer(data[: len(data) // 8 * 8], np.float64)[: total.size]
        total[: values.size] += weight * values


class Endless(Mean):
    def report(self, total: Any, weight: int) -> Any:
        return super().report(total, weight) + np.inf


class Squaring(Mean):
    """Its sum outgrows float64 when clients have many examples."""

    def accumulate(self, total: Any, data: Any, layout: Any, weight: int) -> None:
        with np.errstate(over="ignore"):
            super().accumulate(total, data, layout, weight)
            total *= np.float64(weight) ** 20


class Drifting(Sgd):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.calls = 0

    def step(self, base: Any, mean: Any, memory: Any, number: int) -> Any:
        self.calls += 1
        return super().step(base, mean, memory, number) * self.calls


class Normed(Sgd):
    """Divides by the norm of the block, so that the cut of blocks shows."""

    def step(self, base: Any, mean: Any, memory: Any, number: int) -> Any:
        return base + (mean - base) / (1 + np.linalg.norm(mean - base))


class Hiding(Sgd):
    """Remembers outside its slots."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.before: Any = 0.0

    def step(self, base: Any, mean: Any, memory: Any, number: int) -> Any:
        before, self.before = self.before, mean.copy()
        return before + mean


class Meddling(Sgd):
    def step(self, base: Any, mean: Any, memory: Any, number: int) -> Any:
        mean *= 0.5
        return mean


class Narrow(Sgd):
    def step(self, base: Any, mean: Any, memory: Any, number: int) -> Any:
        return mean.astype(np.float32)


class Nameless(Sgd):
    def __init__(self) -> None:
        super().__init__()
        self.slots = {"": 0.0}


def broken(contract: Any, plugin: Any) -> Iterator[str]:
    """The tests of a contract that fail for a plug-in."""
    for name, test in inspect.getmembers(contract, inspect.isfunction):
        marks = getattr(test, "pytestmark", [])
        [parameter] = marks or [None]
        cases = [{parameter.args[0]: value} for value in parameter.args[1]] if parameter else [{}]
        for case in cases:
            try:
                test(contract(), plugin(), **case)
            except pytest.skip.Exception:
                pass
            except Exception:  # whatever it is, pytest would show it as a failure
                yield name
                break


@pytest.mark.parametrize(
    ("plugin", "test"),
    [
        (Silent, "test_it_says_whether_its_parts_merge"),
        (LastOne, "test_updates_may_come_in_any_order"),
        (Shared, "test_zero_is_an_empty_vector_of_the_length_it_says"),
        (Short, "test_the_report_is_a_finite_model"),
        (Raw, "test_dtypes_make_no_difference"),
        (Raw, "test_it_may_be_laid_out_in_many_tensors"),
        (Raw, "test_a_large_model_is_as_many_small_ones"),
        (Counting, "test_a_report_needs_no_more_than_the_vector"),
        (Counting, "test_sums_do_not_disturb_one_another"),
        (Averaged, "test_zero_is_neutral"),
        (Averaged, "test_parts_merge_to_what_one_combiner_has"),
        (Endless, "test_one_client_alone_has_a_report"),
        (Squaring, "test_the_most_examples_overflow_nothing"),
    ],
)
def test_a_bad_aggregator_is_found(plugin: Any, test: str) -> None:
    assert test in set(broken(AggregatorContract, plugin))


@pytest.mark.parametrize(
    ("plugin", "test"),
    [
        (Nameless, "test_its_slots_are_a_few_names_with_finite_numbers"),
        (Narrow, "test_every_step_is_a_finite_model"),
        (Drifting, "test_a_step_is_that_of_its_arguments"),
        (Meddling, "test_it_leaves_the_mean_alone"),
        (Normed, "test_blocks_may_be_cut_anywhere"),
        (Hiding, "test_a_restart_in_every_round_changes_nothing"),
    ],
)
def test_a_bad_optimizer_is_found(plugin: Any, test: str) -> None:
    assert test in set(broken(ServerOptimizerContract, plugin))
