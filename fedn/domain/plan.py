"""The compute plan: what a session is to do. Bounds, defaults and words of every field live here.

The REST API, the command line and the stored form are derived from these fields, so a field added
here appears everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import InvalidPlan
from fedn.domain.ids import Digest, digest_of

Scalar = bool | int | float | str
MAX_HYPERPARAMETERS = 64


def _spec(default: Any, doc: str, **bounds: Any) -> Any:
    metadata = {"doc": doc, **bounds}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Plan:
    """One field, one default, one bound, one sentence each."""

    rounds: int = _spec(10, "How many rounds to commit.", low=1, high=1_000_000)
    min_clients: int = _spec(1, "A round waits until this many clients can take part, and needs as many "
                                "updates to commit.", low=1, high=1_000_000)  # fmt: skip
    max_clients: int = _spec(0, "At most this many clients take part in a round; 0 means all.",
                             low=0, high=1_000_000)  # fmt: skip
    round_deadline: float = _spec(600.0, "Seconds a combiner waits for updates before it seals.",
                                  low=0.1, high=604_800.0)  # fmt: skip
    averaging: str = _spec("weighted", "'weighted': every update counts by its examples, so the hierarchy "
                           "equals flat FedAvg; 'simple': every combiner's mean counts the same.",
                           choices=("weighted", "simple"))  # fmt: skip
    selection: str = _spec("uniform", "Name of the client selector (see `fedn plugins`).")
    aggregator: str = _spec("mean", "Name of the aggregator.")
    server_optimizer: str = _spec("sgd", "Name of the server optimizer; sgd with learning rate 1 makes the "
                                         "new model the mean.")  # fmt: skip
    server_learning_rate: float = _spec(1.0, "Step of the server optimizer towards the mean.",
                                        low=1e-9, high=1e3)  # fmt: skip
    validate: bool = _spec(True, "Whether clients evaluate every committed model on their own data.")
    validation_deadline: float = _spec(120.0, "Seconds to wait for the clients' metrics.",
                                       low=0.1, high=604_800.0)  # fmt: skip
    seed: int = _spec(0, "Source of every random choice of the session.", low=0, high=2**63 - 1)
    config: Mapping[str, Scalar] = _spec(dict, "Hyperparameters handed to the clients' train().")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON form; `plan_from` reads it back."""
        return {item.name: getattr(self, item.name) for item in fields(self)} | {"config": dict(self.config)}

    @property
    def digest(self) -> Digest:
        """sha256 of the canonical JSON of the plan; every round record names it."""
        return digest_of(canonical_json(self.as_dict()))


def plan_fields() -> Iterator[tuple[str, type, Any, Mapping[str, Any]]]:
    """(name, type, default, metadata) of every field, for forms, options and docs."""
    for item in fields(Plan):
        default = _default(item)
        yield item.name, type(default), default, item.metadata


def _default(item: Field[Any]) -> Any:
    if item.default is not MISSING:
        return item.default
    assert item.default_factory is not MISSING
    return item.default_factory()


def plan_from(values: Mapping[str, Any]) -> Plan:
    """Build a plan from JSON values, checking names, types and bounds.

    Raises:
        InvalidPlan: naming the field, what was wrong and what to do.
    """
    known = {name: (kind, metadata) for name, kind, _, metadata in plan_fields()}
    for name in values:
        if name not in known:
            raise InvalidPlan(str(name)[:80], "is not a plan field", f"known are {', '.join(known)}")
    checked = {name: _check(name, value, *known[name]) for name, value in values.items()}
    plan = Plan(**checked)
    if 0 < plan.max_clients < plan.min_clients:
        raise InvalidPlan("max_clients", f"{plan.max_clients} is less than min_clients ({plan.min_clients})",
                          "raise it, or give 0 for all")  # fmt: skip
    return plan


def _check(name: str, value: Any, kind: type, metadata: Mapping[str, Any]) -> Any:
    if name == "config":
        return _check_config(value)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise InvalidPlan(name, f"{value!r} is not {_word(kind)}", f"give {_word(kind)}")
    if "choices" in metadata and value not in metadata["choices"]:
        raise InvalidPlan(name, f"{value!r} is unknown", f"choose one of {', '.join(metadata['choices'])}")
    if "low" in metadata and not metadata["low"] <= value <= metadata["high"]:
        raise InvalidPlan(name, f"{value} is out of bounds", f"give {metadata['low']} to {metadata['high']}")
    return value


def _check_config(value: Any) -> Mapping[str, Scalar]:
    if not isinstance(value, Mapping) or len(value) > MAX_HYPERPARAMETERS:
        raise InvalidPlan("config", "is not a small mapping", f"give at most {MAX_HYPERPARAMETERS} names")
    for name, item in value.items():
        if not isinstance(name, str) or not 1 <= len(name) <= 64:
            raise InvalidPlan("config", f"{name!r} is not a name", "use 1–64 characters")
        if not isinstance(item, bool | int | float | str) or (isinstance(item, str) and len(item) > 4096):
            raise InvalidPlan(f"config.{name}", f"{type(item).__name__} is not a plain value",
                              "give a number, a boolean or a short text")  # fmt: skip
        if isinstance(item, float) and not math.isfinite(item):
            raise InvalidPlan(f"config.{name}", "is not finite", "give a finite number")
    return MappingProxyType(dict(value))


def _word(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kind]
