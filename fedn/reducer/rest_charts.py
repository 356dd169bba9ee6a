"""What charts are drawn from, over HTTP: columns of numbers by round, never the clients' rows."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from fedn.domain.ids import SessionId, check_id
from fedn.domain.messages import LAPS, TaskKind
from fedn.reducer.front import Front
from fedn.reducer.metrics import KINDS, TIMING
from fedn.reducer.rest_forms import MAX_PAGE, plain, query_choice, query_number
from fedn.reducer.scores import metric_of
from fedn.reducer.tallies import Tallies, Tally, chief
from fedn.reducer.timing import stored_seconds


def chart_routes(front: Front, tallies: Tallies) -> Blueprint:
    """Routes under /api/v1/sessions/<session>."""
    routes = Blueprint("charts", __name__, url_prefix="/api/v1/sessions")
    state = front.state

    @routes.get("/<session>/chart")
    def chart(session: str) -> Response:
        """A ?metric of a ?kind by round, above ?after: weighted mean, least and most over the clients."""
        info = state.session(SessionId(check_id("session", session)))
        after, tally = query_number("after", -1), tallies.of(info)
        names = tally.names
        kind = query_choice("kind", KINDS) or next((k for k in _OFTEN if k in names), TaskKind.VALIDATE)
        metric = request.args.get("metric", "") or chief(names.get(kind, ()), metric_of(info.plan))
        found = tally.curve(kind, metric, after)[:MAX_PAGE]
        shown = found[-1][0] if found else after
        columns = {
            "rounds": [number for number, _ in found],
            "mean": [plain(band.mean) for _, band in found],  # a sum of finite numbers may not be finite
            "low": [band.low for _, band in found],
            "high": [band.high for _, band in found],
            "clients": [band.clients for _, band in found],
        }
        more = len(found) == MAX_PAGE or not tally.complete
        about = {"kind": str(kind), "metric": metric, "names": names, "next": shown if more else None}
        return jsonify(about | columns)

    @routes.get("/<session>/chart/times")
    def times(session: str) -> Response:
        """Seconds by round above ?after: of the whole round by phase, and of its clients' mean by lap."""
        info = state.session(SessionId(check_id("session", session)))
        after, tally = max(0, query_number("after", 0)), tallies.of(info)
        last = info.head.round if tally.complete else tally.through
        numbers = list(range(after + 1, min(last, after + MAX_PAGE) + 1))
        known = stored_seconds(state, info.session, numbers) if numbers else {}
        shown = numbers[-1] if numbers else after
        phases = sorted({phase for seconds in known.values() for phase in seconds}, key=_place)
        return jsonify(
            rounds=numbers,
            phases={phase: [plain(known[number].get(phase)) for number in numbers] for phase in phases},
            laps=_laps(tally, numbers),
            next=shown if shown < info.head.round else None,
        )

    return routes


_OFTEN = (TaskKind.VALIDATE, TaskKind.TRAIN)
_PHASES = ("clients", "reducing", "committing", "validating")


def _place(phase: str) -> int:
    return _PHASES.index(phase) if phase in _PHASES else len(_PHASES)


def _laps(tally: Tally, numbers: list[int]) -> dict[str, list[Any]]:
    means = tally.means(TIMING, after=numbers[0] - 1) if numbers else {}
    found = {lap: [plain(means.get(number, {}).get(lap)) for number in numbers] for lap in LAPS}
    return {lap: values for lap, values in found.items() if any(value is not None for value in values)}
