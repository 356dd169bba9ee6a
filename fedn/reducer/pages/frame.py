"""What all pages have in common: who looks at them, what they may do, how values are written, their files."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from math import isfinite
from time import time
from typing import Any

from flask import Blueprint, Response, g, request, send_from_directory
from markupsafe import Markup, escape

import fedn
from fedn.config import ReducerSettings
from fedn.domain.errors import NotFound
from fedn.domain.identity import Role
from fedn.identity.roles import may_rest
from fedn.reducer.front import Front
from fedn.reducer.gate import Gate
from fedn.reducer.registrar import Registrar
from fedn.reducer.tallies import Tallies

LIBRARIES = {
    "bootstrap.min.css": ("flask_bootstrap", "static/bootstrap5/css/bootstrap.min.css", "text/css"),
    "bootstrap.min.js": ("flask_bootstrap", "static/bootstrap5/js/bootstrap.min.js", "text/javascript"),
    "popper.min.js": ("flask_bootstrap", "static/bootstrap5/umd/popper.min.js", "text/javascript"),
    "swagger-ui.css": ("flask_swagger_ui", "dist/swagger-ui.css", "text/css"),
    "swagger-ui-bundle.js": ("flask_swagger_ui", "dist/swagger-ui-bundle.js", "text/javascript"),
    "plotly.min.js": ("plotly", "package_data/plotly.min.js", "text/javascript"),
}
"""Files of installed packages that pages use: package, file within it, media type."""

NAVIGATION = (
    ("page.overview.show", "Overview"),
    ("page.network.show", "Network"),
    ("page.models.show", "Models"),
    ("page.packages.show", "Packages"),
    ("page.start.show", "Start"),
    ("page.control.show", "Sessions"),
    ("page.charts.show", "Charts"),
    ("page.dashboard.show", "Dashboard"),
    ("page.events.show", "Events"),
    ("page.people.show", "People"),
    ("page.docs.show", "API"),
)
"""Endpoint and word of what is in every page's menu."""


WITHIN = {
    "combiner": "network", "client": "network", "model": "models", "seed": "models", "compare": "models",
    "package": "packages", "trail": "control", "why": "control", "event": "events",
}  # fmt: skip
"""Pages that are reached from another one of the menu."""


@dataclass(frozen=True, slots=True)
class Site:
    """What pages are drawn from. ``registrar`` is None in a network without identity."""

    front: Front
    registrar: Registrar | None
    settings: ReducerSettings
    gate: Gate
    tallies: Tallies


def frame(site: Site) -> Blueprint:
    """The Blueprint that the pages are within: their files, and what every template knows."""
    routes = Blueprint("page", "fedn.reducer", static_folder="static", template_folder="templates")

    @routes.get("/favicon.ico")
    def favicon() -> Response:
        """The icon."""
        return send_from_directory(str(routes.static_folder), "favicon.svg", mimetype="image/svg+xml")

    @routes.get("/library/<name>")
    def library(name: str) -> Response:
        """A file of an installed package, packed where the browser takes it so."""
        if name not in LIBRARIES:
            raise NotFound(f"there is no library file {name[:80]!r}")
        return _library(name)

    @routes.app_context_processor
    def everywhere() -> dict[str, Any]:
        return {
            "insecure": site.settings.insecure_no_tls_no_auth,
            "navigation": NAVIGATION,
            "section": _section(),
            "who": g.get("principal"),
            "may": may,
            "token": site.gate.page_token,
            "live": "Fedn-Live" in request.headers,
            "version": fedn.__version__,
            "now": time(),
        }

    for name, written in WRITTEN.items():
        routes.add_app_template_filter(written, name)
    return routes


def _section() -> str:
    """The page of the menu that the one asked for is, or is within; '' for none."""
    inner = (request.blueprint or "").removeprefix("page.")
    return WITHIN.get(inner, inner)


def with_charts() -> None:
    """To be called by pages with plotly on them: it writes styles into the page, which others may not."""
    g.styled = True


def may(method: str, rule: str) -> bool:
    """Whether who looks may ask for a route of the API; templates leave out what they may not."""
    who = g.get("principal")
    return who is not None and who.role is not Role.NOBODY and may_rest(who.role, method, rule)


def _library(name: str) -> Response:
    packed = request.accept_encodings.quality("gzip") > 0
    response = Response(_packed(name) if packed else _content(name), mimetype=LIBRARIES[name][2])
    response.headers["Vary"] = "Accept-Encoding"
    response.headers["Cache-Control"] = "public, max-age=86400"
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    return response


@cache
def _packed(name: str) -> bytes:
    return gzip.compress(_content(name), mtime=0)


def _content(name: str) -> bytes:
    package, file, _ = LIBRARIES[name]
    return files(package).joinpath(file).read_bytes()


# --- how values are written ------------------------------------------------------------------------------

MOST_SECONDS = 1e11
"""Three thousand years."""


def moment(seconds: float) -> str:
    """Unix time as UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """Seconds as people say them: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h; – beyond all sense."""
    if not abs(seconds) < MOST_SECONDS:  # clients say how long they trained, and may say anything
        return "–"
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    for unit, name, less, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // less
            return f"{whole // unit} {name}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def ago(seconds: float) -> str:
    """How long Unix time ``seconds`` is past."""
    past = time() - seconds
    return "just now" if past < 2 else f"{duration(past)} ago"


def number(value: float | None) -> str:
    """Four digits behind the point, or four that count; '–' for none."""
    if value is None or not isfinite(value):
        return "–"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def counted(count: int, word: str, words: str = "") -> str:
    """1 client, 2 clients."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def coded(text: str) -> Markup:
    """Words between `backticks` as code; everything is escaped."""
    parts = (Markup("<code>{}</code>").format(part) if at % 2 else escape(part)
             for at, part in enumerate(text.split("`")))  # fmt: skip
    return Markup("").join(parts)


WRITTEN: dict[str, Callable[..., str]] = {
    "moment": moment,
    "duration": duration,
    "ago": ago,
    "number": number,
    "counted": counted,
    "coded": coded,
}
"""Template filters."""
