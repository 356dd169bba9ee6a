"""What happened, written to the state store behind everybody's back, and read from there again.

`EventHub` numbers each event and hands it over; a thread writes many at once. Nobody ever waits for it: while
the store is away events wait in a queue, and of what does not fit there the log says that it is dropped.
`rest_events` reads with `read` what is stored and what is still on its way there.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Any

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import FednError, StaleTerm, StoreUnavailable
from fedn.ports import EventRow, StateStore
from fedn.reducer.events import EventHub
from fedn.reducer.rest_forms import plain
from fedn.stores.event_rows import Wanted

log = logging.getLogger("fedn.reducer")

STOPPED = "reducer_stopped"
"""The last event of a reducer that has written all that it told."""
LEAP = 1_000_000
"""Numbers that are left out behind a reducer that was killed: it may have told some that are not stored."""
MAX_WAITING = 10_000
"""Events that may wait to be written."""
BATCH = 1000
"""Events written at once, and between looks for what is too old."""
GATHER_SECONDS = 0.25
"""Events of so long are written together."""
AGAIN_SECONDS = 1.0
CLOSE_SECONDS = 5.0
"""So long a reducer that stops lets what waits be written."""
MAX_FIELDS = 32 * 2**10
"""Bytes of one event's fields; the largest of more are left out."""
LEFT_OUT = "left_out"


def last_number(state: StateStore, term: int) -> int:
    """The number behind which the reducer of this term begins to count. Blocking."""
    rows = state.events(newest=True, limit=1)
    if not rows:
        return 0 if term == 1 else LEAP
    # A reducer that was killed before it wrote anything leaves the end of the one before it.
    whole = rows[0].event == STOPPED and rows[0].fields.get("term") == term - 1
    return rows[0].number + (0 if whole else LEAP)


class EventKeeper:
    """Writes events in a thread of its own, which begins with the first of them.

    With its ``term``: what a reducer that another has replaced still tells is not written.
    """

    def __init__(self, state: StateStore, term: int, keep: int, waiting: int = MAX_WAITING) -> None:
        self._state = state
        self._term = term
        self._keep = keep
        self._queue: queue.Queue[EventRow | None] = queue.Queue(waiting)
        self._dropped = 0
        self._untrimmed = BATCH
        self._closing = threading.Event()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def keep(self, row: EventRow) -> None:
        """Have an event written. Never blocks, never raises; to be called with one at a time."""
        if self._left.is_set():
            return
        if not self._thread.ident:
            self._thread.start()
        try:
            self._queue.put_nowait(row)
        except queue.Full:
            if not self._dropped:
                log.warning("the state store does not take events fast enough: some are not stored")
            self._dropped += 1
        else:
            self._told_dropped()

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Let what waits be written, for so long at most. Blocking."""
        self._closing.set()
        if self._thread.ident:
            try:
                self._queue.put(None, timeout=seconds)
            except queue.Full:
                pass
            else:
                self._thread.join(seconds)
            if self._thread.is_alive():
                log.warning("about %d events are not stored", self._queue.qsize() + 1)
        self._left.set()
        self._told_dropped()

    def _told_dropped(self) -> None:
        if self._dropped:
            log.warning("%d events are not stored", self._dropped)
            self._dropped = 0

    def _run(self) -> None:
        more = True
        while more and not self._left.is_set():
            rows, more = self._gathered()
            if rows:
                self._write([_storable(row) for row in rows])

    def _gathered(self) -> tuple[list[EventRow], bool]:
        """What has come, waiting for the first of it; and whether more may come."""
        found = [self._queue.get()]
        if found[0] is not None:
            self._closing.wait(GATHER_SECONDS)
        while found[-1] is not None and len(found) < BATCH:
            try:
                found.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return [row for row in found if row is not None], found[-1] is not None

    def _write(self, rows: Sequence[EventRow]) -> None:
        """Until it is done, the store refuses it, or the reducer has stopped."""
        away = False
        while not self._left.is_set():
            try:
                self._state.add_events(rows, self._term)
                self._trim(len(rows))
                return
            except StoreUnavailable as error:
                if not away:
                    log.warning("events wait until they can be stored: %s", error.message)
                away = True
                self._left.wait(AGAIN_SECONDS)
            except StaleTerm:
                self._left.set()  # another reducer tells what happens
            except FednError as error:
                log.error("%d events are not stored: %s", len(rows), error.message)
                return

    def _trim(self, added: int) -> None:
        self._untrimmed += added
        if self._untrimmed >= BATCH:
            self._state.trim_events(self._keep)
            self._untrimmed = 0


def _storable(row: EventRow) -> EventRow:
    """With fields in plain JSON, and not too much of it."""
    fields: dict[str, Any] = plain(row.fields)
    left_out = list[str]()
    while len(canonical_json(fields)) > MAX_FIELDS:
        largest = max(fields, key=lambda name: len(canonical_json(fields[name])))
        del fields[largest]
        left_out.append(largest)
    return replace(row, fields={**fields, LEFT_OUT: left_out} if left_out else fields)


def read(state: StateStore, hub: EventHub, wanted: Wanted) -> Sequence[EventRow]:
    """Events of the store, and those on their way there, oldest first. Raises what the store raises."""
    newest = state.events(newest=True, limit=1)
    behind = newest[0].number if newest else 0  # asked first: what is written meanwhile is found twice
    waiting = [row for row in hub.recent(behind) if row in wanted]
    rows = {row.number: row for row in (*waiting, *state.events(*astuple(wanted)))}
    found = [row for _, row in sorted(rows.items())]
    return found[-wanted.limit :] if wanted.newest else found[: wanted.limit]
