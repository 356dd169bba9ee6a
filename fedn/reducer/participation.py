"""What each client did in a session, from its trail and its stored metrics. Blocking, as the stores are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fedn.domain.ids import ClientId, SessionId
from fedn.domain.messages import TaskKind
from fedn.domain.round import RoundRecord
from fedn.domain.update import TRAIN_SECONDS
from fedn.ports import MetricRow, StateStore
from fedn.reducer.metrics import pages
from fedn.reducer.spooling import Few


@dataclass(frozen=True, slots=True)
class Reported:
    """Metrics of a client, and the round that they are of."""

    round: int
    examples: int
    metrics: Mapping[str, float]


@dataclass(slots=True)
class Participation:
    """One client's. ``examples`` is the sum of its weights; ``train`` and ``validate`` hold its last.

    ``train_seconds`` is the mean of its trainings, as it measured them; None if it never said.
    """

    client: ClientId
    rounds: int = 0
    last_round: int = 0
    examples: int = 0
    refused: int = 0
    lost: int = 0
    train_seconds: float | None = None
    train: Reported | None = None
    validate: Reported | None = None


class Everybody:
    """Everybody's, from records and metric rows in the order of their rounds."""

    def __init__(self) -> None:
        self._found: dict[ClientId, Participation] = {}
        self._seconds: dict[ClientId, tuple[int, float]] = {}

    def copy(self) -> Everybody:
        """One that may go on by itself."""
        made = Everybody()
        made._found = {client: replace(one) for client, one in self._found.items()}
        made._seconds = dict(self._seconds)
        return made

    def count(self, record: RoundRecord) -> None:
        """A round was committed."""
        for contributor in record.contributors:
            one = self._of(contributor.client)
            one.rounds += 1
            one.examples += contributor.examples
            one.last_round = record.round
        for absence in record.refused:
            self._of(absence.client).refused += 1
        for absence in record.lost:
            self._of(absence.client).lost += 1

    def note(self, rows: Iterable[MetricRow]) -> None:
        """What they reported."""
        for row in rows:
            one = self._of(row.client)
            if row.kind == TaskKind.TRAIN:
                one.train = Reported(row.round, row.examples, row.metrics)
                if TRAIN_SECONDS in row.metrics:
                    count, total = self._seconds.get(row.client, (0, 0.0))
                    count, total = count + 1, total + row.metrics[TRAIN_SECONDS]
                    self._seconds[row.client] = count, total
                    one.train_seconds = total / count
            elif row.kind == TaskKind.VALIDATE and (one.validate is None or row.round >= one.validate.round):
                one.validate = Reported(row.round, row.examples, row.metrics)

    def listed(self) -> list[Participation]:
        """By id."""
        return [one for _, one in sorted(self._found.items())]

    def _of(self, client: ClientId) -> Participation:
        return self._found.setdefault(client, Participation(client))


_HISTORIES = Few(4, "histories of whole sessions")
"""Of a large session one takes a processor for seconds."""


def participation(state: StateStore, session: SessionId) -> list[Participation]:
    """Everybody who contributed, was refused or lost, or reported anything, sorted by id. Raises Busy."""
    with _HISTORIES.one():
        return _participation(state, session)


def _participation(state: StateStore, session: SessionId) -> list[Participation]:
    everybody, after = Everybody(), -1
    while stored := state.records(session, after=after):
        for item in stored:
            everybody.count(item.record)
        after = stored[-1].record.round
    for rows in pages(state, session):
        everybody.note(rows)
    return everybody.listed()
