"""Where clients were last, and what is told of their coming and going. Pure: `federation.py` has the clock.

Told is what has changed in sum since the last time: a thousand clients that come back at once are one event
for each combiner. Who left is told a little later: most come back, here or elsewhere, and have then moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from fedn.domain.ids import ClientId, CombinerName
from fedn.domain.messages import ClientInfo
from fedn.ports import Observed
from fedn.reducer.network import Seen

MAX_GONE = 10_000
"""Clients that are attached nowhere and still remembered; of more, those that left first are forgotten."""
LEFT_SECONDS = 5.0
"""Who is attached nowhere for so long has left."""
MAX_NAMED = 20
"""Clients that an event names; it counts all of them."""

Roster = Iterable[tuple[CombinerName, ClientInfo]]
"""Every attached client, with its combiner."""


class Whereabouts:
    """Remembers who was where. ``seen`` may be read from any thread."""

    def __init__(self, max_gone: int = MAX_GONE, patience: float = LEFT_SECONDS) -> None:
        self.seen: dict[ClientId, Seen] = {}
        self._told: dict[ClientId, CombinerName] = {}
        self._gone: dict[ClientId, float] = {}
        self._max_gone = max_gone
        self._patience = patience

    @property
    def waiting(self) -> bool:
        """Whether somebody is gone of whom it is not told yet."""
        return any(client in self._told for client in self._gone)

    def update(self, roster: Roster, now: float) -> list[Observed]:
        """Who is where now; returns an event for each combiner whose clients have changed."""
        here = {info.client: Seen(info, combiner, now) for combiner, info in roster}
        changes = _Changes()
        for client, seen in here.items():
            changes.came(seen, self._told.get(client))
            self._told[client], self.seen[client] = seen.combiner, seen
            self._gone.pop(client, None)
        for client in [client for client in self._told if client not in here]:
            if client not in self._gone:
                self._gone[client] = now
                self.seen[client] = replace(self.seen[client], seen_at=now)  # it was here until a moment ago
            if now - self._gone[client] >= self._patience:
                changes.left(self.seen[client], self._told.pop(client))
        while len(self._gone) > self._max_gone:
            forgotten = next(iter(self._gone))
            del self._gone[forgotten], self.seen[forgotten]
            self._told.pop(forgotten, None)
        return list(changes.events())


class _Changes:
    """By the combiner that clients are at now, or, where they left for none, that they were at."""

    def __init__(self) -> None:
        self._lists: dict[CombinerName, dict[str, list[ClientInfo]]] = {}
        self._origins: dict[CombinerName, Counter[str]] = {}

    def came(self, seen: Seen, was_at: CombinerName | None) -> None:
        if was_at is None:
            self._note(seen.combiner, "attached", seen)
        elif was_at != seen.combiner:
            self._note(seen.combiner, "moved", seen)
            self._origins.setdefault(seen.combiner, Counter())[was_at] += 1

    def left(self, seen: Seen, combiner: CombinerName) -> None:
        self._note(combiner, "left", seen)

    def _note(self, combiner: CombinerName, how: str, seen: Seen) -> None:
        lists = self._lists.setdefault(combiner, {"attached": [], "left": [], "moved": []})
        lists[how].append(seen.info)

    def events(self) -> Iterator[Observed]:
        for combiner, lists in sorted(self._lists.items()):
            fields: dict[str, Any] = {how: names_of(infos) for how, infos in lists.items()}
            counts = {how: len(infos) for how, infos in lists.items()}
            origins = dict(self._origins.get(combiner, {}))
            yield Observed(
                "clients_changed", {"combiner": combiner, **fields, "from": origins, "counts": counts}
            )


def names_of(infos: Iterable[ClientInfo]) -> list[str]:
    """What the first of them are called, sorted."""
    return sorted(info.name or info.client for info in infos)[:MAX_NAMED]
