"""What stores keep, as `fedn.ports.stores` takes it and hands it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedn.domain.ids import ClientId, CombinerName, Digest, SessionId
from fedn.domain.plan import Plan
from fedn.domain.round import Head


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as people list it. ``origin`` is 'seed'; committed models are listed by the trail."""

    digest: Digest
    size: int
    name: str
    origin: str
    created_at: float


@dataclass(frozen=True, slots=True)
class PackageInfo:
    """A compute package as it was uploaded. ``manifest`` is its `fedn.yaml` in plain JSON values."""

    digest: Digest
    size: int
    name: str
    manifest: Mapping[str, Any]
    created_at: float


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as it is stored. ``state`` is the machine's word; ``reason`` says why, in a sentence."""

    session: SessionId
    name: str
    plan: Plan
    state: str
    reason: str
    created_at: float
    head: Head


@dataclass(frozen=True, slots=True)
class CombinerInfo:
    """A combiner as it last registered, and since when it drains (Unix time; 0: it does not)."""

    combiner: CombinerName
    address: str
    incarnation: str
    registered_at: float
    drained_at: float = 0.0


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One client's metrics of one round. ``kind`` is 'train' or 'validate'."""

    session: SessionId
    round: int
    kind: str
    client: ClientId
    examples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that happened, as it is told and kept. ``number`` is its address; ``at`` is Unix time.

    ``session`` is '' and ``round`` -1 where it is of none; ``fields``, plain JSON, has both again if it is.
    """

    number: int
    at: float
    event: str
    session: str
    round: int
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob as its store knows it. ``written_at``: Unix time of the last `put` of it."""

    digest: Digest
    size: int
    written_at: float
