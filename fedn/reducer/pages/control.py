"""/control: all sessions, what each does, and what can be done about it."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, render_template

from fedn.ports import SessionInfo
from fedn.reducer.books import PAUSED, RUNNING
from fedn.reducer.pages.frame import Site
from fedn.reducer.pages.session import progress_of, session_page
from fedn.reducer.rest_forms import query_choice, query_number

SHOWN = 20
STATES = (RUNNING, PAUSED, "finished", "failed", "cancelled")


def routes(site: Site) -> Blueprint:
    """/control, and the page of each session."""
    page = Blueprint("control", __name__)
    session_page(page, site)

    @page.get("/control")
    def show() -> str:
        """Those that run first, then the newest; ?state= filters, ?page= pages."""
        every, wanted = site.front.state.sessions(), query_choice("state", STATES)
        found = [info for info in every if wanted in ("", info.state)]
        found.sort(key=lambda info: info.state not in (RUNNING, PAUSED))  # stable: newest first within
        pages = max(1, -(-len(found) // SHOWN))
        here = min(query_number("page", 1, low=1), pages)
        return render_template(
            "control.html",
            sessions=[_row(site, info) for info in found[(here - 1) * SHOWN : here * SHOWN]],
            counts={state: sum(info.state == state for info in every) for state in STATES},
            every=len(every),
            wanted=wanted,
            here=here,
            pages=pages,
        )

    return page


def _row(site: Site, info: SessionInfo) -> dict[str, Any]:
    progress = progress_of(site.front, info)
    return {
        "info": info,
        "runs": info.state in (RUNNING, PAUSED),
        "reason": info.reason or progress.get("reason", ""),
        "progress": progress,
        "newest": site.tallies.newest(info),
        "pace": site.tallies.pace(info),
    }
