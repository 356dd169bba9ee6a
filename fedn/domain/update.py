"""A model update on its way: the header that is offered, and the contributor it becomes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from fedn.domain.errors import InvalidInput
from fedn.domain.ids import ClientId, Digest, SessionId, check_digest, check_id

MAX_EXAMPLES = 2**40
"""Largest weight of one update; keeps sums of weights exact in float64 for 8,192 clients and more."""
MAX_METRICS = 64
TRAIN_SECONDS = "train_seconds"
"""The training metric that a client adds itself: how long it took, by its own clock."""


@dataclass(frozen=True, slots=True)
class UpdateHeader:
    """What a client says of an update before a byte of it travels.

    Its identity is (session, round, client); the same identity with another digest is refused.
    ``examples`` is the weight in the mean; ``size`` is the file's length in bytes.
    """

    session: SessionId
    round: int
    client: ClientId
    base_model: Digest
    examples: int
    size: int
    digest: Digest
    layout: Digest
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contributor:
    """A client in a part or record: whose update counted, with which weight and digest."""

    client: ClientId
    examples: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Absence:
    """A listed client that did not contribute, and why."""

    client: ClientId
    reason: str


def check_header(header: UpdateHeader) -> UpdateHeader:
    """Check the shape of a header that came from outside; raise InvalidInput naming the field."""
    check_id("session", header.session)
    check_id("client", header.client)
    check_digest("base_model", header.base_model)
    check_digest("digest", header.digest)
    check_digest("layout", header.layout)
    if header.round < 1:
        raise InvalidInput("round", f"{header.round} is not a round", "rounds count from 1")
    check_metrics(header.metrics)
    return header


def check_metrics(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """Bound the number of metrics and the length of their names; raise InvalidInput otherwise."""
    if len(metrics) > MAX_METRICS:
        raise InvalidInput("metrics", f"{len(metrics)} metrics", f"at most {MAX_METRICS} are taken")
    for name in metrics:
        if not 1 <= len(name) <= 64:
            raise InvalidInput("metrics", f"name {name[:80]!r}", "use 1–64 characters")
    return metrics


def timed(metrics: Mapping[str, float], seconds: float) -> Mapping[str, float]:
    """Training metrics with how long the training took; left out where there is no place for one more."""
    full = len(metrics.keys() - {TRAIN_SECONDS}) >= MAX_METRICS
    return metrics if full else {**metrics, TRAIN_SECONDS: seconds}


def check_report(examples: int, metrics: Mapping[str, float]) -> None:
    """Check a validation's weight and metrics; raise InvalidInput naming what is wrong."""
    if not 0 <= examples <= MAX_EXAMPLES:
        raise InvalidInput("examples", f"{examples}", f"0 to {MAX_EXAMPLES} are allowed")
    check_metrics(metrics)


def finite_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are numbers; NaN and infinities can't be stored as JSON and are left out."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
