"""Events over HTTP: the recent ones as a list, and all to come as server-sent events.

An event's id is ``<epoch>-<number>``; a reader gives the last one back (`Last-Event-ID`) and goes on
there. After a restart of the reducer the epoch is another, and the reader gets all there is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, jsonify, request

from fedn.domain.errors import InvalidInput
from fedn.reducer.events import Event, EventHub, Subscription
from fedn.reducer.rest_forms import MAX_PAGE, plain, query_number

RETRY_MILLISECONDS = 1000
QUIET_SECONDS = 1.0
"""After so much silence the gate gets to look whether the reader still may read."""
BEAT = 10
"""Quiet seconds after which the reader is told that the stream is still there."""


def event_routes(hub: EventHub) -> Blueprint:
    """Routes under /api/v1/events."""
    routes = Blueprint("events", __name__, url_prefix="/api/v1/events")

    @routes.get("")
    def recent() -> Response:
        """The last events, oldest first; ?after=<id>."""
        limit = query_number("limit", MAX_PAGE, low=1, high=MAX_PAGE)
        events = hub.recent(_number(hub, request.args.get("after")) or 0)[-limit:]
        return jsonify(events=[event_form(hub, event) for event in events])

    @routes.get("/stream")
    def stream() -> Response:
        """Server-sent events from now on, or behind Last-Event-ID (or ?after=<id>)."""
        last = request.headers.get("Last-Event-ID") or request.args.get("after")
        subscription = hub.subscribe(_number(hub, last))
        response = Response(_lines(hub, subscription), mimetype="text/event-stream")
        response.headers["X-Accel-Buffering"] = "no"
        response.call_on_close(subscription.close)
        return response

    return routes


def event_form(hub: EventHub, event: Event) -> dict[str, Any]:
    """One event as JSON."""
    return {"id": f"{hub.epoch}-{event.number}", **plain(event)}


def _number(hub: EventHub, last: str | None) -> int | None:
    """The number behind an event id; 0 if it is from another life of the reducer; None if not given."""
    if last is None:
        return None
    epoch, dash, number = last.rpartition("-")
    if not dash or not (number.isascii() and number.isdigit() and len(number) < 18):
        raise InvalidInput("after", f"{last[:80]!r} is not an event id", "give the id of an event")
    return int(number) if epoch == hub.epoch else 0


def _lines(hub: EventHub, subscription: Subscription) -> Iterator[str]:
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    quiet = 0
    for event in subscription.follow(QUIET_SECONDS):
        if event is None:
            quiet += 1
            yield "" if quiet % BEAT else ": still here\n\n"
        else:
            quiet = 0
            form = event_form(hub, event)
            yield f"id: {form['id']}\ndata: {json.dumps(form)}\n\n"
