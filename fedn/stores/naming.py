"""Which blobs the records name: what retention and the collector must know before they remove anything.

Reads records in pages and keeps digests alone, so that it holds a network of many long sessions. What a
damaged record names can't be known, so it is an error here: nothing is removed on a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from fedn.domain.errors import Damaged, NotFound
from fedn.domain.ids import Digest, SessionId
from fedn.domain.round import RoundRecord
from fedn.ports import SessionInfo, StateStore

PAGE = 64
"""Records read at once."""
LISTED = 2**31
"""More than there are models, packages, tokens or members."""

Told = Callable[[str, int, int], None]
"""Told (what is being done, how much of it is done, how much there is)."""


def unheard(what: str, done: int, total: int) -> None:
    """For who does not want to be told."""


@dataclass(frozen=True, slots=True)
class Named:
    """What one record names. ``optimizer_state`` may be ''."""

    round: int
    model: Digest
    optimizer_state: str


class Trails:
    """Everything that the records of all sessions name, as far as they were read.

    ``named`` has a session's records in order. Call `read` again to go on with what was committed since.
    """

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self.infos: dict[SessionId, SessionInfo] = {}
        self.named: dict[SessionId, list[Named]] = {}

    def read(self, told: Told = unheard) -> set[Digest]:
        """Read on to the head of every session, newly begun ones included; returns the models named there.

        Raises:
            Damaged: a record can't be read.
        """
        infos = self._state.sessions()
        self.infos |= {info.session: info for info in infos}
        total = sum(info.head.round + 1 for info in infos)
        found = set[Digest]()
        for info in infos:
            with suppress(NotFound):  # removed meanwhile
                for page in self._read_on(info):
                    found |= {named.model for named in page}
                    told("reading records", self.records, max(self.records, total))
        return found

    @property
    def records(self) -> int:
        return sum(map(len, self.named.values()))

    def blobs(self) -> set[Digest]:
        """Models and optimizer states that the records read so far name."""
        found = set[Digest]()
        for records in self.named.values():
            for named in records:
                found.add(named.model)
                if named.optimizer_state:
                    found.add(Digest(named.optimizer_state))
        return found

    def packages(self) -> set[Digest]:
        """Of the sessions' plans."""
        return {Digest(info.plan.package) for info in self.infos.values() if info.plan.package}

    def _read_on(self, info: SessionInfo) -> Iterator[list[Named]]:
        session, known = info.session, self.named.setdefault(info.session, [])
        if known and known[-1].round >= info.head.round:
            return
        while True:
            try:
                page = self._state.records(session, known[-1].round if known else -1, PAGE)
            except Damaged as error:
                raise Damaged(
                    f"{error.message}, so what it names can't be known, and nothing is removed: "
                    f"`fedn trail verify {session}` says more", session=session,
                ) from None  # fmt: skip
            if not page:
                return
            read = [_named(stored.record) for stored in page]
            known += read
            yield read


def _named(record: RoundRecord) -> Named:
    """As texts, whatever a forged record holds in their place."""
    return Named(record.round, Digest(str(record.model)), str(record.optimizer_state))


def listed(state: StateStore) -> set[Digest]:
    """Seed models and packages, which people gave and only people take away."""
    seeds, packages = state.models(LISTED), state.packages(LISTED)
    return {info.digest for info in seeds} | {info.digest for info in packages}
