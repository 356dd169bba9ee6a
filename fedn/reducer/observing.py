"""Who else is told of what happens: exporters, each behind a queue and in a thread of its own.

`app.py` opens those that the settings name. Neither a slow tracker nor a broken one is ever waited for: what
does not fit into the queue is dropped, and the log says how much. What is missing at a start is told first,
from what is stored (`retelling`).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable

from fedn import plugins
from fedn.ports import Exporter, Observed, Observer, Remembering, SessionInfo
from fedn.reducer.retelling import Past

log = logging.getLogger("fedn.reducer")

GROUP = "fedn.observers"
MAX_WAITING = 10_000
"""Events that may wait for one exporter."""
ROUNDS = frozenset({"round_committed", "round_validated"})
"""Events that a reducer may tell once more of what was retold: a validation that ends meanwhile."""
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
        self._retold: set[tuple[str, str, int]] = set()
        self._exporter = exporter
        self._events = frozenset(exporter.events)
        self._queue: queue.Queue[Observed | Past | None] = queue.Queue(waiting)
        self._dropped = 0
        self._failing = False
        self._closed = False
        self._left_behind = False
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

    def catch_up(self, past: Past) -> None:
        """Have it told what it has missed, before all that happens from now on; to be called at the start."""
        if isinstance(self._exporter, Remembering):
            self._queue.put_nowait(past)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Let it write what waits, for so long at most. Blocking."""
        self._closed = True
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            pass
        else:
            self._thread.join(seconds)
        self._left_behind = True
        if left := self._queue.qsize() + self._thread.is_alive():
            log.warning("%s was left behind with about %d events that it had not written", self._name, left)
        self._told_dropped()

    def _told_dropped(self) -> None:
        if self._dropped:
            log.warning("%d events for %s were dropped", self._dropped, self._name)
            self._dropped = 0

    def _run(self) -> None:
        while (what := self._queue.get()) is not None:
            if isinstance(what, Past):
                self._catch_up(what)
            elif _key(what) not in self._retold:
                self._tell(what)
        try:
            self._exporter.close()
        except Exception as error:
            log.warning("%s could not be closed: %s", self._name, error)

    def _catch_up(self, past: Past) -> None:
        """Tell what was missed. What a new life of the reducer says of the same is then not told again."""
        for info in past:
            try:
                self._catch_up_with(past, info)
            except Exception as error:  # of one session; neither others nor what comes suffer from it
                log.warning("what %s has missed of %s can't be told: %s: %s",
                            self._name, info.session, type(error).__name__, error)  # fmt: skip
        if self._retold:
            log.info("%s was told of rounds that it had missed: %d events", self._name, len(self._retold))

    def _catch_up_with(self, past: Past, info: SessionInfo) -> None:
        assert isinstance(self._exporter, Remembering)
        for observed in past.missed_by(self._exporter, info):
            if self._left_behind:
                return
            told = observed.event in self._events and self._tell(observed)
            if told and observed.event in ROUNDS:
                self._retold.add(_key(observed))

    def _tell(self, observed: Observed) -> bool:
        """Whether that worked."""
        try:
            self._exporter.observe(observed)
        except Exception as error:  # a tracker's fault is none of ours
            if not self._failing:
                log.warning("%s failed: %s: %s", self._name, type(error).__name__, error)
            self._failing = True
        else:
            self._failing = False
        return not self._failing


def _key(observed: Observed) -> tuple[str, str, int]:
    fields = observed.fields
    return observed.event, fields.get("session", ""), fields.get("round", 0)


def open_exporters(settings: Iterable[str]) -> list[Background]:
    """Exporters by name:location, running.

    Raises:
        InvalidInput: a name is unknown, its library is missing, or its location is no good.
    """
    wanted = [setting.partition(":") for setting in settings]
    made = [(name, plugins.make(GROUP, name, location=location)) for name, _, location in wanted]
    return [Background(name, exporter) for name, exporter in made]
