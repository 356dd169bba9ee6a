"""Clients' metrics as they are stored: read by whole rounds, averaged by examples, the best round of them.

Rows come from `intake.py` (training), `validating.py` and `checking.py`. Blocking, as the stores are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedn.domain.errors import NotFound
from fedn.domain.ids import Digest, SessionId
from fedn.domain.messages import TaskKind
from fedn.domain.update import TRAIN_SECONDS
from fedn.ports import MetricRow, SessionInfo, StateStore
from fedn.reducer.scores import best_of, direction_of, metric_of

PAGE_ROWS = 10_000
TIMING = "timing"
"""The kind of rows that say where a client's time went; they say nothing of the model."""
KINDS = (str(TaskKind.CHECK), str(TaskKind.TRAIN), str(TaskKind.VALIDATE), TIMING)

# --- reading ---------------------------------------------------------------------------------------


def whole_rounds(
    state: StateStore, session: SessionId, after: int, limit: int = PAGE_ROWS
) -> tuple[list[MetricRow], int | None]:
    """Metric rows of whole rounds above ``after``, about ``limit`` of them, and where to go on (or None).

    A round is never cut in two, because its mean would be wrong.
    """
    while True:
        rows = list(state.metrics(session, after=after, limit=limit))
        if len(rows) < limit:
            return rows, None
        kept = [row for row in rows if row.round < rows[-1].round]
        if kept:
            return kept, kept[-1].round
        limit *= 2


def pages(state: StateStore, session: SessionId) -> Iterator[list[MetricRow]]:
    """All rows of a session, whole rounds at a time."""
    following: int | None = -1
    while following is not None:
        rows, following = whole_rounds(state, session, following)
        yield rows


# --- means -----------------------------------------------------------------------------------------


def mean_metrics(rows: Iterable[MetricRow]) -> dict[str, float]:
    """Σ examples·value / Σ examples of each metric over the clients that report it as a finite number.

    How long they trained is left out: it says something of each client, and nothing of the model.
    """
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in rows:
        for name, value in row.metrics.items():
            if math.isfinite(value) and row.examples > 0 and name != TRAIN_SECONDS:
                sums[name][0] += row.examples * value
                sums[name][1] += row.examples
    return {name: total / weight for name, (total, weight) in sorted(sums.items())}


def summary(rows: Sequence[MetricRow]) -> dict[str, Any]:
    """How many clients and examples, and the example-weighted means; of timings, the plain ones."""
    examples = sum(row.examples for row in rows)
    alike = [replace(row, examples=1) if row.kind == TIMING else row for row in rows]
    return {"clients": len(rows), "examples": examples, "metrics": mean_metrics(alike)}


def by_round(rows: Sequence[MetricRow]) -> list[dict[str, Any]]:
    """Rounds with, for each kind of metrics, how many clients and examples, and the weighted means."""
    grouped: dict[int, dict[str, list[MetricRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        grouped[row.round][row.kind].append(row)
    return [
        {"round": number} | {kind: summary(of_kind) for kind, of_kind in sorted(kinds.items())}
        for number, kinds in sorted(grouped.items())
    ]


# --- the best --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Best:
    """The model with the best example-weighted mean of a validation metric; of equals, the earliest."""

    round: int
    model: Digest
    metric: str
    value: float


def validation_means(state: StateStore, session: SessionId) -> dict[int, dict[str, float]]:
    """The clients' means by validated round."""
    means: dict[int, dict[str, float]] = {}
    for rows in pages(state, session):
        for item in by_round([row for row in rows if row.kind == TaskKind.VALIDATE]):
            means[item["round"]] = item[TaskKind.VALIDATE]["metrics"]
    return means


def best_model(state: StateStore, info: SessionInfo, metric: str = "", direction: str = "") -> Best:
    """The best by ``metric``; if none is given by the plan's, and else by accuracy.

    Raises:
        NotFound: no validated round has that metric.
    """
    wanted = metric or metric_of(info.plan)
    usual = direction_of(info.plan) if wanted == metric_of(info.plan) else "max"
    means = validation_means(state, info.session)
    values = {round_: of_round[wanted] for round_, of_round in means.items() if wanted in of_round}
    best = best_of(values, direction or usual)
    if best is None:
        known = sorted({name for of_round in means.values() for name in of_round})
        there = f"there are {', '.join(known)}" if known else "there are no metrics yet"
        raise NotFound(f"no validated round has the metric {wanted[:80]!r}; {there}", metric=wanted[:80])
    return Best(best.round, state.record(info.session, best.round).record.model, wanted, best.value)
