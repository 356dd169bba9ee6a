"""Who else is told of what happens: exporters, each behind a queue and in a thread of its own.

`app.py` opens those that the settings name. Neither a slow tracker nor a broken one is ever waited for: what
does not fit into the queue is dropped, and the log says how much.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable

from fedn import plugins
from fedn.ports import Exporter, Observed, Observer

log = logging.getLogger("fedn.reducer")

GROUP = "fedn.observers"
MAX_WAITING = 10_000
"""Events that may wait for one exporter."""
CLOSE_SECONDS = 5.0
"""So long an exporter may take to write what waits for it when the reducer stops."""


class Everybody:
    """An `Observer` that tells several."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def observe(self, observed: Observed) -> None:
        for observer in self._observers:
            observer.observe(observed)


class Background:
    """An `Observer` that hands events to an exporter, later and elsewhere."""

    def __init__(self, name: str, exporter: Exporter, waiting: int = MAX_WAITING) -> None:
        self._name = name
        self._exporter = exporter
        self._events = frozenset(exporter.events)
        self._queue: queue.Queue[Observed | None] = queue.Queue(waiting)
        self._dropped = 0
        self._failing = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"observer-{name}", daemon=True)
        self._thread.start()

    def observe(self, observed: Observed) -> None:
        """Never blocks, never raises."""
        if self._closed or observed.event not in self._events:
            return
        try:
            self._queue.put_nowait(observed)
        except queue.Full:
            if not self._dropped:
                log.warning("%s is too slow: events for it are dropped", self._name)
            self._dropped += 1
        else:
            self._told_dropped()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Let it write what waits, for so long at most. Blocking."""
        self._closed = True
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            pass
        else:
            self._thread.join(seconds)
        if left := self._queue.qsize() + self._thread.is_alive():
            log.warning("%s was left behind with about %d events that it had not written", self._name, left)
        self._told_dropped()

    def _told_dropped(self) -> None:
        if self._dropped:
            log.warning("%d events for %s were dropped", self._dropped, self._name)
            self._dropped = 0

    def _run(self) -> None:
        while (observed := self._queue.get()) is not None:
            try:
                self._exporter.observe(observed)
            except Exception as error:  # a tracker's fault is none of ours
                if not self._failing:
                    log.warning("%s failed: %s: %s", self._name, type(error).__name__, error)
                self._failing = True
            else:
                self._failing = False
        try:
            self._exporter.close()
        except Exception as error:
            log.warning("%s could not be closed: %s", self._name, error)


def open_exporters(settings: Iterable[str]) -> list[Background]:
    """Exporters by name:location, running.

    Raises:
        InvalidInput: a name is unknown, its library is missing, or its location is no good.
    """
    wanted = [setting.partition(":") for setting in settings]
    made = [(name, plugins.make(GROUP, name, location=location)) for name, _, location in wanted]
    return [Background(name, exporter) for name, exporter in made]
