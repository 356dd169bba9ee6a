"""What happens, as numbered events for people: the web UI, `fedn session watch`, dashboards.

The control loop observes; HTTP threads read (`rest_events`), and `event_keeping` writes to the state store.
All readers share one bounded ring and hold only their place in it, so that a slow one costs nothing and can't
hold anybody up: when the ring has overtaken it, it is told so with a last `lagged` event and has to look
again by REST. Events are a hint, never the truth; the truth is in the trail.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from threading import Condition

from fedn.domain.errors import Busy, Unavailable
from fedn.ports import EventRow, Observed

LAGGED = "lagged"
FLEETING = frozenset({"client_progress"})
"""Events that are out of date a moment later: they are told, and not kept. Each has the number of the event
before it."""
NOWHERE = -1
"""The place of a reader that has missed something."""


class EventHub:
    """An `Observer` that keeps the last events and wakes whoever waits for new ones. Thread-safe.

    Numbers begin behind ``begin``, the last one of the reducer before. ``keep`` is given every event before
    anybody is told of it; it must not block or raise.
    """

    def __init__(
        self,
        ring: int = 1000,
        streams: int = 32,
        clock: Callable[[], float] = time.time,
        begin: int = 0,
        keep: Callable[[EventRow], object] = lambda _: None,
    ) -> None:
        self._keep = keep
        self._ring: deque[EventRow] = deque(maxlen=ring)
        self.streams = streams
        self._open = 0
        self._closed = False
        self._last = begin
        self._told = 0
        self._changed = Condition()
        self._clock = clock

    def observe(self, observed: Observed) -> None:
        """Number an event and wake the readers. Never blocks on any of them."""
        lasting = observed.event not in FLEETING
        with self._changed:
            self._last += lasting
            row = _row(self._last, self._clock(), observed)
            if lasting:
                self._keep(row)
            self._told += 1
            self._ring.append(row)
            self._changed.notify_all()

    def recent(self, after: int = 0) -> tuple[EventRow, ...]:
        """Events that are still here with numbers above ``after``, oldest first; no fleeting ones."""
        with self._changed:
            return tuple(row for row in self._ring if row.number > after and row.event not in FLEETING)

    @property
    def oldest(self) -> int:
        """This number and all that follow it are still here."""
        with self._changed:
            return self._oldest()

    def _oldest(self) -> int:
        if not self._ring:
            return self._last + 1
        return self._ring[0].number + (self._ring[0].event in FLEETING)

    def subscribe(self, after: int | None = None) -> Subscription:
        """Follow events above ``after`` (None: only new ones); one that never was is behind everything.

        Raises:
            Busy: as many streams are open as are allowed.
            Unavailable: the reducer is stopping.
        """
        with self._changed:
            if self._closed:
                raise Unavailable("the reducer is stopping; try again when it is back")
            if self._open >= self.streams:
                raise Busy(
                    f"all {self.streams} event streams are taken; close one, or raise event_streams",
                    limit="event_streams",
                    value=self.streams,
                )
            self._open += 1
            return Subscription(self, self._told if after is None else self._place(after))

    @property
    def streams_open(self) -> int:
        """Gauge: subscriptions that are not closed."""
        with self._changed:
            return self._open

    def close(self) -> None:
        """End every subscription, and refuse new ones."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _place(self, number: int) -> int:
        """How many events had been told up to the one of this number."""
        if not self._oldest() - 1 <= number <= self._last:
            return NOWHERE
        return self._told - sum(row.number > number for row in self._ring)

    def _next(self, seen: int, timeout: float) -> tuple[EventRow, ...] | None:
        """Events behind the first ``seen``; () if none came in ``timeout`` seconds; None when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._told > seen, timeout)
            if self._told <= seen:
                return None if self._closed else ()
            fresh = self._told - seen
            if seen != NOWHERE and fresh <= len(self._ring):
                return tuple(islice(self._ring, len(self._ring) - fresh, None))
            missed = {"missed": self._told - max(seen, 0)}
            return (_row(self._last, self._clock(), Observed(LAGGED, missed)),)

    def _leave(self) -> None:
        with self._changed:
            self._open -= 1


class Subscription:
    """A reader's place in the ring. Iterate it in one thread; close it when done."""

    def __init__(self, hub: EventHub, seen: int) -> None:
        self._hub = hub
        self._seen = seen
        self._closed = False

    def follow(self, heartbeat: float = 10.0) -> Iterator[EventRow | None]:
        """Events as they come, and None after every ``heartbeat`` seconds of silence.

        Ends when the hub closes, and behind a `lagged` event.
        """
        while not self._closed:
            fresh = self._hub._next(self._seen, heartbeat)
            if fresh is None:
                return
            if not fresh:
                yield None
            for event in fresh:
                self._seen += 1
                yield event
                if event.event == LAGGED:
                    return

    def pass_by(self, number: int) -> None:
        """The reader has had the events up to this one from elsewhere."""
        with self._hub._changed:
            self._seen = self._hub._place(number)

    def close(self) -> None:
        """Give the place back. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._hub._leave()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _row(number: int, at: float, observed: Observed) -> EventRow:
    session, round_ = observed.fields.get("session"), observed.fields.get("round")
    return EventRow(number, at, observed.event, str(session or ""),
                    round_ if isinstance(round_, int) else -1, observed.fields)  # fmt: skip
