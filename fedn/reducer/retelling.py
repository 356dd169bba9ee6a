"""What exporters have missed: sessions as they are stored, told as if it happened now. Blocking.

A reducer that was killed leaves events untold, and so does an exporter that was too slow, or could not write.
`observing` asks here when a reducer starts, of the sessions that were there before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import nan
from typing import Any

from fedn.domain.ids import Digest
from fedn.domain.messages import TaskKind
from fedn.domain.round import RoundRecord
from fedn.ports import Observed, Remembering, SessionInfo, StateStore
from fedn.reducer.books import PAUSED, RUNNING
from fedn.reducer.metrics import by_round, pages, summary
from fedn.reducer.scores import best_of, direction_of, metric_of

TRAINED, VALIDATED = TaskKind.TRAIN, TaskKind.VALIDATE
MAX_SESSIONS = 64
"""The newest ones, which are looked through."""


class Past:
    """The sessions of a store as they are now; what comes after this is not told here."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._sessions: Sequence[SessionInfo] = state.sessions()[:MAX_SESSIONS][::-1]

    def __iter__(self) -> Iterator[SessionInfo]:
        """Oldest first."""
        return iter(self._sessions)

    def missed_by(self, exporter: Remembering, info: SessionInfo) -> Iterator[Observed]:
        """What it was not told of a session, in order. Raises what store and exporter raise."""
        yield from self._of(info, exporter.told(info.session))

    def _of(self, info: SessionInfo, told: Collection[tuple[str, int]]) -> Iterator[Observed]:
        ending, over = f"session_{info.state}", info.state not in (RUNNING, PAUSED)
        open_ = (ending, 0) in told  # what comes behind an end opens nothing again
        for observed in self._story(info):
            if (observed.event, observed.fields["round"]) in told:
                continue
            if not open_ and observed.event != "session_started":
                yield Observed("session_recovered", about(info, info.head.round, info.head.model))
            open_ = True
            yield observed
        if over and (ending, 0) not in told:
            yield Observed(ending, {"session": info.session, "reason": info.reason})

    def _story(self, info: SessionInfo) -> Iterator[Observed]:
        """All of a session but its end; of its best models the last one."""
        seed = self._state.record(info.session, 0).record.model
        yield Observed("session_started", about(info, 0, seed))
        means = {item["round"]: item for rows in pages(self._state, info.session) for item in by_round(rows)}
        after = 0
        while stored := self._state.records(info.session, after=after):
            for item in stored:
                yield from _round(info, item.record, means.get(item.record.round, {}))
            after = stored[-1].record.round
        metric = metric_of(info.plan)
        values = {
            n: item[VALIDATED]["metrics"].get(metric, nan) for n, item in means.items() if VALIDATED in item
        }
        if best := best_of(values, direction_of(info.plan)):
            model = self._state.record(info.session, best.round).record.model
            fields = {"round": best.round, "model": model, "metric": metric, "value": best.value}
            yield Observed("best_model", {"session": info.session, **fields})


def about(info: SessionInfo, round_: int, model: Digest) -> dict[str, Any]:
    """What the beginning of a session is told with, the first one or after a restart."""
    return {"session": info.session, "name": info.name, "round": round_, "rounds": info.plan.rounds,
            "model": model, "plan": info.plan.as_dict()}  # fmt: skip


def _round(info: SessionInfo, record: RoundRecord, means: Mapping[str, Any]) -> Iterator[Observed]:
    fields = {
        "session": info.session, "round": record.round, "rounds": info.plan.rounds, "model": record.model,
        "contributors": len(record.contributors), "refused": [one.client for one in record.refused],
        "lost": [one.client for one in record.lost], "train": means.get(TRAINED) or summary(()),
    }  # fmt: skip
    yield Observed("round_committed", fields)
    if VALIDATED in means:
        yield Observed(
            "round_validated", {"session": info.session, "round": record.round, **means[VALIDATED]}
        )
