"""The parts that a combiner holds, by round and number."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from weakref import WeakValueDictionary

from fedn.combiner import machine as mc
from fedn.combiner.limits import Limits
from fedn.combiner.past import Past
from fedn.combiner.runs import RoundRun
from fedn.domain.errors import Busy
from fedn.domain.gauges import Gauges
from fedn.domain.ids import ClientId, Digest, SessionId
from fedn.domain.messages import RoundHeld
from fedn.domain.round import RoundSpec


class Parts:
    """Every part from when it is opened until it is acked or aborted."""

    def __init__(self, limits: Limits, gauges: Gauges) -> None:
        self._limit = limits.max_parts
        self._rounds: dict[tuple[SessionId, int], dict[int, RoundRun]] = {}
        self._opening = WeakValueDictionary[tuple[SessionId, int], asyncio.Lock]()
        self._past = Past()
        self._level = gauges.add("parts", self._limit, self._count)

    def opening(self, session: SessionId, round_: int) -> asyncio.Lock:
        """Held while a part of this round is opened: two calls at once open it once.

        It is there for as long as somebody holds it or waits for it.
        """
        return self._opening.setdefault((session, round_), asyncio.Lock())

    def check_room(self) -> None:
        """Raises Busy when no more can be held."""
        if self._count() >= self._limit:
            raise Busy(f"{self._limit} parts are held here (max_parts)")

    def add(self, spec: RoundSpec, run: RoundRun) -> None:
        self._rounds.setdefault((spec.session, spec.round), {})[spec.part] = run
        self._level.note(self._count())

    def of_round(self, session: SessionId, round_: int) -> Mapping[int, RoundRun]:
        """Its parts by number, the oldest first; empty when none is held."""
        return self._rounds.get((session, round_), {})

    def over(self, spec: RoundSpec) -> str:
        """Why this part never opens here (again); '' if it may."""
        return self._past.over(spec)

    def drop(self, session: SessionId, round_: int, part: int, term: int) -> RoundRun | None:
        """Take a part out for good, also one that is just being opened."""
        self._past.drop(session, round_, part, term)
        parts = self._rounds.get((session, round_), {})
        run = parts.pop(part, None)
        if not parts:
            self._rounds.pop((session, round_), None)
        return run

    def commit(self, session: SessionId, round_: int) -> Mapping[int, RoundRun]:
        """Take all parts of a round out for good."""
        self._past.commit(session, round_)
        return self._rounds.pop((session, round_), {})

    def sealed(self, digest: Digest) -> RoundRun | None:
        """The sealed part with these bytes."""
        for run in self:
            if isinstance(run.state, mc.Sealed) and run.state.digest == digest:
                return run
        return None

    def held(self) -> tuple[RoundHeld, ...]:
        """What a restarted reducer lays out the rest around."""
        return tuple(
            RoundHeld(session, number, part, mc.listed(run.state))
            for (session, number), parts in self._rounds.items()
            for part, run in parts.items()
        )

    def expected(self) -> Iterator[ClientId]:
        """From whom something is still to come."""
        for run in self:
            yield from mc.expected(run.state)

    @property
    def behind(self) -> int:
        """Events that wait for the stream that is furthest behind."""
        return max((run.listeners.behind for run in self), default=0)

    def __iter__(self) -> Iterator[RoundRun]:
        return iter([run for parts in self._rounds.values() for run in parts.values()])

    def _count(self) -> int:
        return sum(map(len, self._rounds.values()))
