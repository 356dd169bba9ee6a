"""A part: what one combiner hands up — sums and names, never a ready-made mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedn.domain.errors import Damaged
from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, SessionId
from fedn.domain.update import Absence, Contributor


@dataclass(frozen=True, slots=True)
class PartHeader:
    """Identity (session, round, combiner, incarnation, part) and content of a part.

    The bytes behind ``digest`` are the aggregator's vector over the contributors, such as Σ examples·x:
    little-endian float64, for the mean one per averaged element (``size`` = 8 · elements; 0 when empty).
    ``refused``: updates that can't count; ``failed``: clients whose training failed.
    """

    session: SessionId
    round: int
    combiner: CombinerName
    incarnation: Incarnation
    part: int
    digest: Digest
    size: int
    contributors: tuple[Contributor, ...] = ()
    refused: tuple[Absence, ...] = ()
    lost: tuple[Absence, ...] = ()
    failed: tuple[Absence, ...] = ()

    @property
    def weight(self) -> int:
        """Σ examples over the contributors."""
        return sum(contributor.examples for contributor in self.contributors)


def overlap(accepted: Iterable[ClientId], part: PartHeader) -> frozenset[ClientId]:
    """Clients of ``part`` that are counted already. Empty by construction; checked all the same."""
    names = [contributor.client for contributor in part.contributors]
    if len(set(names)) != len(names):
        raise Damaged(f"part {part.part} of {part.combiner} names a client twice")
    return frozenset(accepted) & frozenset(names)
