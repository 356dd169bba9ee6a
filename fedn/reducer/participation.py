"""What each client did in a session, from its trail and its stored metrics. Blocking, as the stores are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from fedn.domain.ids import ClientId, SessionId
from fedn.domain.messages import TaskKind
from fedn.domain.round import RoundRecord
from fedn.domain.update import TRAIN_SECONDS
from fedn.ports import StateStore
from fedn.reducer.metrics import pages


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


@dataclass(slots=True)
class _Everybody:
    found: dict[ClientId, Participation] = field(default_factory=dict)
    seconds: dict[ClientId, list[float]] = field(default_factory=lambda: defaultdict(list))

    def of(self, client: ClientId) -> Participation:
        return self.found.setdefault(client, Participation(client))

    def count(self, record: RoundRecord) -> None:
        for contributor in record.contributors:
            one = self.of(contributor.client)
            one.rounds += 1
            one.examples += contributor.examples
            one.last_round = record.round
        for absence in record.refused:
            self.of(absence.client).refused += 1
        for absence in record.lost:
            self.of(absence.client).lost += 1


def participation(state: StateStore, session: SessionId) -> list[Participation]:
    """Everybody who contributed, was refused or lost, or reported anything, sorted by id."""
    everybody, after = _Everybody(), -1
    while stored := state.records(session, after=after):
        for item in stored:
            everybody.count(item.record)
        after = stored[-1].record.round
    for rows in pages(state, session):
        for row in rows:
            one = everybody.of(row.client)
            if row.kind == TaskKind.TRAIN:
                one.train = Reported(row.round, row.examples, row.metrics)
                if TRAIN_SECONDS in row.metrics:
                    everybody.seconds[row.client].append(row.metrics[TRAIN_SECONDS])
            elif row.kind == TaskKind.VALIDATE:
                one.validate = Reported(row.round, row.examples, row.metrics)
    for client, seconds in everybody.seconds.items():
        everybody.found[client].train_seconds = fmean(seconds)
    return [one for _, one in sorted(everybody.found.items())]
