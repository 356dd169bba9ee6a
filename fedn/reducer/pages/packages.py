"""/packages: the compute packages that are here, and the upload of one."""

from __future__ import annotations

from flask import Blueprint, render_template

from fedn.packages.members import MAX_BYTES
from fedn.reducer.pages.frame import Site

SHOWN = 100


def routes(site: Site) -> Blueprint:
    """/packages."""
    page = Blueprint("packages", __name__)

    @page.get("/packages")
    def show() -> str:
        """The list, newest first, and the form for those who may upload."""
        found = site.front.state.packages(SHOWN + 1)
        return render_template("packages.html", packages=found, shown=SHOWN, limit=MAX_BYTES)

    return page
