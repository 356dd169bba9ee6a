"""Where a model comes from and what came of it, across sessions, as far as the trails tell.

The records of a session lead from its head to its seed; a session whose seed another one committed goes on
where that one was. `rest_models` asks; the search is bounded, newest first, and says if it was cut short.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from fedn.domain.errors import Damaged, NotFound
from fedn.domain.ids import Digest, SessionId
from fedn.domain.round import RoundRecord, read_record
from fedn.ports import SessionInfo, StateStore

PAGE = 64
"""Records read at once."""
MOST_RECORDS = 20_000
MOST_SESSIONS = 1000
MOST_GENERATIONS = 16
MOST_MADE = 100
"""Rounds told of: one that changes nothing commits the same model again."""
SEEDS = 1000
"""Seed models whose names are known here."""


@dataclass(frozen=True, slots=True)
class Made:
    """A round that committed a model."""

    session: SessionId
    name: str
    round: int
    committed_at: float


@dataclass(frozen=True, slots=True)
class Begun:
    """A session that began with a model."""

    session: SessionId
    name: str
    state: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A session on the way to a model: it began with ``seed``, and its round ``round`` led on."""

    session: SessionId
    name: str
    round: int
    seed: Digest
    seed_name: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """Who made a model, what began with it, and the sessions before it, the nearest first.

    ``name`` is the seed model's, '' for others. ``complete`` is False where the search ended at its bound.
    """

    model: Digest
    name: str
    made: tuple[Made, ...]
    begun: tuple[Begun, ...]
    ancestors: tuple[Ancestor, ...]
    complete: bool


def lineage_of(state: StateStore, model: Digest) -> Lineage:
    """Where ``model`` comes from, and what came of it."""
    return _Search(state).run(model)


class _Search:
    def __init__(self, state: StateStore) -> None:
        self._state = state
        sessions = state.sessions()
        self._sessions = sessions[:MOST_SESSIONS]
        self._left = MOST_RECORDS
        self._complete = len(sessions) <= MOST_SESSIONS
        self._names = {info.digest: info.name for info in state.models(SEEDS)}
        self._genesis: dict[SessionId, RoundRecord] = {}

    def run(self, model: Digest) -> Lineage:
        for info in self._sessions:
            for record in self._read(info.session, -1, 1):
                self._genesis[info.session] = record
        begun = tuple(
            Begun(info.session, info.name, info.state, info.created_at)
            for info in self._sessions
            if self._seed(info) == model
        )
        made = tuple(islice(self._made(model, self._sessions), MOST_MADE))
        ancestors = tuple(self._ancestors(made))
        return Lineage(model, self._names.get(model, ""), made, begun, ancestors, self._complete)

    def _seed(self, info: SessionInfo) -> Digest:
        record = self._genesis.get(info.session)
        return record.model if record else Digest("")

    def _ancestors(self, made: Sequence[Made]) -> Iterator[Ancestor]:
        """Each session's seed may be a round of an older one."""
        infos = {info.session: info for info in self._sessions}
        seen = set[SessionId]()
        while made and len(seen) < MOST_GENERATIONS and made[0].session not in seen:
            nearest = made[0]
            seen.add(nearest.session)
            info = infos[nearest.session]
            seed = self._seed(info)
            yield Ancestor(info.session, info.name, nearest.round, seed, self._names.get(seed, ""))
            older = [one for one in self._sessions if one.created_at <= info.created_at]
            made = list(islice((one for one in self._made(seed, older) if one.session not in seen), 1))

    def _made(self, model: Digest, sessions: Sequence[SessionInfo]) -> Iterator[Made]:
        """Rounds that committed ``model``, newest first."""
        for info in sessions:
            for record in self._naming(info, model):
                if record.model == model and record.round > 0:
                    yield Made(info.session, info.name, record.round, record.committed_at)

    def _naming(self, info: SessionInfo, model: Digest) -> Iterator[RoundRecord]:
        """Records of a session in which the digest stands, newest first."""
        for last in range(info.head.round, 0, -PAGE):
            if self._left <= 0:
                self._complete = False
                return
            first = max(1, last - PAGE + 1)
            self._left -= last - first + 1
            yield from reversed(self._read(info.session, first - 1, last - first + 1, model))

    def _read(self, session: SessionId, after: int, limit: int, naming: str = "") -> list[RoundRecord]:
        """Records that can be read, and of those only the ones that name something: most need no parsing."""
        found = list[RoundRecord]()
        with suppress(NotFound):  # removed meanwhile
            for _, _, raw in self._state.raw_records(session, after, limit):
                if naming.encode() in raw:
                    with suppress(Damaged):  # `fedn trail verify` says more
                        found.append(read_record(raw).record)
        return found
