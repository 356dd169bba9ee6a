"""Where every client of a part stands, and what that comes to. Pure; `machine.py` decides upon it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from fedn.domain.errors import RefusalCode
from fedn.domain.ids import ClientId
from fedn.domain.round import RoundSpec
from fedn.domain.update import Absence, Contributor, UpdateHeader


class Standing(StrEnum):
    """Where one listed client stands in this part."""

    WAITING = "waiting"
    GRANTED = "granted"
    FOLDING = "folding"
    FOLDED = "folded"
    REFUSED = "refused"
    FAILED = "failed"
    LOST = "lost"
    RELEASED = "released"


PENDING = frozenset({Standing.GRANTED, Standing.FOLDING})
UNDECIDED = PENDING | {Standing.WAITING}
EXPECTED = frozenset({Standing.WAITING, Standing.GRANTED})
"""Something is still to come from the client itself."""
EMPTY_HANDED = frozenset({Standing.WAITING, Standing.REFUSED, Standing.FAILED})
"""The client holds no update of this round that could still count."""
RETURNING = frozenset({Standing.LOST, Standing.FAILED})
"""Nothing is waited for, but a client that attaches anew is asked again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A listed client. ``away_since`` is set while it is not attached and still expected."""

    standing: Standing = Standing.WAITING
    header: UpdateHeader | None = None
    reason: str = ""
    code: RefusalCode | None = None
    away_since: float | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Every offer is in exactly one place: offered = pending + folded + refused + lost + discarded."""

    offered: int = 0
    pending: int = 0
    folded: int = 0
    refused: int = 0
    lost: int = 0
    discarded: int = 0

    @property
    def balanced(self) -> bool:
        return self.offered == self.pending + self.folded + self.refused + self.lost + self.discarded


@dataclass(frozen=True, slots=True)
class Ledger:
    """What every state carries: the spec, the list, the counts and the time limits in seconds.

    ``undecided`` and ``away`` (since when, the longest first) say of ``entries`` what would otherwise
    be looked for among all of them after every event.
    """

    spec: RoundSpec
    entries: Mapping[ClientId, Entry]
    counts: Counts
    closes_at: float
    grace: float
    max_update_bytes: int
    undecided: int
    away: Mapping[ClientId, float]

    def put(self, client: ClientId, entry: Entry, ends_as: str = "") -> Ledger:
        """Set a client's entry and move its offer between the counters.

        ``ends_as`` names the counter that takes an offer which stops being pending, where the new
        standing does not say it.
        """
        before = self.entries[client].standing
        return replace(self.list(client, entry), counts=_moved(self.counts, before, entry.standing, ends_as))

    def list(self, client: ClientId, entry: Entry) -> Ledger:
        """Set a client's entry where no offer of its moves."""
        before, away = self.entries.get(client), self.away
        if (before.away_since if before else None) != entry.away_since:
            away = dict(away)
            away.pop(client, None)
            if entry.away_since is not None:
                away[client] = entry.away_since
        undecided = self.undecided + (entry.standing in UNDECIDED)
        undecided -= before is not None and before.standing in UNDECIDED
        return replace(self, entries={**self.entries, client: entry}, undecided=undecided, away=away)

    def offered(self) -> Ledger:
        return replace(self, counts=replace(self.counts, offered=self.counts.offered + 1))

    def names(self, *standings: Standing) -> tuple[ClientId, ...]:
        return tuple(c for c, entry in self.entries.items() if entry.standing in standings)

    @property
    def contributors(self) -> tuple[Contributor, ...]:
        """Who is folded, sorted by client."""
        folded = (e.header for e in self.entries.values() if e.standing is Standing.FOLDED and e.header)
        return tuple(sorted((Contributor(h.client, h.examples, h.digest) for h in folded),
                            key=lambda c: c.client))  # fmt: skip

    def absences(self, standing: Standing) -> tuple[Absence, ...]:
        """Who stands so and why, sorted by client."""
        return tuple(sorted((Absence(c, e.reason) for c, e in self.entries.items() if e.standing is standing),
                            key=lambda a: a.client))  # fmt: skip

    @property
    def adds_up(self) -> bool:
        """What is counted along the way is what is in the list."""
        away = {c: e.away_since for c, e in self.entries.items() if e.away_since is not None}
        return (
            self.counts.pending == len(self.names(*PENDING))
            and self.undecided == len(self.names(*UNDECIDED))
            and self.away == away
        )


def _moved(counts: Counts, before: Standing, after: Standing, ends_as: str) -> Counts:
    if (before in PENDING) == (after in PENDING):
        if after is Standing.REFUSED and ends_as:
            return replace(counts, refused=counts.refused + 1)
        return counts
    if after in PENDING:
        return replace(counts, pending=counts.pending + 1)
    place = ends_as or {Standing.FOLDED: "folded", Standing.REFUSED: "refused"}.get(after, "lost")
    return replace(counts, pending=counts.pending - 1, **{place: getattr(counts, place) + 1})
