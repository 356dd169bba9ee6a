"""/models: the seed models, the newest model of every session, and two of them to compare."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from fedn.domain.ids import check_digest
from fedn.reducer.pages.frame import Site
from fedn.reducer.pages.paging import paged
from fedn.reducer.rest_forms import MAX_PAGE

SEEDS_SHOWN = 50
SESSIONS_SHOWN = 50


def routes(site: Site) -> Blueprint:
    """/models."""
    page = Blueprint("models", __name__)
    state = site.front.state

    @page.get("/models")
    def show() -> str | Response:
        """The lists; with two ?compare= it leads on to their comparison."""
        chosen = [check_digest("compare", one) for one in request.args.getlist("compare") if one]
        if len(chosen) == 2:
            return redirect(url_for("page.compare.show", digest=chosen[0], other=chosen[1]))
        return render_template(
            "models.html",
            seeds=paged(state.models(MAX_PAGE), SEEDS_SHOWN, "seeds"),
            sessions=paged(state.sessions(), SESSIONS_SHOWN, "sessions"),
            chosen=chosen,
        )

    return page
