"""What has become of updates at this combiner since it started, for whoever measures."""

from __future__ import annotations

from dataclasses import dataclass

from fedn.domain.messages import Gauge


@dataclass(slots=True)
class UpdateCounts:
    """``received`` are whole and were checked; of these some are ``refused``, as are some that only asked."""

    received: int = 0
    folded: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """A combiner in numbers; bytes are those from and to clients since it started."""

    updates: UpdateCounts
    bytes_received: int
    bytes_sent: int
    gauges: tuple[Gauge, ...]
