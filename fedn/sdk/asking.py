"""What a session's clients answer when they are asked to evaluate or predict, apart from its rounds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fedn.sdk.http import Reducer

LOOK_SECONDS = 0.3
"""Between two looks while clients work."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One client's: of how many of its examples, and metrics by name (NaN where it is no finite number)."""

    examples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Answers:
    """Of an 'evaluation' or 'prediction' (``kind``) of ``model``, the sha256 of what ``round`` made.

    ``clients`` holds each client's `Answer` by its id, ``failed`` of the others, in a sentence, why there is
    none, and ``metrics`` the example-weighted means over those that answered. ``round`` is 0 for the seed,
    and for a model that is not of the session.
    """

    id: str
    session: str
    kind: str
    round: int
    model: str
    clients: Mapping[str, Answer]
    failed: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def examples(self) -> int:
        """Of all that answered."""
        return sum(answer.examples for answer in self.clients.values())


def ask(reducer: Reducer, session: str, what: str, body: Mapping[str, Any]) -> Answers:
    """Ask, and wait until everybody has answered or can't any more: the plan's validation_deadline at most,
    and a minute for links that break.
    """
    path = f"/sessions/{session}"
    form = reducer.post(f"{path}/{what}", body)
    while form["running"]:
        time.sleep(LOOK_SECONDS)
        form = reducer.get(f"{path}/inquiries/{form['inquiry']}")
    return _answers(form)


def _answers(form: Mapping[str, Any]) -> Answers:
    clients = {one["client"]: Answer(one["examples"], _numbers(one["metrics"])) for one in form["answers"]}
    failed = {one["client"]: one["reason"] for one in form["failed"]}
    return Answers(
        form["inquiry"], form["session"], form["kind"], form["round"], form["model"],
        MappingProxyType(clients), MappingProxyType(failed), _numbers(form["means"]["metrics"]),
    )  # fmt: skip


def _numbers(metrics: Mapping[str, float | None]) -> Mapping[str, float]:
    """JSON has no word for what is not finite."""
    return MappingProxyType(
        {name: float("nan") if value is None else value for name, value in metrics.items()}
    )
