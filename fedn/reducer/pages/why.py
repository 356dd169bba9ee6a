"""/sessions/<session>/why, and of one round: why it is as it is, in one paragraph with what it stands on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Blueprint, render_template

from fedn.domain.ids import SessionId, check_id
from fedn.ports import SessionInfo
from fedn.reducer.pages.frame import Site
from fedn.reducer.pages.places import place
from fedn.reducer.rest_why import why_form

FINE = frozenset({"finished", "stopped_early", "as_usual", "training", "reducing", "validating", "checking"})
"""Causes that nobody has to do anything about."""
GRAVE = frozenset({"failed", "store_full", "store_unreachable", "no_combiner", "package_missing"})


def routes(site: Site) -> Blueprint:
    """The Why pages."""
    page = Blueprint("why", __name__)
    front = site.front

    @page.get("/sessions/<session>/why")
    def of_session(session: str) -> str:
        """Why the session's present round waits or is slow, or how the session ended."""
        return shown(front.state.session(SessionId(check_id("session", session))), None)

    @page.get("/sessions/<session>/rounds/<int:number>/why")
    def of_round(session: str, number: int) -> str:
        """Where the time of one round went."""
        return shown(front.state.session(SessionId(check_id("session", session))), number)

    def shown(info: SessionInfo, number: int | None) -> str:
        why = why_form(front, info.session, number)
        gravity = gravity_of(why["cause"])
        links = list(_links(why["links"], info.session))
        return render_template("why.html", info=info, number=number, why=why, gravity=gravity, links=links)

    return page


def gravity_of(cause: str) -> str:
    """good, warn or bad."""
    return "good" if cause in FINE else "bad" if cause in GRAVE else "warn"


def _links(links: Iterable[Mapping[str, Any]], session: SessionId) -> Iterable[tuple[str, str, str]]:
    """Kind, name and address of what the answer speaks of."""
    for link in links:
        kind, name = str(link["kind"]), str(link["id"])
        yield kind, name, place(kind, name, session)
