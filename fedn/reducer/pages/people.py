"""/people: who is in the network, and with which tokens; for those who may see it."""

from __future__ import annotations

from flask import Blueprint, render_template

from fedn.reducer.pages.frame import Site, may

SHOWN = 200


def routes(site: Site) -> Blueprint:
    """/people."""
    page = Blueprint("people", __name__)

    @page.get("/people")
    def show() -> str:
        """Members and tokens, as far as who looks may see them."""
        registrar = site.registrar
        members = registrar.members() if registrar and may("GET", "/api/v1/members") else None
        tokens = registrar.tokens() if registrar and may("GET", "/api/v1/tokens") else None
        return render_template(
            "people.html", members=members, tokens=tokens, shown=SHOWN, identity=registrar is not None
        )

    return page
