"""What a round is at the reducer: its legs, where every client counts, and the commands about them.

`round.py` decides upon it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation
from fedn.domain.part import PartHeader
from fedn.domain.round import MergedPart
from fedn.domain.update import Absence


class PartKey(NamedTuple):
    """A part's identity within its round."""

    combiner: CombinerName
    incarnation: Incarnation
    part: int


class Phase(StrEnum):
    RUNNING = "running"
    FETCHING = "fetching"
    MERGED = "merged"
    FENCED = "fenced"
    VOID = "void"


ACTIVE = frozenset({Phase.RUNNING, Phase.FETCHING})


@dataclass(frozen=True, slots=True)
class Leg:
    clients: frozenset[ClientId]
    phase: Phase = Phase.RUNNING
    header: PartHeader | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """``place``: where each client's update may count. The other maps name what is still open.

    ``failed``: why trainings failed, until their clients are asked again; ``failures``: how often, so far;
    ``resting``: until when such a client is left in peace.
    """

    number: int
    base_model: Digest
    quorum: int
    open_to_all: bool = True
    legs: Mapping[PartKey, Leg] = field(default_factory=dict)
    place: Mapping[ClientId, CombinerName] = field(default_factory=dict)
    orphans: Mapping[ClientId, float] = field(default_factory=dict)
    admissions: Mapping[ClientId, CombinerName] = field(default_factory=dict)
    releasing: Mapping[ClientId, CombinerName] = field(default_factory=dict)
    refused: Mapping[ClientId, str] = field(default_factory=dict)
    failed: Mapping[ClientId, str] = field(default_factory=dict)
    failures: Mapping[ClientId, int] = field(default_factory=dict)
    resting: Mapping[ClientId, float] = field(default_factory=dict)
    lost: Mapping[ClientId, str] = field(default_factory=dict)

    @property
    def merged(self) -> tuple[MergedPart, ...]:
        """The accepted parts, in a fixed order."""
        parts = [
            (key, leg.header) for key, leg in self.legs.items() if leg.phase is Phase.MERGED and leg.header
        ]
        return tuple(MergedPart(*key, header.digest, header.contributors) for key, header in sorted(parts))

    @property
    def accepted(self) -> frozenset[ClientId]:
        """Whose updates are in parts that are accepted, or being fetched to be."""
        taken = ACTIVE | {Phase.MERGED}
        headers = [leg.header for leg in self.legs.values() if leg.header and leg.phase in taken]
        return frozenset(c.client for header in headers for c in header.contributors)

    @property
    def in_pieces(self) -> bool:
        """Updates came in more than one part."""
        return sum(1 for part in self.merged if part.contributors) > 1

    @property
    def has_quorum(self) -> bool:
        return len(self.accepted) >= self.quorum

    def awaited_at(self, client: ClientId) -> str:
        """The combiner whose running part lists this client; '' if there is none."""
        legs = ((key, leg) for key, leg in self.legs.items() if client in leg.clients)
        return next((key.combiner for key, leg in legs if leg.phase is Phase.RUNNING), "")

    @property
    def settled(self) -> bool:
        """Nothing is under way any more: time to judge."""
        active = any(leg.phase in ACTIVE for leg in self.legs.values())
        return not (active or self.orphans or self.admissions or self.releasing)

    @property
    def absences(self) -> tuple[tuple[Absence, ...], tuple[Absence, ...]]:
        """(refused, lost), sorted, without anyone who contributed in the end."""
        counted = self.accepted
        turned_down = {**self.failed, **self.refused}
        refused = tuple(Absence(c, r) for c, r in sorted(turned_down.items()) if c not in counted)
        known = counted | turned_down.keys()
        return refused, tuple(Absence(c, r) for c, r in sorted(self.lost.items()) if c not in known)


# --- commands --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenPart:
    key: PartKey
    clients: tuple[ClientId, ...]


@dataclass(frozen=True, slots=True)
class FetchPart:
    """Get the part's bytes and check them; answer PartFetched."""

    key: PartKey
    header: PartHeader


@dataclass(frozen=True, slots=True)
class MergePart:
    """Add the fetched bytes to the sum. From here on the part is in."""

    key: PartKey


@dataclass(frozen=True, slots=True)
class AbortPart:
    key: PartKey
    reason: str
    reoffer: bool


@dataclass(frozen=True, slots=True)
class AskRelease:
    combiner: CombinerName
    client: ClientId


@dataclass(frozen=True, slots=True)
class Admit:
    key: PartKey
    client: ClientId


@dataclass(frozen=True, slots=True)
class Settle:
    """Tell a client at ``combiner`` how its update of ``round`` ended."""

    combiner: CombinerName
    client: ClientId
    round: int
    counted: bool
    reason: str


Command = OpenPart | FetchPart | MergePart | AbortPart | AskRelease | Admit | Settle
