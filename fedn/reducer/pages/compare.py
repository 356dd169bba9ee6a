"""/models/<digest>/compare/<other>: how far two models lie apart, tensor by tensor."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from fedn.domain.ids import check_digest
from fedn.reducer.pages.frame import Site
from fedn.reducer.pages.tracing import origin_of
from fedn.reducer.rest_inspecting import compared
from fedn.reducer.spooling import Few

TENSORS_SHOWN = 200
NAMES_SHOWN = 50
AT_ONCE = 2


def routes(site: Site) -> Blueprint:
    """The comparison."""
    page = Blueprint("compare", __name__)
    front, comparisons = site.front, Few(AT_ONCE, "comparisons of models")

    @page.get("/models/<digest>/compare/<other>")
    def show(digest: str, other: str) -> str:
        """Computed once: two models stay as they are, so a page that is open has nothing to draw again."""
        first, second = check_digest("digest", digest), check_digest("other", other)
        if "Fedn-Live" in request.headers:
            return render_template("live.html")
        with comparisons.one():
            found = compared(front, first, second, TENSORS_SHOWN)
        return render_template(
            "compare.html",
            first=first,
            second=second,
            origins=(origin_of(front.state, first), origin_of(front.state, second)),
            found=found,
            most=max((one.distance.l2 or 0.0 for one in found.tensors), default=0.0),
            names_shown=NAMES_SHOWN,
        )

    return page
