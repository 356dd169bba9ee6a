"""The compute plan: what a session is to do. Bounds, defaults and words of every field live here.

The REST API, the command line and the stored form are derived from these fields, so a field added
here appears everywhere.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import InvalidPlan
from fedn.domain.ids import Digest, digest_of

Scalar = bool | int | float | str
Schedule = Mapping[str, Scalar]
"""A hyperparameter that changes: from which round on (its number as a text, '1' among them) which value."""
MAX_HYPERPARAMETERS = 64
MAX_STEPS = 256
"""Of a schedule."""
ROUND_PATTERN = "^[1-9][0-9]{0,6}$"
RESERVED = ("round", "seed", "proximal_mu", "measure_before_fit")
"""Handed to every train() beside the plan's hyperparameters."""


_RESERVED_REMEDY = "give the plan field of that name, or choose another name"


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
    server_momentum: float = _spec(0.0, "Momentum of sgd; β1 of adagrad, adam and yogi (their paper: 0.9 "
                                        "for adam and yogi).", low=0.0, high=0.999999)  # fmt: skip
    server_beta2: float = _spec(0.99, "β2 of adam and yogi: how long they remember squares.",
                                low=0.0, high=0.999999)  # fmt: skip
    server_epsilon: float = _spec(1e-3, "τ of adagrad, adam and yogi: how little they adapt.",
                                  low=1e-12, high=1e3)  # fmt: skip
    validate: bool = _spec(True, "Whether clients evaluate every committed model on their own data.")
    validation_deadline: float = _spec(120.0, "Seconds to wait for the clients' metrics.",
                                       low=0.1, high=604_800.0)  # fmt: skip
    package: str = _spec(
        "", "Digest of the compute package that clients run (see `fedn package list`); without one they run "
        "apps of their own.", pattern="^([0-9a-f]{64})?$"
    )  # fmt: skip
    check: bool = _spec(True, "Whether every client checks, before its first round, that its data and the "
                              "package go with the model; who can't take part is named.")  # fmt: skip
    proximal_mu: float = _spec(0.0, "FedProx: how strongly local training is held near the global model; "
                                    "0 is FedAvg.", low=0.0, high=1e6)  # fmt: skip
    measure_before_fit: bool = _spec(False, "Whether clients also evaluate the model they got on their own "
                                            "data before they train: metrics named before_….")  # fmt: skip
    stop_metric: str = _spec("", "Validation metric that ends the session early; '' for never.")
    stop_patience: int = _spec(3, "Rounds without a better stop_metric after which the session ends.",
                               low=1, high=1_000_000)  # fmt: skip
    stop_direction: str = _spec("max", "Whether a higher or a lower stop_metric is better.",
                                choices=("max", "min"))  # fmt: skip
    seed: int = _spec(0, "Source of every random choice of the session.", low=0, high=2**63 - 1)
    config: Mapping[str, Scalar | Schedule] = _spec(
        dict, "Hyperparameters handed to the clients' train(); a value may be a mapping of round to value."
    )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON form; `plan_from` reads it back."""
        config = {
            name: dict(value) if isinstance(value, Mapping) else value for name, value in self.config.items()
        }
        return {item.name: getattr(self, item.name) for item in fields(self)} | {"config": config}

    def config_at(self, round_: int) -> dict[str, Scalar]:
        """What train() is handed in a round, before the client's own defaults and overrides."""
        hyperparameters = {name: _at(value, round_) for name, value in self.config.items()}
        return {
            **hyperparameters,
            "proximal_mu": self.proximal_mu,
            "measure_before_fit": self.measure_before_fit,
        }

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
            close = difflib.get_close_matches(str(name)[:80].lower(), known, n=1, cutoff=0.5)
            remedy = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise InvalidPlan(str(name)[:80], "is not a plan field", remedy)
    checked = {name: _check(name, value, *known[name]) for name, value in values.items()}
    plan = Plan(**checked)
    if 0 < plan.max_clients < plan.min_clients:
        raise InvalidPlan("max_clients", f"{plan.max_clients} is less than min_clients ({plan.min_clients})",
                          "raise it, or give 0 for all")  # fmt: skip
    return plan


def _at(value: Scalar | Schedule, round_: int) -> Scalar:
    """The value that is due: the one whose round came last."""
    if not isinstance(value, Mapping):
        return value
    return value[str(max(int(start) for start in value if int(start) <= round_))]


def _check(name: str, value: Any, kind: type, metadata: Mapping[str, Any]) -> Any:
    if name == "config":
        return _check_config(value)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise InvalidPlan(name, f"{value!r} is not {_word(kind)}", f"give {_word(kind)}")
    if "choices" in metadata and value not in metadata["choices"]:
        raise InvalidPlan(name, f"{value!r} is unknown", f"choose one of {', '.join(metadata['choices'])}")
    if "pattern" in metadata and not re.fullmatch(metadata["pattern"], str(value)):
        raise InvalidPlan(
            name, f"{str(value)[:80]!r} is not a sha256 digest", "give 64 hexadecimal digits, or ''"
        )
    if "low" in metadata and not metadata["low"] <= value <= metadata["high"]:
        raise InvalidPlan(name, f"{value} is out of bounds", f"give {metadata['low']} to {metadata['high']}")
    return value


def _check_config(value: Any) -> Mapping[str, Scalar | Schedule]:
    if not isinstance(value, Mapping) or len(value) > MAX_HYPERPARAMETERS:
        raise InvalidPlan("config", "is not a small mapping", f"give at most {MAX_HYPERPARAMETERS} names")
    for name, item in value.items():
        if not isinstance(name, str) or not 1 <= len(name) <= 64:
            raise InvalidPlan("config", f"{name!r} is not a name", "use 1–64 characters")
        if name in RESERVED:
            raise InvalidPlan(f"config.{name}", "is set by the system", _RESERVED_REMEDY)
        if isinstance(item, Mapping):
            _check_schedule(name, item)
        else:
            _check_scalar(name, item)
    return MappingProxyType({name: _frozen(item) for name, item in value.items()})


def _frozen(item: Any) -> Any:
    return MappingProxyType(dict(item)) if isinstance(item, Mapping) else item


def _check_scalar(name: str, item: object) -> None:
    if not isinstance(item, bool | int | float | str) or (isinstance(item, str) and len(item) > 4096):
        raise InvalidPlan(f"config.{name}", f"{type(item).__name__} is not a plain value",
                          "give a number, a boolean, a short text, or these by round")  # fmt: skip
    if isinstance(item, float) and not math.isfinite(item):
        raise InvalidPlan(f"config.{name}", "is not finite", "give a finite number")


def _check_schedule(name: str, steps: Mapping[Any, Any]) -> None:
    example = 'give values by round, such as {"1": 0.1, "10": 0.01}'
    if not 1 <= len(steps) <= MAX_STEPS or "1" not in steps:
        raise InvalidPlan(f"config.{name}", f"is a schedule without round 1, or of over {MAX_STEPS}", example)
    for start, item in steps.items():
        if not isinstance(start, str) or not re.fullmatch(ROUND_PATTERN, start):
            raise InvalidPlan(f"config.{name}", f"{str(start)[:80]!r} is not the number of a round", example)
        _check_scalar(f"{name}.{start}", item)
    kinds = {"number" if type(item) in (int, float) else type(item).__name__ for item in steps.values()}
    if len(kinds) > 1:
        raise InvalidPlan(f"config.{name}", "changes its type between rounds", "give values of one type")


def _word(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kind]
