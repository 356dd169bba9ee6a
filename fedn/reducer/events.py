"""What happens, as numbered events for people: the status page, `fedn session watch`, dashboards.

The control loop observes; HTTP threads read (`rest_events`). All readers share one bounded ring and
hold only their place in it, so that a slow one costs nothing and can't hold anybody up: when the
ring has overtaken it, it is told so with a last `lagged` event and has to look again by REST.
Events are a hint, never the truth; the truth is in the state store.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from threading import Condition
from typing import Any

from fedn.domain.errors import Busy, Unavailable
from fedn.ports import Observed

LAGGED = "lagged"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. ``number`` counts from 1 in this process; ``at`` is Unix time."""

    number: int
    at: float
    event: str
    fields: Mapping[str, Any]


class EventHub:
    """An `Observer` that keeps the last events and wakes whoever waits for new ones. Thread-safe.

    ``epoch`` tells this process's numbers from those of the one before it.
    """

    def __init__(self, ring: int = 1000, streams: int = 32, clock: Callable[[], float] = time.time) -> None:
        self.epoch = secrets.token_hex(4)
        self._ring: deque[Event] = deque(maxlen=ring)
        self.streams = streams
        self._open = 0
        self._closed = False
        self._last = 0
        self._changed = Condition()
        self._clock = clock

    def observe(self, observed: Observed) -> None:
        """Number an event and wake the readers. Never blocks on any of them."""
        with self._changed:
            self._last += 1
            self._ring.append(Event(self._last, self._clock(), observed.event, observed.fields))
            self._changed.notify_all()

    def recent(self, after: int = 0) -> tuple[Event, ...]:
        """Events that are still here with numbers above ``after``, oldest first."""
        with self._changed:
            return self._above(after)

    def subscribe(self, after: int | None = None) -> Subscription:
        """Follow events above ``after`` (None: only new ones).

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
            start = self._last if after is None else min(max(after, 0), self._last)
            return Subscription(self, start)

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

    def _above(self, number: int) -> tuple[Event, ...]:
        fresh = min(max(self._last - number, 0), len(self._ring))
        return tuple(self._ring[index] for index in range(len(self._ring) - fresh, len(self._ring)))

    def _next(self, seen: int, timeout: float) -> tuple[Event, ...] | None:
        """Events above ``seen``; () if none came in ``timeout`` seconds; None when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._last > seen, timeout)
            if self._last <= seen:
                return None if self._closed else ()
            fresh = self._above(seen)
            if fresh[0].number == seen + 1:
                return fresh
            missed = {"missed": self._last - seen}
            return (Event(self._last, self._clock(), LAGGED, missed),)

    def _leave(self) -> None:
        with self._changed:
            self._open -= 1


class Subscription:
    """A reader's place in the ring. Iterate it in one thread; close it when done."""

    def __init__(self, hub: EventHub, seen: int) -> None:
        self._hub = hub
        self._seen = seen
        self._closed = False

    def follow(self, heartbeat: float = 10.0) -> Iterator[Event | None]:
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
                self._seen = event.number
                yield event
                if event.event == LAGGED:
                    return

    def close(self) -> None:
        """Give the place back. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._hub._leave()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
