"""Plans whose numbers would be wrong are refused with the field, the reason and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fedn import plugins
from fedn.aggregation.mean import Mean
from fedn.aggregation.optimizers import Adagrad, Adam, Sgd, Yogi
from fedn.domain.errors import InvalidInput
from fedn.domain.plan import plan_from
from fedn.reducer.numerics import aggregator_of, check_numerics, optimizer_of


class Median(Mean):
    mergeable = False


class Silent(Mean):
    mergeable: Any = None


class Bare:
    """What it would be without having read anything."""

    def zero(self) -> None: ...


class Plain:
    """An optimizer that asks for nothing."""

    slots: Mapping[str, float] = {}

    def step(self, base: Any, mean: Any, memory: Any, number: int) -> Any:
        return mean


class Greedy(Plain):
    def __init__(self, learning_rate: float, temperature: float) -> None: ...


class Slotted(Plain):
    slots: Any = ("m",)


KINDS = {kind.__name__.lower(): kind for kind in (
    Mean, Median, Silent, Bare, Sgd, Adagrad, Adam, Yogi, Plain, Greedy, Slotted,
)}  # fmt: skip


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "load", lambda group, name: KINDS[name])


def test_an_optimizer_gets_what_its_constructor_names() -> None:
    plan = plan_from({"server_optimizer": "adam", "server_learning_rate": 0.5, "server_momentum": 0.9,
                      "server_beta2": 0.5, "server_epsilon": 0.25})  # fmt: skip
    adam = optimizer_of(plan)
    assert isinstance(adam, Adam)
    assert (adam.learning_rate, adam.momentum, adam.beta2, adam.epsilon) == (0.5, 0.9, 0.5, 0.25)
    assert isinstance(optimizer_of(plan_from({"server_optimizer": "plain"})), Plain)
    assert optimizer_of(plan_from({})).slots == {}


@pytest.mark.parametrize(
    ("plan", "combiners", "words"),
    [
        ({"server_beta2": 0.5}, "a", "server_beta2: means nothing to the server optimizer 'sgd' — leave"),
        ({"server_optimizer": "adagrad", "server_beta2": 0.5}, "a", "server_beta2: means nothing"),
        ({"server_optimizer": "plain", "server_learning_rate": 2.0}, "a", "server_learning_rate: means"),
        ({"server_optimizer": "greedy"}, "a", "server_optimizer: 'greedy' can't be built: .*temperature"),
        ({"server_optimizer": "slotted"}, "a", "server_optimizer: its slots are not a mapping"),
        ({"server_optimizer": "mean"}, "a", "server_optimizer: 'mean' lacks slots, step"),
        ({"aggregator": "bare"}, "a", "aggregator: 'bare' lacks mergeable, elements, accumulate, merge, rep"),
        ({"aggregator": "silent"}, "a", "aggregator: 'silent' does not say whether its parts merge"),
        ({"aggregator": "median"}, "ba", "'median' don't merge, and 2 combiners are live — stop .* of a, b"),
        (
            {"aggregator": "median", "averaging": "simple"},
            "a",
            "averaging: 'simple' .* 'median' has",
        ),
    ],
)
def test_a_plan_that_would_be_wrong_is_refused(plan: dict[str, Any], combiners: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_numerics(plan_from(plan), combiners)


@pytest.mark.parametrize(
    ("plan", "combiners"),
    [
        ({}, "abc"),
        ({"averaging": "simple"}, "abc"),
        ({"aggregator": "median"}, "a"),
        ({"aggregator": "median"}, ""),
        ({"server_optimizer": "yogi", "server_momentum": 0.9}, "ab"),
    ],
)
def test_the_others_are_not(plan: dict[str, Any], combiners: str) -> None:
    check_numerics(plan_from(plan), combiners)
    assert aggregator_of(plan_from(plan)).mergeable is ("aggregator" not in plan)
