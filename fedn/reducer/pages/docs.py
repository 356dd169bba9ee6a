"""/api/: the REST API to read and to try out, by Swagger UI from an installed package.

It is drawn from `openapi`, asks this reducer alone, and acts with the login and page token of whoever looks.
"""

from __future__ import annotations

from flask import Blueprint, g, render_template

from fedn.reducer.pages.frame import Site


def routes(_: Site) -> Blueprint:
    """/api/."""
    page = Blueprint("docs", __name__)

    @page.get("/api/")
    def show() -> str:
        """The REST API, to be tried out."""
        g.styled = True  # Swagger UI writes styles into its elements
        return render_template("api.html")

    return page
