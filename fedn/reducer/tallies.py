"""What a session's stored rows come to, for charts and pages: metrics by round as bands over the clients, and
what each client did. Blocking, as the stores are.

A thousand rounds of five hundred clients are too many rows to read whenever somebody looks. So rounds that
are over are read once, and a bounded piece of them at a time; only the newest are read anew.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from threading import Lock
from typing import Any, NamedTuple

from fedn.domain.ids import SessionId
from fedn.domain.messages import TaskKind
from fedn.domain.update import TRAIN_SECONDS
from fedn.ports import MetricRow, SessionInfo, StateStore
from fedn.reducer.books import PAUSED, RUNNING
from fedn.reducer.metrics import TIMING, whole_rounds
from fedn.reducer.participation import Everybody, Participation
from fedn.reducer.rest_forms import round_form
from fedn.reducer.scores import metric_of

ROWS_AT_ONCE = 20_000
LATE_ROWS = 1000
"""Read to begin with for a round whose validation is late; more where it has more."""
RECORDS_AT_ONCE = 100
OPEN_ROUNDS = 3
"""The newest ones of a session that runs: clients may still report of them. Of older ones an event tells."""
LATE_AT_ONCE = 100
"""Such rounds in one look."""
LAST_ROUNDS = 10
"""Among them the last that was validated is looked for, of a session that has ended."""
CALM_SECONDS = 10.0
"""So long after a session has ended no client reports of it any more."""
FRESH_SECONDS = 0.5
"""What was read so long ago is not read anew."""
SESSIONS_KEPT = 16
KEPT_SECONDS = 3600.0
"""After so long a session is read anew: somebody may have been forgotten in the store meanwhile."""
ROUNDS_KEPT = 10_000
ROUNDS_TIMED = 10
NAMES_KEPT = 128
"""Names of metrics by kind; clients choose them."""
MOST_KEPT = 2000
"""Rounds as lines, and sessions' last metrics."""


class Band(NamedTuple):
    """One metric of one round over the clients that report it; ``mean`` as `metrics.mean_metrics` has it."""

    clients: int
    mean: float
    low: float
    high: float


Bands = Mapping[str, Mapping[str, Band]]
"""By kind of metrics and name."""


def bands(rows: Iterable[MetricRow]) -> Bands:
    """The bands of one round's rows."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        weight = 1 if row.kind == TIMING else row.examples
        for name, value in row.metrics.items():
            if weight > 0 and math.isfinite(value) and name != TRAIN_SECONDS:
                found[row.kind][name].append((weight, value))
    return {
        kind: {name: _band(values) for name, values in sorted(of_kind.items())}
        for kind, of_kind in found.items()
    }


def _band(values: Sequence[tuple[float, float]]) -> Band:
    total = sum(weight for weight, _ in values)
    mean = sum(weight * value for weight, value in values) / total
    return Band(len(values), mean, min(value for _, value in values), max(value for _, value in values))


class Tally:
    """One session's. `read` brings it up to date, as far as one look may take; any thread may call it."""

    def __init__(self, state: StateStore, session: SessionId) -> None:
        self._state = state
        self._session = session
        self._lock = Lock()
        self._settled = Everybody()
        self._present = Everybody()
        self._through = -1
        self._bands: dict[int, Bands] = {}
        self._names: dict[str, set[str]] = {}
        self._complete = False
        self._heard: int | None = None
        self._ended: float | None = None
        self.begun = time.monotonic()
        self._read: tuple[int, str, float] = (-1, "", -math.inf)

    def read(self, info: SessionInfo) -> None:
        """Read what is new, at most about `ROWS_AT_ONCE` rows of it."""
        with self._lock:
            head, state, at = self._read
            same = (head, state) == (info.head.round, info.state)
            now = time.monotonic()
            self._ended = None if _runs(info) else self._ended or now
            calm = self._ended is not None and now - self._ended > CALM_SECONDS
            if same and self._complete and (calm or now - at < FRESH_SECONDS):
                return
            self._hear_late()
            last = max(info.head.round - OPEN_ROUNDS, -1) if _runs(info) else info.head.round
            if self._through < last:
                self._settle(last)
            self._complete = self._through >= last
            if self._complete:
                self._look_ahead()
            self._read = (info.head.round, info.state, now)

    def _hear_late(self) -> None:
        """Validations that ended behind the reading of their round; the event comes after the rows."""
        if self._heard is None:
            last = self._state.events(newest=True, limit=1)
            self._heard = last[-1].number if last else 0
            return
        names = ("round_validated",)
        for told in self._state.events(self._heard, LATE_AT_ONCE, self._session, names=names):
            if told.round <= self._through:
                rows, _ = whole_rounds(self._state, self._session, told.round - 1, LATE_ROWS)
                rows = [row for row in rows if row.round == told.round]
                self._settled.note(row for row in rows if row.kind == TaskKind.VALIDATE)
                self._note(rows)
            self._heard = told.number

    def _settle(self, last: int) -> None:
        """Rounds up to ``last`` are over; they are not read again."""
        rows, following = whole_rounds(self._state, self._session, self._through, ROWS_AT_ONCE)
        upto = min(last, self._through + RECORDS_AT_ONCE, last if following is None else following)
        for item in self._state.records(self._session, after=self._through, limit=upto - self._through):
            self._settled.count(item.record)
        rows = [row for row in rows if row.round <= upto]
        self._settled.note(rows)
        self._note(rows)
        self._through, self._present = upto, self._settled

    def _look_ahead(self) -> None:
        present = self._settled.copy()
        for item in self._state.records(self._session, after=self._through, limit=OPEN_ROUNDS + 1):
            present.count(item.record)
        following: int | None = self._through
        while following is not None:
            rows, following = whole_rounds(self._state, self._session, following, ROWS_AT_ONCE)
            present.note(rows)
            self._note(rows)
        self._present = present

    def _note(self, rows: Iterable[MetricRow]) -> None:
        by_round: dict[int, list[MetricRow]] = defaultdict(list)
        for row in rows:
            by_round[row.round].append(row)
        for number, of_round in sorted(by_round.items()):
            self._bands[number] = {kind: self._known(kind, named) for kind, named in bands(of_round).items()}
        while len(self._bands) > ROUNDS_KEPT:
            del self._bands[min(self._bands)]

    def _known(self, kind: str, named: Mapping[str, Band]) -> Mapping[str, Band]:
        """Those whose names are kept; of new ones, those that most clients report come first."""
        known = self._names.setdefault(kind, set())
        fresh = sorted(named.keys() - known, key=lambda name: (-named[name].clients, name))
        known.update(fresh[: NAMES_KEPT - len(known)])
        return {name: band for name, band in named.items() if name in known}

    # --- what it comes to -----------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether all of it is read but the newest rounds, and those as they were a moment ago."""
        return self._complete

    @property
    def through(self) -> int:
        """Rounds up to here are read for good."""
        return self._through

    @property
    def clients(self) -> list[Participation]:
        """What everybody did, by id, of the rounds that are read."""
        with self._lock:
            return self._present.listed()

    @property
    def names(self) -> dict[str, list[str]]:
        """Metrics by kind."""
        with self._lock:
            return {kind: sorted(named) for kind, named in sorted(self._names.items())}

    def curve(self, kind: str, name: str, after: int = -1) -> list[tuple[int, Band]]:
        """Rounds above ``after`` in which somebody reported this metric, oldest first."""
        with self._lock:
            found = ((number, of.get(kind, {}).get(name)) for number, of in sorted(self._bands.items()))
            return [(number, band) for number, band in found if band and number > after]

    def means(self, kind: str, after: int = -1) -> dict[int, dict[str, float]]:
        """Of rounds above ``after`` the means of all metrics of a kind."""
        with self._lock:
            return {
                number: {name: band.mean for name, band in of[kind].items()}
                for number, of in self._bands.items()
                if number > after and kind in of
            }


class Tallies:
    """The tallies of the sessions that somebody looks at; of many, those of the last."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._lock = Lock()
        self._kept: OrderedDict[SessionId, Tally] = OrderedDict()
        self._lines: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._newest: OrderedDict[tuple[SessionId, int], dict[int, dict[str, float]]] = OrderedDict()

    def of(self, info: SessionInfo) -> Tally:
        """A session's, with a piece more of it read if there is more."""
        with self._lock:
            tally = self._kept.pop(info.session, None)
            if tally is None or time.monotonic() - tally.begun > KEPT_SECONDS:
                tally = Tally(self._state, info.session)
            self._kept[info.session] = tally
            while len(self._kept) > SESSIONS_KEPT:
                self._kept.popitem(last=False)
        tally.read(info)
        return tally

    def lines(self, info: SessionInfo, upto: int, limit: int) -> list[dict[str, Any]]:
        """The last ``limit`` committed rounds up to ``upto``, oldest first, as `round_form`."""
        numbers = range(max(0, upto - limit + 1), min(upto, info.head.round) + 1)
        missing = [number for number in numbers if f"{info.session}/{number}" not in self._lines]
        if missing:
            wanted = missing[-1] - missing[0] + 1
            for stored in self._state.records(info.session, after=missing[0] - 1, limit=wanted):
                self._keep(self._lines, f"{info.session}/{stored.record.round}", round_form(stored))
        found = (self._lines.get(f"{info.session}/{number}") for number in numbers)
        return [line for line in found if line]

    def pace(self, info: SessionInfo) -> float:
        """Seconds from commit to commit, in the median of the last rounds; 0 before the second round."""
        lines = self.lines(info, info.head.round, ROUNDS_TIMED + 1)
        at = [float(line["committed_at"]) for line in lines if line["round"] > 0 or info.head.round == 1]
        return median([max(0.0, later - earlier) for earlier, later in pairwise(at)] or [0.0])

    def newest(self, info: SessionInfo) -> tuple[str, int, float] | None:
        """The plan's metric (else accuracy, else any) as clients last validated it: name, round and mean."""
        if _runs(info) or info.session in self._kept:
            means = self.of(info).means(TaskKind.VALIDATE)
        else:
            means = self._last_means(info)
        last = max(means, default=-1)
        name = chief(means.get(last, ()), metric_of(info.plan))
        return (name, last, means[last][name]) if name else None

    def _last_means(self, info: SessionInfo) -> dict[int, dict[str, float]]:
        """Of the last rounds of a session that has ended, and that nobody looks at."""
        key = (info.session, info.head.round)
        if (found := self._newest.get(key)) is None:
            rows, _ = whole_rounds(self._state, info.session, max(-1, info.head.round - LAST_ROUNDS))
            validated = [row for row in rows if row.kind == TaskKind.VALIDATE]
            last = max((row.round for row in validated), default=-1)
            of_last = bands(row for row in validated if row.round == last).get(TaskKind.VALIDATE, {})
            found = {last: {name: band.mean for name, band in of_last.items()}}
            self._keep(self._newest, key, found)
        return found

    def _keep(self, kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
        with self._lock:
            kept[key] = value
            while len(kept) > MOST_KEPT:
                kept.popitem(last=False)


def chief(names: Iterable[str], wanted: str = "") -> str:
    """The metric to show first: the one that is wanted, else accuracy, else the first; '' of none."""
    known = sorted(names)
    return next((name for name in (wanted, "accuracy") if name in known), known[0] if known else "")


def _runs(info: SessionInfo) -> bool:
    return info.state in (RUNNING, PAUSED)


__all__ = ["Band", "Tallies", "Tally", "bands", "chief"]
