"""Data owners of a `fedn.fit` that are in this process: each an app for the client's trainer.

The app takes and gives tensors; the model is lent from the `Bench` for as long as a task works on it. What
the functions of a framework are, where nobody gave others, is in `defaults`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fedn.client.results import report_result, train_result
from fedn.domain.errors import InvalidInput
from fedn.domain.ids import derived_seed
from fedn.ports import Tensors
from fedn.sdk.bench import Bench
from fedn.sdk.defaults import Functions

_log = logging.getLogger("fedn.sdk")


@dataclass(frozen=True, slots=True)
class Failure:
    """What an owner's function raised."""

    owner: str
    error: BaseException


class OwnerApp:
    """One owner's app, as `fedn.client.trainer.AppTrainer` has them."""

    helper = "numpy"
    """The bench knows the model's own."""

    def __init__(
        self, owner: str, data: Any, bench: Bench, functions: Functions, seed: int,
        failed: Callable[[Failure], None],
    ) -> None:  # fmt: skip
        """``seed`` is the plan's; ``failed`` hears of what the functions raise."""
        self._owner = owner
        self._data = data
        self._bench = bench
        self._functions = functions
        self._seed = seed
        self._failed = failed
        if functions.validate is not None:
            self.validate = self._validate

    def train(self, tensors: Tensors, config: Mapping[str, Any]) -> Any:
        """The same in every network: the seed depends on plan, round and owner, not on the client's id."""
        seed = derived_seed(self._seed, config["round"], self._owner)
        given = MappingProxyType({**config, "seed": seed})
        with self._bench.lent(tensors, seed) as model:
            with self._bench.proximal(model, config["proximal_mu"]):
                result = self._call(self._functions.train, model, self._data, given)
            trained, examples, metrics = train_result(f"train() of {self._owner}", result)
            return self._bench.tensors(trained), examples, metrics

    def _validate(self, tensors: Tensors) -> Any:
        assert self._functions.validate is not None
        with self._bench.lent(tensors, derived_seed(self._seed, "validate", self._owner)) as model:
            return self._call(self._functions.validate, model, self._data)

    def check(self, tensors: Tensors) -> Any:
        """Whether the model goes with the data, as far as validate() finds out."""
        if self._functions.validate is not None:
            return self._validate(tensors)
        with self._bench.lent(tensors):
            return None

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except BaseException as error:
            self._failed(Failure(self._owner, error))
            raise


def evaluated(bench: Bench, evaluate: Callable[[Any], Any], tensors: Tensors) -> Mapping[str, float]:
    """What ``evaluate(model)`` says of a model with these weights: its metrics.

    Raises:
        InvalidInput: it returned no metrics.
    """
    with bench.lent(tensors) as model:
        return report_result("evaluate()", evaluate(model))[1]


def named(owners: Any) -> dict[str, Any]:
    """Owners' data by name; those of a list are owner-1, owner-2, …

    Raises:
        InvalidInput: there is none.
    """
    found = (
        dict(owners)
        if isinstance(owners, Mapping)
        else {f"owner-{number}": data for number, data in enumerate(owners, 1)}
    )
    if not found:
        raise InvalidInput("data_owners", "are none", "give the data of at least one")
    return found
