"""/seed: a file is checked, shown as what it is, and kept as a seed if that is wanted (`static/seed.js`)."""

from __future__ import annotations

from flask import Blueprint, render_template

from fedn.reducer.pages.frame import Site


def routes(site: Site) -> Blueprint:
    """/seed."""
    page = Blueprint("seed", __name__)
    limit = int(site.settings.max_model_bytes)

    @page.get("/seed")
    def show() -> str:
        """The form; how large a file may be, its script checks before it sends any of it."""
        return render_template("seed.html", limit=limit)

    return page
