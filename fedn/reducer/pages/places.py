"""Where the page of a thing is: by what it is and what it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import url_for

PLACES: Mapping[str, tuple[str, str]] = {
    "client": ("page.client.show", "client"),
    "combiner": ("page.combiner.show", "combiner"),
    "event": ("page.event.show", "number"),
    "model": ("page.model.show", "digest"),
    "package": ("page.package.show", "digest"),
    "session": ("page.control.session", "session"),
}
"""By kind the endpoint of its page, and what that calls the name."""


def place(kind: str, name: object, session: str = "") -> str:
    """The address of its page. A round is one of a ``session``."""
    if kind == "round":
        return url_for("page.why.of_round", session=session, number=int(str(name)))
    endpoint, variable = PLACES[kind]
    values: dict[str, Any] = {variable: name}
    return url_for(endpoint, **values)
