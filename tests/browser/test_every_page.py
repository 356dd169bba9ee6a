"""Every page: no serious accessibility fault in light and dark, nothing overflows on a phone, no error."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from pages import forgive, look_at
from ports import settled_port
from sdk_clients import until

import fedn
from fedn.identity.roles import REST
from fedn.sandbox.processes import Sandbox

OWN_WAY = {
    "/login", "/api/", "/metrics", "/favicon.ico", "/healthz", "/readyz", "/network/join/client.yaml",
}  # fmt: skip
"""No pages of ours, or not to be had in a network without identity."""


def pages() -> list[str]:
    """The rules of all pages: what is looked at outside the API, as the table of roles has it."""
    found = [route.removeprefix("GET ") for route in REST if route.startswith("GET /")]
    others = ("/api/v1/", "/static/", "/library/")
    return [rule for rule in found if rule not in OWN_WAY and not rule.startswith(others)]


def address(rule: str, trained) -> str:
    """Where the trained network has such a page."""
    session, head = trained.session, trained.session.info()["head"]
    values = {
        "session": session.id, "number": "2", "digest": head["model"], "other": session.rounds()[0]["model"],
        "combiner": "combiner-1", "client": session.clients()[0]["client"],
    }  # fmt: skip
    if rule.startswith("/packages/"):
        values["digest"] = trained.package
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: values[found[1]], rule)


@pytest.mark.parametrize("rule", pages())
def test_page(rule: str, trained, window):
    for scheme, width in (("light", 1280), ("dark", 360)):
        view = window(trained.sandbox.url, color_scheme=scheme, viewport={"width": width, "height": 800})
        look_at(view.go(address(rule, trained)), f"{scheme} {width}")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a reducer that is all there is."""
    with Sandbox(tmp_path_factory.mktemp("bare"), 0, 0, settled_port()) as running:
        with fedn.Network(running.url) as network:
            until(lambda: network.sessions() == [])
        yield running.url


@pytest.mark.parametrize("rule", [rule for rule in pages() if "<" not in rule])
def test_page_where_nothing_is_yet(rule: str, bare: str, window):
    view = window(bare, viewport={"width": 360, "height": 800})
    look_at(view.go(rule), "nothing yet")


def test_a_page_that_is_not_there(bare: str, window):
    view = window(bare, viewport={"width": 360, "height": 800})
    assert view.page.goto(f"{bare}/sessions/none").status == 404
    look_at(view.page, "not there")
    forgive(view, "status of 404")
