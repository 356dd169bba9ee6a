"""/events: what happened, newest first, by filters that are the address; /events/<number>: one event and its fields."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, render_template, request, url_for

from fedn.domain.errors import InvalidInput, NotFound
from fedn.domain.ids import check_id
from fedn.ports import EventRow, StateStore
from fedn.reducer.event_keeping import read
from fedn.reducer.front import Front
from fedn.reducer.pages.frame import Site
from fedn.reducer.rest_forms import plain, query_choice, query_number
from fedn.reducer.sentences import GRAVITIES, events_of, gravity, sentence
from fedn.stores.event_rows import Wanted

SHOWN = 100
"""Events on a page."""
LOOKED_THROUGH = 10_000
"""Events that one look may read for a filter that only their sentences can answer."""
AT_ONCE = 1000
SESSIONS_OFFERED = 50
MAX_TEXT = 100
MAX_KINDS = 64
ITEMS_SHOWN = 20
LETTERS_SHOWN = 4000
"""Of one field of an event."""
LATEST = 2**53

KINDS: Mapping[str, Sequence[str]] = {
    "sessions": ("session_started", "session_recovered", "session_paused", "session_resumed",
                 "session_finished", "session_failed", "session_cancelled", "waiting"),
    "rounds": ("round_opened", "update_received", "round_committed", "round_validated", "best_model"),
    "clients": ("client_fit", "client_unfit", "client_failed", "clients_changed"),
    "inquiries": ("inquiry_started", "inquiry_ended"),
    "network": ("combiner_up", "combiner_lost", "combiner_draining", "combiner_undrained",
                "network_changed", "reducer_started", "reducer_stopped"),
    "uploads": ("model_seeded", "package_uploaded"),
}  # fmt: skip
"""Kinds of events in groups; a filter may name a group, too."""
GRAVE = {"warning": ("warning", "error"), "error": ("error",), "good": ("good",), "info": ("info",)}


@dataclass(frozen=True, slots=True)
class Filter:
    """What the query string asks for. Times are as the form has them, UTC to the minute."""

    session: str
    kind: str
    gravity: tuple[str, ...]
    text: str
    since: str
    until: str
    after: int
    before: int | None

    @property
    def kept(self) -> dict[str, Any]:
        """Parameters of the same filter on another page of it."""
        found = {"session": self.session, "event": self.kind, "gravity": list(self.gravity),
                 "text": self.text, "since": self.since, "until": self.until}  # fmt: skip
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Line:
    """An event as the list shows it."""

    row: EventRow
    gravity: str
    sentence: str


def routes(site: Site) -> Blueprint:
    """/events, and the page of each event."""
    events, event = Blueprint("events", __name__), Blueprint("event", __name__)
    front = site.front

    @events.get("/events")
    def show() -> str:
        """A page of those that the filter lets through, newest first, and the filter's form."""
        wanted = asked()
        lines, through = found(front, wanted)
        sessions = front.state.sessions()[:SESSIONS_OFFERED]
        names = {str(info.session): info.name for info in sessions}
        return render_template(
            "events.html", wanted=wanted, lines=lines, names=names, kinds=KINDS, **_paging(front, wanted, lines, through)
        )

    @event.get("/events/<int:number>")
    def one(number: int) -> str:
        """An event's sentence, links and fields."""
        rows = read(front.state, front.hub, Wanted(number - 1, 1, before=number + 1))
        if not rows:
            raise NotFound(f"there is no event {number}; of old ones the oldest are dropped", number=number)
        row = rows[0]
        return render_template(
            "event.html", row=row, gravity=gravity(row.event, row.fields),
            sentence=sentence(row.event, row.fields), links=list(_links(row)), fields=list(_fields(row)),
            earlier=_beside(front, before=number), later=_beside(front, after=number),
        )  # fmt: skip

    event.add_url_rule("/events/<int:number>", "show", one)
    return events
