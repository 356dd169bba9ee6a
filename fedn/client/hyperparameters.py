"""Which hyperparameters train() gets: those of the client's owner, over the plan's, over the defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fedn.domain.errors import InvalidInput
from fedn.domain.ids import ClientId, derived_seed
from fedn.domain.messages import Task
from fedn.domain.plan import Scalar

Values = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """``config`` is what train() reads; ``proximal_mu`` is in it too. Read-only."""

    config: Values
    proximal_mu: float
    measure_before_fit: bool


def resolve(
    task: Task, client: ClientId, known: Values | None, overrides: Values, whose: str
) -> Hyperparameters:
    """What a task's config means here. ``known`` are names with defaults; None takes any.

    Raises:
        InvalidInput: naming the hyperparameter that ``whose`` code does not know, and those that it does.
    """
    values = json.loads(task.config or "{}")
    mu = float(values.pop("proximal_mu", 0.0))
    measure = bool(values.pop("measure_before_fit", False))
    values |= overrides
    if known is not None:
        values = {**known, **{name: _checked(name, value, known, whose) for name, value in values.items()}}
    seed = derived_seed(task.seed, task.round, client)
    config = {**values, "round": task.round, "seed": seed, "proximal_mu": mu}
    return Hyperparameters(MappingProxyType(config), mu, measure)


def check_overrides(overrides: Values, known: Values | None, whose: str) -> None:
    """Raise InvalidInput where ``whose`` code does not know one of the owner's own, before any task comes."""
    if known is not None:
        for name, value in overrides.items():
            _checked(name, value, known, whose, "hyperparameters")


def _checked(name: str, value: Scalar, known: Values, whose: str, field: str = "config") -> Scalar:
    if name not in known:
        defaults = ", ".join(f"{other} ({default!r})" for other, default in known.items())
        remedy = f"known are, with their defaults, {defaults}" if known else "it takes none"
        raise InvalidInput(f"{field}.{name}", f"is not a hyperparameter of {whose}", remedy)
    default = known[name]
    if type(default) is float and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        problem = f"{value!r} is of type {type(value).__name__}, not {type(default).__name__}"
        raise InvalidInput(f"{field}.{name}", problem, f"give a value like {default!r}")
    return value
