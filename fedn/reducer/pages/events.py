"""/events: what happened, newest first. Its filter is its address, so that it can be handed on.

`event.py` is the page of a single one, `fedn.reducer.rest_events` the same list for programs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, render_template, request, url_for

from fedn.domain.errors import InvalidInput
from fedn.domain.ids import check_id
from fedn.ports import EventRow, StateStore
from fedn.reducer.event_keeping import read
from fedn.reducer.front import Front
from fedn.reducer.pages.frame import Site
from fedn.reducer.rest_forms import query_number
from fedn.reducer.sentences import GRAVITIES, events_of, gravity, sentence
from fedn.stores.event_rows import Wanted

SHOWN = 50
"""Events on a page."""
LOOKED_THROUGH = 10_000
"""Events that one look may read for a filter that only the events themselves can answer."""
AT_ONCE = 1000
SESSIONS_OFFERED = 50
MAX_TEXT = 100
MAX_WORDS = 64
MINUTE = 60.0

KINDS: Mapping[str, Sequence[str]] = {
    "sessions": ("session_started", "session_recovered", "session_paused", "session_resumed",
                 "session_finished", "session_failed", "session_cancelled", "waiting"),
    "rounds": ("round_opened", "update_received", "round_committed", "round_validated",
               "validation_skipped", "best_model"),
    "clients": ("client_fit", "client_unfit", "client_failed", "clients_changed"),
    "inquiries": ("inquiry_started", "inquiry_ended"),
    "network": ("combiner_up", "combiner_lost", "combiner_draining", "combiner_undrained",
                "network_changed", "reducer_started", "reducer_stopped"),
    "uploads": ("model_seeded", "package_uploaded"),
}  # fmt: skip
"""Kinds of events by group; the filter takes a group's name, too."""
GRAVE = (
    ("warning,error", "warnings and errors"),
    ("error", "errors"),
    ("good", "good news"),
    ("info", "the rest"),
)
"""Gravities that the form offers."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What the query string asks for; times are UTC as the form has them, numbers are those of events."""

    session: str
    kinds: tuple[str, ...]
    graves: tuple[str, ...]
    text: str
    since: str
    until: str
    after: int
    before: int | None

    @property
    def kept(self) -> dict[str, Any]:
        """The parameters of the same filter on another page."""
        found = {"session": self.session, "event": ",".join(self.kinds), "gravity": ",".join(self.graves),
                 "text": self.text, "since": self.since, "until": self.until}  # fmt: skip
        return {name: value for name, value in found.items() if value}

    @property
    def forward(self) -> bool:
        """Whether the page begins at its oldest event: the next newer ones are asked for."""
        return self.after > 0 and self.before is None

    def passes(self, line: Line) -> bool:
        """What the store can't filter by."""
        if self.graves and line.gravity not in self.graves:
            return False
        return (
            not self.text
            or self.text.casefold() in f"{line.sentence} {line.row.event} {line.by_id}".casefold()
        )


@dataclass(frozen=True, slots=True)
class Line:
    """An event as the list shows it."""

    row: EventRow
    gravity: str
    sentence: str

    @property
    def by_id(self) -> str:
        """The sentence with clients' ids, by which they can be looked for, too."""
        return sentence(self.row.event, self.row.fields)


def routes(site: Site) -> Blueprint:
    """/events."""
    page = Blueprint("events", __name__)
    front = site.front

    @page.get("/events")
    def show() -> str:
        """A page of those that the filter lets through, newest first, and the filter's form."""
        wanted = asked()
        lines, edge = found(front, wanted)
        newer, older = turns(wanted, [line.row.number for line in lines], edge)
        return render_template(
            "events.html", wanted=wanted, lines=lines, groups=KINDS, graves_offered=GRAVE,
            names={str(info.session): info.name for info in front.state.sessions()[:SESSIONS_OFFERED]},
            newer=url_for(".show", **wanted.kept, **newer) if newer else "",
            older=url_for(".show", **wanted.kept, **older) if older else "",
            looked=LOOKED_THROUGH if edge is not None and len(lines) < SHOWN else 0,
        )  # fmt: skip

    return page


# --- what is asked for -----------------------------------------------------------------------------------


def asked() -> Filter:
    """The filter in the query string; raises InvalidInput naming what is wrong in it."""
    session, text = request.args.get("session", ""), request.args.get("text", "").strip()
    if len(text) > MAX_TEXT:
        raise InvalidInput("text", f"has {len(text)} letters", f"give {MAX_TEXT} at most")
    graves = _several("gravity")
    if unknown := sorted(set(graves) - set(GRAVITIES)):
        raise InvalidInput("gravity", f"{unknown[0]!r} is none", f"give one of {', '.join(GRAVITIES)}")
    return Filter(
        check_id("session", session) if session else "", _several("event"), graves, text,
        _minute("since"), _minute("until"), query_number("after", 0, low=0),
        query_number("before", 0, low=0) if "before" in request.args else None,
    )  # fmt: skip


def _several(name: str) -> tuple[str, ...]:
    """Words that are given one by one, or with commas between them."""
    given = ",".join(request.args.getlist(name))
    words = [word for word in given.split(",") if word]
    if len(words) > MAX_WORDS:
        raise InvalidInput(name, f"has {len(words)} words", f"give {MAX_WORDS} at most")
    for word in words:
        if not re.fullmatch(r"[a-z_]{1,64}", word):
            raise InvalidInput(name, f"{word[:80]!r} is none", "give letters and underscores")
    return tuple(words)


def _minute(name: str) -> str:
    """A time as a form's field has it, '' for none."""
    text = request.args.get(name, "")
    if text and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?", text):
        raise InvalidInput(name, f"{text[:40]!r} is no time", "give it in UTC, as 2026-01-31T13:30")
    if text:
        _unix(name, text)
    return text


def _unix(name: str, text: str) -> float:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        raise InvalidInput(name, f"{text} is in no calendar", "give it in UTC, as 2026-01-31T13:30") from None


# --- what there is ---------------------------------------------------------------------------------------


def found(front: Front, wanted: Filter) -> tuple[list[Line], int | None]:
    """A page of events, newest first; and the number to go on behind, None where that was all."""
    page = _first_page(front.state, wanted)
    lines, looked, edge = list[Line](), 0, None
    names = front.network().unmistakable
    while page and edge is None:
        rows = read(front.state, front.hub, page)
        for row in rows if wanted.forward else reversed(rows):
            line = Line(row, gravity(row.event, row.fields), sentence(row.event, row.fields, names))
            if wanted.passes(line):
                lines.append(line)
            if len(lines) > SHOWN:
                edge = lines[SHOWN - 1].row.number
                break
        looked += len(rows)
        if len(rows) < page.limit:
            break
        last = rows[-1 if wanted.forward else 0].number
        if edge is None and looked >= LOOKED_THROUGH:
            edge = last
        page = replace(page, after=last) if wanted.forward else replace(page, before=last)
    lines = lines[:SHOWN]
    return lines[::-1] if wanted.forward else lines, edge


def turns(
    wanted: Filter, shown: Sequence[int], edge: int | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What the address of the newer page says, and that of the older one; None where there is none."""
    if wanted.forward:
        newer = None if edge is None else {"after": edge}
        return newer, {"before": shown[-1] if shown else wanted.after + 1}
    older = None if edge is None else {"before": edge}
    if wanted.before is None:
        return None, older
    return {"after": shown[0] if shown else max(wanted.before - 1, 1)}, older


def _first_page(state: StateStore, wanted: Filter) -> Wanted | None:
    """What to read first; None where nothing can fit."""
    names = _names(wanted)
    if names is None:
        return None
    after, before = wanted.after, wanted.before
    if wanted.since:
        after = max(after, number_at(state, _unix("since", wanted.since)) - 1)
    if wanted.until:
        end = number_at(state, _unix("until", wanted.until) + MINUTE)
        before = end if before is None else min(before, end)
    sifted = wanted.graves or wanted.text
    limit = AT_ONCE if sifted else SHOWN + 1
    return Wanted(after, limit, wanted.session, None, names, not wanted.forward, before)


def _names(wanted: Filter) -> Collection[str] | None:
    """Names of events that may fit, () for all; None for none."""
    kinds = {name for kind in wanted.kinds for name in KINDS.get(kind, (kind,))}
    graves = events_of(wanted.graves) if wanted.graves else frozenset[str]()
    return (kinds & graves or None) if kinds and graves else kinds or graves


def number_at(state: StateStore, moment: float) -> int:
    """The number that events from a moment (Unix time) on have, or a higher one; found by halving."""
    newest = state.events(newest=True, limit=1)
    low, high = 0, newest[0].number + 1 if newest else 1
    while high - low > 1:
        middle = (low + high) // 2
        [row] = state.events(after=middle - 1, limit=1)
        if row.at < moment:
            low = row.number
        else:
            high = middle
    return high


__all__ = ["KINDS", "routes"]
