"""/: how the network is, what needs attention, what runs and has ended; first steps in an empty network."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

from flask import Blueprint, render_template

from fedn.domain.errors import NotFound, StoreUnavailable
from fedn.domain.ids import SessionId
from fedn.domain.messages import Gauge
from fedn.domain.round import OVER
from fedn.ports import EventRow, SessionInfo, StateStore
from fedn.reducer.books import PAUSED, RUNNING
from fedn.reducer.event_keeping import read
from fedn.reducer.front import Front
from fedn.reducer.network import NetworkView
from fedn.reducer.pages import attention
from fedn.reducer.pages.attention import Concern
from fedn.reducer.pages.drawing import sparkline
from fedn.reducer.pages.frame import Site, counted
from fedn.reducer.pages.why import gravity_of
from fedn.reducer.planning import runs_packages
from fedn.reducer.rest_why import why_form
from fedn.reducer.scores import metric_of
from fedn.reducer.sentences import events_of, gravity, sentence
from fedn.reducer.tallies import chief
from fedn.stores.event_rows import Wanted

RUNNING_SHOWN = 12
ENDED_SHOWN = 10
ROUNDS_SHOWN = 50
"""The newest ones, that a card's curve is of."""
RECENT_SECONDS = 3600.0
RECENT_SHOWN = 5
RECENT_READ = 200
FAILED_SECONDS = 86_400.0
"""So long a failed session is told among what needs attention."""
BESTS_KEPT = 256
WRONG = ("warning", "error")
_ALWAYS = frozenset(name for name in events_of(WRONG) if gravity(name, {}) in WRONG) - {"waiting"}
"""Events that always warn of something; what waits just now is told otherwise."""
_AT_TIMES = events_of(WRONG) - _ALWAYS - {"waiting"}


@dataclass(frozen=True, slots=True)
class Run:
    """A running session as a card. ``pace`` and ``left`` are seconds, 0 where nobody knows yet."""

    info: SessionInfo
    progress: Mapping[str, Any]
    cause: str
    gravity: str
    pace: float
    left: float
    metric: str
    values: Sequence[float]
    curve: str


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the last hour that somebody may want to know of."""

    row: EventRow
    gravity: str
    sentence: str


def routes(site: Site) -> Blueprint:
    """/."""
    page = Blueprint("overview", __name__)
    front, bests = site.front, Bests(site.front)

    @page.get("/")
    def show() -> str:
        """Network health, what needs attention, running sessions, those that have ended, load."""
        network, now = front.network(), time.time()
        concerns = [*_unready(front.ready()), *attention.of_network(network, now)]
        try:
            sessions = front.state.sessions()
        except StoreUnavailable as error:
            return drawn(network, [_storeless(error), *concerns])
        open_ = [info for info in sessions if info.state in (RUNNING, PAUSED)]
        runs = [(run, found) for info in open_[:RUNNING_SHOWN] for run, found in (running(site, info),)]
        told = recent(front, now)
        concerns += chain.from_iterable(found for _, found in runs)
        concerns += failures(front, sessions, now)
        concerns += attention.of_certificates(site.settings, now)
        over = [info for info in sessions if info.state in OVER][:ENDED_SHOWN]
        return drawn(
            network, concerns, told=told[-1 : -RECENT_SHOWN - 1 : -1], told_more=len(told) - RECENT_SHOWN,
            running=len(open_), runs=[run for run, _ in runs], more=max(0, len(open_) - RUNNING_SHOWN),
            ended=[(info, bests.of(info), site.tallies.newest(info), _ended_at(site, info)) for info in over],
            steps=steps(front, network) if not sessions else [], identity=site.registrar is not None,
        )  # fmt: skip

    return page


def drawn(network: NetworkView, concerns: Sequence[Concern], running: int = 0, **more: Any) -> str:
    """The page; the grave concerns come first."""
    concerns = sorted(concerns, key=lambda concern: not concern.grave)
    return render_template(
        "overview.html", health=health(network, running, concerns), concerns=concerns,
        well=not concerns and any(combiner.live for combiner in network.combiners),
        load=list(_load(network)), **more,
    )  # fmt: skip


def health(network: NetworkView, running: int, concerns: Sequence[Concern]) -> str:
    """The network in one line."""
    live = [combiner for combiner in network.combiners if combiner.live]
    clients = counted(sum(len(combiner.clients) for combiner in live), "client")
    lost = len(network.combiners) - len(live)
    combiners = f"{len(live)} of " if lost else ""
    sessions = f"{counted(running, 'session')} running" if running else "no session running"
    counts = f"{combiners}{counted(len(network.combiners), 'combiner')}, {clients}, {sessions}"
    if concerns:
        rest = f", and {counted(len(concerns) - 1, 'other thing')} to look at" if concerns[1:] else ""
        return f"{concerns[0].title}{rest}; {counts}."
    return f"All is well: {counts}." if live else "Nobody is here yet: no combiner, and no client."


def steps(front: Front, network: NetworkView) -> list[tuple[str, bool]]:
    """What has to be there for a first session, in order: its name, and whether it is."""
    clients = network.attached
    package = [("package", bool(front.state.packages(1)))] if any(map(runs_packages, clients)) else []
    return [
        ("combiner", any(combiner.live for combiner in network.combiners)),
        ("client", bool(clients)),
        *package,
        ("seed", bool(front.state.models(1))),
        ("session", False),
    ]


# --- attention -------------------------------------------------------------------------------------------


def _unready(reason: str) -> list[Concern]:
    if not reason:
        return []
    text = "Sessions begin and go on once it is ready."
    return [Concern(f"The reducer is not ready: {reason}", text, grave=reason != "starting")]


def _storeless(error: StoreUnavailable) -> Concern:
    remedy = "Bring it back, and all goes on; combiners and clients keep what they have meanwhile."
    return Concern("The state store is out of reach", f"{error.message}.", remedy, True)


def failures(front: Front, sessions: Sequence[SessionInfo], now: float) -> list[Concern]:
    """Sessions that have failed of late."""
    failed = {str(info.session): info for info in sessions if info.state == "failed"}
    if not failed:
        return []
    rows = read(front.state, front.hub, Wanted(names=("session_failed",), newest=True, limit=ENDED_SHOWN))
    late = [row for row in rows if row.session in failed and now - row.at < FAILED_SECONDS]
    return [
        attention.failed(failed[row.session], row.at, why_form(front, SessionId(row.session)))
        for row in reversed(late)
    ]


def recent(front: Front, now: float) -> list[Told]:
    """Events of the last hour that warn of something, oldest first."""
    rows = dict[int, EventRow]()
    for names in (_ALWAYS, _AT_TIMES):  # apart: many good rounds must not hide a combiner that was lost
        wanted = Wanted(names=names, newest=True, limit=RECENT_READ)
        rows |= {row.number: row for row in read(front.state, front.hub, wanted)}
    late = [row for _, row in sorted(rows.items()) if now - row.at < RECENT_SECONDS]
    clients = front.network().unmistakable
    told = [
        Told(row, gravity(row.event, row.fields), sentence(row.event, row.fields, clients)) for row in late
    ]
    return [one for one in told if one.gravity in WRONG]


# --- sessions --------------------------------------------------------------------------------------------


def running(site: Site, info: SessionInfo) -> tuple[Run, list[Concern]]:
    """A running session's card, and what is wrong with it."""
    front, progress = site.front, dict[str, Any]()
    with suppress(NotFound):
        progress |= front.round_progress(info.session)
    why = why_form(front, info.session)
    weight, pace = gravity_of(why["cause"]), site.tallies.pace(info)
    goes_on = weight == "good" and info.state == RUNNING
    metric, values = curve_of(front.state, info)
    run = Run(
        info, progress, why["cause"], weight, pace,
        _coarse(pace * (info.plan.rounds - info.head.round) * goes_on),
        metric, values, sparkline(values),
    )  # fmt: skip
    return run, list(attention.of_session(info, why, weight, progress.get("unfit", {})))


def _coarse(seconds: float) -> float:
    """An estimate without digits that it has no right to."""
    unit = next(
        (unit for least, unit in ((2 * 86_400, 3600.0), (600, 60.0), (60, 10.0)) if seconds > least), 1.0
    )
    return round(seconds / unit) * unit


def curve_of(state: StateStore, info: SessionInfo) -> tuple[str, list[float]]:
    """A metric of the newest rounds, as their events tell: of validation, or else of training."""
    names = ("round_validated", "round_committed")
    rows = state.events(session=info.session, names=names, newest=True, limit=2 * ROUNDS_SHOWN)
    for means in (
        [row.fields.get("metrics") for row in rows if row.event == "round_validated"],
        [row.fields.get("train", {}).get("metrics") for row in rows if row.event == "round_committed"],
    ):
        known = {name for of_round in means for name in of_round or ()}
        if name := chief(known, metric_of(info.plan)):
            found = (of_round.get(name) for of_round in means if of_round)
            return name, [value for value in found if isinstance(value, int | float)][-ROUNDS_SHOWN:]
    return "", []


class Bests:
    """The best model of sessions that have ended, as it was told last; looked for once."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._known: dict[SessionId, Mapping[str, Any]] = {}

    def of(self, info: SessionInfo) -> Mapping[str, Any]:
        """Round, model, metric and value; {} where nobody told of one."""
        if info.session not in self._known:
            if len(self._known) >= BESTS_KEPT:
                self._known.clear()
            wanted = Wanted(session=info.session, names=("best_model",), newest=True, limit=1)
            rows = read(self._front.state, self._front.hub, wanted)
            self._known[info.session] = rows[0].fields if rows else {}
        return self._known[info.session]


def _ended_at(site: Site, info: SessionInfo) -> float:
    """When the last round was committed."""
    lines = site.tallies.lines(info, info.head.round, 1)
    return float(lines[-1]["committed_at"]) if lines else info.created_at


# --- load ------------------------------------------------------------------------------------------------


def _load(network: NetworkView) -> list[tuple[str, Gauge]]:
    """Gauges with something on them, and those that were more than half full."""
    places = [("reducer", network.gauges), *((one.combiner, one.gauges) for one in network.combiners)]
    return [
        (name, gauge)
        for name, gauges in places
        for gauge in gauges
        if gauge.value or 2 * gauge.peak > gauge.limit
    ]
