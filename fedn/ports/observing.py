"""Who is told of what happens."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Observed:
    """Something that happened, for people: an event name, a sentence, and its fields."""

    event: str
    fields: Mapping[str, Any]


class Observer(Protocol):
    """Told of everything worth seeing. Must not block or raise; the default does nothing."""

    def observe(self, observed: Observed) -> None: ...


class Exporter(Protocol):
    """Carries what happens to somewhere else, such as an experiment tracker; built with ``location``, a text.

    It is called in one thread of its own, so it may block; what it raises is logged, and it is told of the
    next event.
    """

    @property
    def events(self) -> Collection[str]:
        """Names of the events that it is told of."""

    def observe(self, observed: Observed) -> None: ...

    def close(self) -> None:
        """Nothing is told any more."""


@runtime_checkable
class Remembering(Protocol):
    """An exporter that can say what is there already; then it is told what it has missed."""

    def told(self, session: str) -> Collection[tuple[str, int]]:
        """Events of a session that were written, in this process or before it, each with its round.

        Those that are of no round, its beginning and its end, have round 0.
        """
