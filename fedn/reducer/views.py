"""The plain status page at /: network, sessions, rounds with their metrics. Live through the event stream.

One fragment is rendered here, escaped by the template; the script in the page swaps it in whenever
something happened. The page asks nothing of any other machine. `rest_login.py` has the page before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, render_template, send_from_directory

from fedn.domain.errors import NotFound
from fedn.domain.ids import SessionId
from fedn.identity.roles import may_rest
from fedn.ports import SessionInfo
from fedn.reducer.books import PAUSED, RUNNING
from fedn.reducer.front import Front
from fedn.reducer.gate import principal
from fedn.reducer.metrics import best_model, by_round, whole_rounds
from fedn.reducer.registrar import Registrar
from fedn.reducer.rest_forms import plain, round_form

SESSIONS_SHOWN = 10
ROUNDS_SHOWN = 25
PEOPLE_SHOWN = 50
METRICS_SHOWN = 6
BESTS_KEPT = 64
BEFORE_FIT = " before fit"
CURVE = (240, 48)
"""Width and height of the drawn metric, in pixels."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as the page shows it: newest rounds first, and one metric as a drawn curve."""

    info: SessionInfo
    progress: dict[str, Any]
    best: dict[str, Any] | None
    rounds: list[dict[str, Any]]
    names: list[str]
    curve_name: str
    curve: str


def page_routes(front: Front, registrar: Registrar | None, insecure: bool) -> Blueprint:
    """/ with its fragment and its files; ``insecure`` puts a banner on every page."""
    routes = Blueprint("page", __name__, static_folder="static", template_folder="templates")
    bests = Bests(front)

    @routes.get("/")
    def page() -> str:
        """The status page."""
        return render_template("status.html", **_content(front, registrar, bests))

    @routes.get("/fragment")
    def fragment() -> str:
        """The part of the page that changes."""
        return render_template("fragment.html", **_content(front, registrar, bests))

    @routes.get("/favicon.ico")
    def favicon() -> Response:
        """The icon."""
        return send_from_directory(str(routes.static_folder), "favicon.svg", mimetype="image/svg+xml")

    @routes.app_context_processor
    def everywhere() -> dict[str, Any]:
        return {"insecure": insecure}

    routes.add_app_template_filter(_moment, "moment")
    routes.add_app_template_filter(_number, "number")
    return routes


def _content(front: Front, registrar: Registrar | None, bests: Bests) -> dict[str, Any]:
    sessions = front.state.sessions()
    return _people(registrar) | {
        "network": front.network(),
        "reason": front.ready(),
        "sessions": [_session(front, info, bests) for info in sessions[:SESSIONS_SHOWN]],
        "hidden": max(0, len(sessions) - SESSIONS_SHOWN),
    }


def _people(registrar: Registrar | None) -> dict[str, Any]:
    """Who is who, as far as whoever asks may see it."""
    who = principal()
    return {
        "who": who,
        "downloads": may_rest(who.role, "GET", "/api/v1/models/<digest>"),
        "members": registrar.members()
        if registrar and may_rest(who.role, "GET", "/api/v1/members")
        else None,
        "tokens": registrar.tokens() if registrar and may_rest(who.role, "GET", "/api/v1/tokens") else None,
        "shown": PEOPLE_SHOWN,
    }


class Bests:
    """The best model of each session; of those that have ended it is looked for once."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._ended: dict[SessionId, dict[str, Any] | None] = {}

    def of(self, info: SessionInfo, progress: Mapping[str, Any]) -> dict[str, Any] | None:
        """Round, model, metric and value; None while there is none. A session that runs says its own."""
        state = self._front.state
        if best := progress.get("best"):
            return {**best, "model": state.record(info.session, best["round"]).record.model}
        if progress or info.state in (RUNNING, PAUSED):
            return None
        if info.session not in self._ended:
            if len(self._ended) >= BESTS_KEPT:
                self._ended.clear()
            try:
                self._ended[info.session] = plain(best_model(state, info))
            except NotFound:
                self._ended[info.session] = None
        return self._ended[info.session]


def _session(front: Front, info: SessionInfo, bests: Bests) -> SessionView:
    after = max(info.head.round - ROUNDS_SHOWN, -1)
    rows, _ = whole_rounds(front.state, info.session, after)
    means = {item["round"]: item for item in by_round(rows)}
    stored = front.state.records(info.session, after=after, limit=ROUNDS_SHOWN)
    rounds = [round_form(item) | _means(means.get(item.record.round, {})) for item in stored]
    names = sorted({name for item in rounds for name in item["metrics"]}, key=_place)
    values = [item["metrics"][names[0]] for item in rounds if names and names[0] in item["metrics"]]
    try:
        progress = dict(front.round_progress(info.session))
    except NotFound:  # it ended; nothing is live
        progress = {}
    best = bests.of(info, progress)
    if not progress:
        progress = {"unfit": front.unfit(info.session) or {}}
    first = names[0] if names else ""
    return SessionView(info, progress, best, rounds[::-1], names[:METRICS_SHOWN], first, curve(values))


def _place(name: str) -> tuple[bool, bool, str]:
    return name.endswith(BEFORE_FIT), name != "accuracy", name


def _means(means: dict[str, Any]) -> dict[str, Any]:
    """A round's metrics: how many clients validated, what they say, and what was said before the fit."""
    validated, trained = means.get("validate", {}), means.get("train", {}).get("metrics", {})
    before = {
        name.removeprefix("before_") + BEFORE_FIT: value
        for name, value in trained.items()
        if name.startswith("before_")
    }
    return {"metrics": validated.get("metrics", {}) | before, "validators": validated.get("clients", 0)}


def curve(values: list[float]) -> str:
    """Points of an SVG polyline through ``values``, scaled to `CURVE`; '' for fewer than two."""
    if len(values) < 2:
        return ""
    (width, height), low, high = CURVE, min(values), max(values)
    scale = (high - low) or 1.0
    points = enumerate(values)
    return " ".join(
        f"{x * width / (len(values) - 1):.1f},{height - (y - low) / scale * height:.1f}" for x, y in points
    )


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"
