"""/plot: metric curves of several sessions side by side."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from fedn.domain.ids import SessionId, check_id
from fedn.reducer.pages.frame import Site, with_charts

SESSIONS_LISTED = 50
MOST_CURVES = 8
CHOSEN_AT_FIRST = 3


def routes(site: Site) -> Blueprint:
    """/plot."""
    page = Blueprint("charts", __name__)
    state = site.front.state

    @page.get("/plot")
    def show() -> str:
        """?session=, up to 8 times, chooses sessions; ?kind= and ?metric= what is drawn."""
        with_charts()
        asked = [SessionId(check_id("session", one)) for one in request.args.getlist("session")[:MOST_CURVES]]
        every = state.sessions()
        older = (one for one in every[SESSIONS_LISTED:] if one.session in asked)
        listed = [*every[:SESSIONS_LISTED], *older]
        usual = [one.session for one in every if one.head.round > 0][:CHOSEN_AT_FIRST]
        return render_template(
            "charts.html",
            sessions=listed,
            more=len(every) - len(listed),
            chosen=asked or usual,
            most=MOST_CURVES,
        )

    return page
