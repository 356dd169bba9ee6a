"""/sessions/<session>: what a session does just now, and all that it did so far."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flask import Blueprint, render_template

from fedn.domain.errors import FednError, NotFound
from fedn.domain.ids import Digest, SessionId, check_id
from fedn.domain.messages import TaskKind
from fedn.ports import PackageInfo, SessionInfo, StateStore
from fedn.reducer.books import PAUSED, RUNNING
from fedn.reducer.front import Front
from fedn.reducer.pages.frame import Site, with_charts
from fedn.reducer.pages.round_bars import WORDS, open_round
from fedn.reducer.rest_forms import plan_form, query_number
from fedn.reducer.rest_why import why_form
from fedn.reducer.scores import best_of, direction_of, metric_of
from fedn.reducer.sentences import events_of, gravity, sentence
from fedn.reducer.tallies import Tallies, Tally, chief
from fedn.reducer.timing import stored_seconds
from fedn.reducer.why_facts import Cause

ROUNDS_SHOWN = 20
METRICS_SHOWN = 3
CLIENTS_SHOWN = 25
ABSENT_SHOWN = 30
WRONG_SHOWN = 10
WRONG = ("warning", "error")
CALM = frozenset({Cause.STARTING, Cause.CHECKING, Cause.TRAINING, Cause.REDUCING, Cause.VALIDATING})
"""What a session that runs does when all goes well."""
ORDINARY = CALM - {Cause.STARTING, Cause.VALIDATING}
"""What it does round after round."""


def session_page(page: Blueprint, site: Site) -> None:
    """Add /sessions/<session> to the pages of sessions."""
    front, tallies = site.front, site.tallies

    @page.get("/sessions/<session>")
    def session(session: str) -> str:
        """The live page; ?until= a round shows older rounds, ?people= pages through the contributors."""
        with_charts()
        info = front.state.session(SessionId(check_id("session", session)))
        now, progress, tally = time.time(), progress_of(front, info), tallies.of(info)
        names, why = front.network().names, why_form(front, info.session)
        return render_template(
            "session.html",
            info=info,
            runs=info.state in (RUNNING, PAUSED),
            progress=progress,
            why=why,
            steady=_steady(info, progress, why["cause"]),
            open=open_round(progress, names, now),
            words=WORDS,
            best=_best(front.state, info, progress, tally),
            CALM=CALM,
            newest=tallies.newest(info),
            pace=tallies.pace(info),
            names=names,
            unfit=front.unfit(info.session) or {},
            wrong=_wrong(front, info),
            plan=_plan(info),
            package=_package(front.state, info),
            **_rounds(front.state, tallies, tally, info),
            **_people(tally, info),
        )


def progress_of(front: Front, info: SessionInfo) -> Mapping[str, Any]:
    """What it does just now; empty once it has ended."""
    try:
        return front.round_progress(info.session)
    except NotFound:
        return {}


def _steady(info: SessionInfo, progress: Mapping[str, Any], cause: str) -> str:
    """What an ordinary round does, in one line that is alike in every round; '' where more is to be told."""
    wrong = any(progress.get(what) for what in ("reason", "stragglers", "refused", "lost"))
    if info.state != RUNNING or cause not in ORDINARY or wrong:
        return ""
    if expected := progress.get("expected"):
        rest = f"{progress['received']:,} of {expected:,} updates are in"
    elif progress.get("state") == "planning":
        rest = "its clients are being chosen"
    else:
        return ""
    return f"Round {progress.get('round', info.head.round + 1):,} of {info.plan.rounds:,}: {rest}."


def _package(state: StateStore, info: SessionInfo) -> PackageInfo | None:
    """The plan's package; None without one, and for one that was never uploaded here."""
    try:
        return state.package(Digest(info.plan.package)) if info.plan.package else None
    except FednError:
        return None


def _best(
    state: StateStore, info: SessionInfo, progress: Mapping[str, Any], tally: Tally
) -> Mapping[str, Any] | None:
    """Round, metric, value and model of the best so far, as a session that runs says it, else looked up."""
    best: Mapping[str, Any] | None = progress.get("best")
    if best is None:
        metric = metric_of(info.plan)
        curve = {round_: band.mean for round_, band in tally.curve(TaskKind.VALIDATE, metric)}
        if (found := best_of(curve, direction_of(info.plan))) is None:
            return None
        best = {"metric": metric, "round": found.round, "value": found.value}
    return {**best, "model": state.record(info.session, best["round"]).record.model}


def _rounds(state: StateStore, tallies: Tallies, tally: Tally, info: SessionInfo) -> dict[str, Any]:
    """Committed rounds, newest first, with their means and seconds; who was not taken in them, and why."""
    until = min(query_number("until", info.head.round, low=0), info.head.round)
    lines = [line for line in tallies.lines(info, until, ROUNDS_SHOWN)[::-1] if line["round"] > 0]
    means = tally.means(TaskKind.VALIDATE, after=until - ROUNDS_SHOWN)
    seconds = stored_seconds(state, info.session, [line["round"] for line in lines]) if lines else {}
    known = sorted({name for of_round in means.values() for name in of_round})
    first = chief(known, metric_of(info.plan))
    absent = [
        {"round": line["round"], "what": what, **one}
        for line in lines
        for what in ("refused", "lost")
        for one in line[what]
    ]
    return {
        "lines": [
            line | {"metrics": means.get(line["round"], {}), "seconds": seconds.get(line["round"], {})}
            for line in lines
        ],
        "metrics": [first, *(name for name in known if name != first)][:METRICS_SHOWN] if known else [],
        "until": until,
        "step": ROUNDS_SHOWN,
        "absent": absent[:ABSENT_SHOWN],
        "more_absent": max(0, len(absent) - ABSENT_SHOWN),
    }


def _people(tally: Tally, info: SessionInfo) -> dict[str, Any]:
    """A page of who took part."""
    found = tally.clients
    pages = max(1, -(-len(found) // CLIENTS_SHOWN))
    here = min(query_number("people", 1, low=1), pages)
    shown = found[(here - 1) * CLIENTS_SHOWN : here * CLIENTS_SHOWN]
    return {
        "people": shown,
        "people_here": here,
        "people_pages": pages,
        "people_all": len(found),
        "counted": None if tally.complete else max(0, tally.through),
        "people_metric": chief(
            {name for one in shown if one.validate for name in one.validate.metrics}, metric_of(info.plan)
        ),
    }


def _wrong(front: Front, info: SessionInfo) -> list[dict[str, Any]]:
    """What went wrong of late, newest first. A wait is told at the top of the page while it lasts."""
    kinds, names = events_of(WRONG) - {"waiting"}, front.network().unmistakable
    rows = front.state.events(session=info.session, names=kinds, newest=True, limit=10 * WRONG_SHOWN)
    told = [row for row in rows if gravity(row.event, row.fields) in WRONG][-WRONG_SHOWN:]
    return [
        asdict(row)
        | {"text": sentence(row.event, row.fields, names), "gravity": gravity(row.event, row.fields)}
        for row in told[::-1]
    ]


def _plan(info: SessionInfo) -> dict[str, Sequence[Mapping[str, Any]]]:
    """The plan's fields, those that differ from their defaults apart."""
    values = info.plan.as_dict()
    fields = [form | {"value": values[form["name"]]} for form in plan_form()]
    return {
        "chosen": [field for field in fields if field["value"] != field["default"]],
        "usual": [field for field in fields if field["value"] == field["default"]],
    }
