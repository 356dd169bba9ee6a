"""/events/<number>: one event in words, with all its fields and what it is about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from flask import Blueprint, render_template

from fedn.domain.errors import NotFound
from fedn.ports import EventRow
from fedn.reducer.event_keeping import read
from fedn.reducer.front import Front
from fedn.reducer.pages.frame import Site
from fedn.reducer.pages.places import place
from fedn.reducer.rest_forms import plain
from fedn.reducer.sentences import gravity, sentence
from fedn.stores.event_rows import Wanted

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What may be in an address: an id or a digest. Combiners report what their clients are called."""
LINKS_SHOWN = 20
LETTERS_SHOWN = 8000
"""Of one field."""
ABOUT = {
    "client": "client", "combiner": "combiner", "model": "model", "package": "package",
    "refused": "client", "lost": "client", "from": "combiner",
}  # fmt: skip
"""Fields that name something with a page, or several such: what it is."""


def routes(site: Site) -> Blueprint:
    """/events/<number>."""
    page = Blueprint("event", __name__)
    front = site.front

    @page.get("/events/<int:number>")
    def show(number: int) -> str:
        """The event's sentence, links and fields, and the ones beside it."""
        rows = read(front.state, front.hub, Wanted(number - 1, 1, before=number + 1))
        if not rows:
            raise NotFound(f"there is no event {number}; the oldest are dropped in time", number=number)
        row, names = rows[0], front.network().unmistakable
        return render_template(
            "event.html", row=row, gravity=gravity(row.event, row.fields),
            sentence=sentence(row.event, row.fields, names), links=list(islice(_links(row), LINKS_SHOWN)),
            fields={name: _text(value) for name, value in plain(row.fields).items()},
            earlier=_beside(front, Wanted(limit=1, newest=True, before=number)),
            later=_beside(front, Wanted(number, 1)),
        )  # fmt: skip

    return page


def _links(row: EventRow) -> Iterator[tuple[str, str, str]]:
    """Kind, name and address of what the event is about."""
    if row.session:
        yield "session", row.session, place("session", row.session)
        if row.round > 0:
            yield "round", str(row.round), place("round", row.round, row.session)
    for field, kind in ABOUT.items():
        value = row.fields.get(field)
        for name in value if isinstance(value, list | tuple | Mapping) else [value]:
            if isinstance(name, str) and ID.fullmatch(name):
                yield kind, name, place(kind, name)


def _text(value: Any) -> str:
    """A field as it is read: text as it is, names in a row, everything else as JSON."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = ", ".join(value)
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return text if len(text) <= LETTERS_SHOWN else f"{text[:LETTERS_SHOWN]} …"


def _beside(front: Front, wanted: Wanted) -> int:
    """The number of the next event, 0 if there is none."""
    rows = read(front.state, front.hub, wanted)
    return rows[0].number if rows else 0
