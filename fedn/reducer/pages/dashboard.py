"""/dashboard: what runs, on a wall, to be read from afar."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, render_template

from fedn.domain.messages import TaskKind
from fedn.ports import SessionInfo
from fedn.reducer.books import PAUSED, RUNNING
from fedn.reducer.pages.drawing import sparkline
from fedn.reducer.pages.frame import Site
from fedn.reducer.pages.session import progress_of
from fedn.reducer.scores import metric_of
from fedn.reducer.tallies import chief

TILES = 9
POINTS = 200
"""Of a tile's curve; longer ones are thinned out."""


def routes(site: Site) -> Blueprint:
    """/dashboard."""
    page = Blueprint("dashboard", __name__)

    @page.get("/dashboard")
    def show() -> str:
        """Of what runs, or ran last, the few numbers that matter."""
        every = site.front.state.sessions()
        running = [info for info in every if info.state in (RUNNING, PAUSED)]
        return render_template(
            "dashboard.html",
            tiles=[_tile(site, info) for info in (running or every[:1])[:TILES]],
            more=max(0, len(running) - TILES),
            running=len(running),
            network=site.front.network(),
            reason=site.front.ready(),
        )

    return page


def _tile(site: Site, info: SessionInfo) -> dict[str, Any]:
    tally, progress = site.tallies.of(info), progress_of(site.front, info)
    name = chief(tally.names.get(TaskKind.VALIDATE, ()), metric_of(info.plan))
    means = [band.mean for _, band in tally.curve(TaskKind.VALIDATE, name)]
    return {
        "info": info,
        "progress": progress,
        "reason": info.reason or progress.get("reason", ""),
        "metric": name,
        "value": means[-1] if means else None,
        "curve": sparkline(means[:: -(-len(means) // POINTS) or 1]),
        "pace": site.tallies.pace(info),
    }
