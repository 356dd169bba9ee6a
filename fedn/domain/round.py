"""A round: its spec as sent to a combiner, and its record as kept in the trail."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import Damaged, InvalidInput
from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, SessionId, digest_of
from fedn.domain.messages import TaskKind
from fedn.domain.update import Absence, Contributor

GENESIS_PARENT = Digest("0" * 64)
"""The parent named by the first record of every session."""
OVER = frozenset({"finished", "failed", "cancelled"})
"""States of a session to which no round is added any more."""


@dataclass(frozen=True, slots=True)
class RoundSpec:
    """One combiner's share of a round.

    For this ``incarnation`` of the combiner alone: another process of that name has other parts.
    Calling again with the same (session, round, part) goes on with what is there. ``deadline`` is in
    seconds from when the combiner opens the part; ``config`` is canonical JSON of the round's
    hyperparameters, ``aggregator`` the plan's; ``package`` is the digest of its compute package, or ''.
    ``inline`` holds the model when it is small, else it is pulled by digest.
    """

    term: int
    session: SessionId
    round: int
    part: int
    model: Digest
    model_size: int
    layout: Digest
    clients: tuple[ClientId, ...]
    config: str
    seed: int
    deadline: float
    aggregator: str
    incarnation: Incarnation
    inline: bytes = b""
    package: str = ""
    package_size: int = 0


@dataclass(frozen=True, slots=True)
class ValidationSpec:
    """One combiner's share of a validation: evaluate ``model``, the outcome of ``round``.

    Checks and predictions (``kind``) go the same way. Called again while it is under way, it asks the
    clients that are new in the list, too.
    """

    term: int
    session: SessionId
    round: int
    model: Digest
    model_size: int
    clients: tuple[ClientId, ...]
    config: str
    seed: int
    deadline: float
    inline: bytes = b""
    kind: TaskKind = TaskKind.VALIDATE
    package: str = ""
    package_size: int = 0


def check_deadline(spec: RoundSpec | ValidationSpec) -> None:
    """Raise InvalidInput unless it is a time that comes: with NaN among them no timer rings any more."""
    if not 0 <= spec.deadline < math.inf:
        raise InvalidInput("deadline", f"{spec.deadline} s never ends", "give seconds from 0 on")


@dataclass(frozen=True, slots=True)
class MergedPart:
    """Which part of which combiner went into a record, under which digest."""

    combiner: CombinerName
    incarnation: Incarnation
    part: int
    digest: Digest
    contributors: tuple[Contributor, ...]


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One committed round in the model trail; round 0 is the seed model.

    The digest of a record is taken over its stored canonical bytes, which name the parent's digest:
    that is the chain. Metrics are not part of it, so that forgetting a client's metrics leaves it whole.
    ``optimizer_state`` is the digest of what the server optimizer remembers after this round, or ''; of
    those files only the newest are kept.
    """

    session: SessionId
    round: int
    parent: Digest
    base_model: Digest
    model: Digest
    model_size: int
    plan: Mapping[str, Any]
    plan_digest: Digest
    term: int
    committed_at: float
    parts: tuple[MergedPart, ...] = ()
    refused: tuple[Absence, ...] = ()
    lost: tuple[Absence, ...] = ()
    optimizer_state: str = ""

    @property
    def contributors(self) -> tuple[Contributor, ...]:
        """Everyone whose update counts in this model."""
        return tuple(contributor for part in self.parts for contributor in part.contributors)

    def canonical(self) -> bytes:
        """The bytes that are stored and hashed."""
        return canonical_json(asdict(self))


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record with the bytes it came from and their digest."""

    record: RoundRecord
    raw: bytes
    digest: Digest


@dataclass(frozen=True, slots=True)
class Head:
    """Where a session stands: its last committed round, record and model."""

    round: int
    record: Digest
    model: Digest
    model_size: int


def store_record(record: RoundRecord) -> StoredRecord:
    """Canonicalise and hash a new record."""
    raw = record.canonical()
    return StoredRecord(record, raw, digest_of(raw))


def read_record(raw: bytes) -> StoredRecord:
    """Read stored bytes back; raise Damaged if they are not a record."""
    try:
        values = json.loads(raw)
        parts = tuple(
            MergedPart(**{**part, "contributors": tuple(Contributor(**c) for c in part["contributors"])})
            for part in values.pop("parts")
        )
        refused, lost = (tuple(Absence(**a) for a in values.pop(key)) for key in ("refused", "lost"))
        record = RoundRecord(**values, parts=parts, refused=refused, lost=lost)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Damaged(f"a trail record can't be read: {error}") from None
    return StoredRecord(record, raw, digest_of(raw))


def head_of(stored: StoredRecord) -> Head:
    """The head that a session has once ``stored`` is its newest record."""
    record = stored.record
    return Head(record.round, stored.digest, record.model, record.model_size)
