"""Gauges: everything bounded, with what there is of it now, may be, and ever was.

Whatever holds a queue adds its gauge to those of its process. A combiner tells its own on Watch; the
reducer shows them beside its own.
"""

from __future__ import annotations

from collections.abc import Callable

from fedn.domain.messages import Gauge


class Level:
    """One gauge; ``read`` counts what there is now."""

    def __init__(self, name: str, limit: int, read: Callable[[], int]) -> None:
        self.name = name
        self.limit = limit
        self._read = read
        self._peak = 0

    def note(self, value: int) -> None:
        """There is so much now; call it where it grows, lest a peak between two readings be missed."""
        self._peak = max(self._peak, value)

    def gauge(self) -> Gauge:
        value = self._read()
        self.note(value)
        return Gauge(self.name, value, self.limit, self._peak)


class Gauges:
    """All gauges, in the order in which they were added."""

    def __init__(self) -> None:
        self._levels: list[Level] = []

    def add(self, name: str, limit: int, read: Callable[[], int]) -> Level:
        """A new gauge; each name once."""
        self._levels.append(Level(name, limit, read))
        return self._levels[-1]

    def read(self) -> tuple[Gauge, ...]:
        return tuple(level.gauge() for level in self._levels)
