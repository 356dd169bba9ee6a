"""Events over HTTP: those that are stored as a list, and all to come as server-sent events.

An event's id is its number, the same in the list, in the stream and after a restart of the reducer. A reader
gives the last one back (`Last-Event-ID`) and goes on there; what the ring has forgotten comes from the store.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, jsonify, request

from fedn.domain.errors import Damaged, InvalidInput, NotFound, StoreUnavailable
from fedn.domain.ids import check_id
from fedn.ports import EventRow, StateStore
from fedn.reducer.event_keeping import read
from fedn.reducer.events import FLEETING, EventHub, Subscription
from fedn.reducer.front import Front
from fedn.reducer.rest_forms import MAX_PAGE, plain, query_number
from fedn.reducer.sentences import GRAVITIES, events_of, gravity, sentence
from fedn.stores.event_rows import Wanted

RETRY_MILLISECONDS = 1000
QUIET_SECONDS = 1.0
"""After so much silence the gate gets to look whether the reader still may read."""
BEAT = 3
"""Quiet seconds after which the reader is told that the stream is still there."""
MAX_NAMES = 64
"""Names that one question may give."""


def event_routes(front: Front) -> Blueprint:
    """Routes under /api/v1/events."""
    routes = Blueprint("events", __name__, url_prefix="/api/v1/events")
    state, hub = front.state, front.hub

    @routes.get("")
    def events() -> Response:
        """What happened, oldest first: the first of it, or with ?newest=1 the last."""
        wanted, graves = _wanted(), _several("gravity", GRAVITIES)
        found = _graves(state, hub, wanted, graves) if graves else read(state, hub, wanted)
        following = found[-1].number if len(found) == wanted.limit and not wanted.newest else None
        names = front.network().unmistakable
        return jsonify(events=[event_form(row, names) for row in found], next=following)

    @routes.get("/<int:number>")
    def one(number: int) -> Response:
        """One event, by its number."""
        found = read(state, hub, Wanted(number - 1, 1, before=number + 1))
        if not found:
            raise NotFound(f"there is no event {number}; old ones are dropped", number=number)
        return jsonify(event_form(found[0], front.network().unmistakable))

    @routes.get("/stream")
    def stream() -> Response:
        """Server-sent events from now on, or behind Last-Event-ID (or ?after=<number>)."""
        after = _last_event()
        behind = () if after is None else _backlog(state, hub, after)
        subscription = hub.subscribe(after)
        response = Response(_lines(front, behind, subscription), mimetype="text/event-stream")
        response.headers["X-Accel-Buffering"] = "no"
        response.call_on_close(subscription.close)
        return response

    return routes


def event_form(row: EventRow, names: Mapping[str, str]) -> dict[str, Any]:
    """One event as JSON, with what it says to people, who know clients by ``names``."""
    told = {"sentence": sentence(row.event, row.fields, names), "gravity": gravity(row.event, row.fields)}
    form: dict[str, Any] = plain(row)
    return form | told


# --- the list --------------------------------------------------------------------------------------


def _wanted() -> Wanted:
    """What the query string asks for."""
    session = request.args.get("session", "")
    return Wanted(
        after=query_number("after", 0),
        limit=query_number("limit", MAX_PAGE, low=1, high=MAX_PAGE),
        session=check_id("session", session) if session else "",
        round=query_number("round", 0) if "round" in request.args else None,
        names=_several("event"),
        newest=bool(query_number("newest", 0, low=0, high=1)),
        before=query_number("before", 0) if "before" in request.args else None,
    )


def _several(name: str, known: Sequence[str] = ()) -> frozenset[str]:
    """The values of a parameter that may be given more than once."""
    values = frozenset(request.args.getlist(name))
    for value in values:
        if not re.fullmatch(r"[a-z_]{1,64}", value) or (known and value not in known):
            remedy = f"give one of {', '.join(known)}" if known else "give letters and underscores"
            raise InvalidInput(name, f"{value[:80]!r} is none", remedy)
    if len(values) > MAX_NAMES:
        raise InvalidInput(name, f"is given {len(values)} times", f"give {MAX_NAMES} at most")
    return values


def _graves(state: StateStore, hub: EventHub, wanted: Wanted, graves: frozenset[str]) -> Sequence[EventRow]:
    """Of the events that are wanted those of these gravities, looked for page by page."""
    names = events_of(graves)
    if names and wanted.names:
        names &= frozenset(wanted.names)
        if not names:
            return []
    page, found = replace(wanted, limit=MAX_PAGE, names=names or wanted.names), list[EventRow]()
    while len(found) < wanted.limit:
        rows = read(state, hub, page)
        fitting = [row for row in rows if gravity(row.event, row.fields) in graves]
        found = [*fitting, *found] if wanted.newest else [*found, *fitting]
        if len(rows) < MAX_PAGE:
            break
        first, last = rows[0].number, rows[-1].number
        page = replace(page, before=first) if wanted.newest else replace(page, after=last)
    return found[-wanted.limit :] if wanted.newest else found[: wanted.limit]


# --- the stream ------------------------------------------------------------------------------------


def _last_event() -> int | None:
    """The number that the reader has seen last; None if it says nothing."""
    last = request.headers.get("Last-Event-ID") or request.args.get("after")
    if last is None:
        return None
    if not (last.isascii() and last.isdigit() and len(last) < 18):
        raise InvalidInput("after", f"{last[:80]!r} is not an event's number", "give the id of an event")
    return int(last)


def _lines(front: Front, behind: Sequence[EventRow], subscription: Subscription) -> Iterator[str]:
    names, asked = front.network().unmistakable, time.monotonic()
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    if behind:
        subscription.pass_by(behind[-1].number)
    yield from (_line(row, names) for row in behind)
    quiet = 0
    for event in subscription.follow(QUIET_SECONDS):
        if event is None:
            quiet += 1
            yield "" if quiet % BEAT else ": still here\n\n"
        else:
            quiet = 0
            if time.monotonic() - asked > QUIET_SECONDS:
                names, asked = front.network().unmistakable, time.monotonic()
            yield _line(event, names)


def _backlog(state: StateStore, hub: EventHub, after: int) -> Sequence[EventRow]:
    """Events behind ``after`` that the ring no longer has, if they are few and none of them is missing.

    Without them the reader is told that it lags behind.
    """
    oldest = hub.oldest
    if oldest - MAX_PAGE <= after + 1 < oldest:
        with suppress(StoreUnavailable, Damaged):
            rows = state.events(after, MAX_PAGE, before=oldest)
            if [row.number for row in rows] == list(range(after + 1, oldest)):
                return rows
    return ()


def _line(row: EventRow, names: Mapping[str, str]) -> str:
    id_ = "" if row.event in FLEETING else f"id: {row.number}\n"
    return f"{id_}data: {json.dumps(event_form(row, names))}\n\n"
