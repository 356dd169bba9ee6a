"""Every page: no serious accessibility fault in light and dark, nothing overflows on a phone, no error.

And what is drawn by plotly: its numbers and pictures to take along, and names that look like its markup.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from pages import charts, forgive, look_at
from ports import settled_port
from sdk_clients import until

import fedn
from fedn.identity.roles import REST
from fedn.sandbox.digits import seed_model
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


def test_a_chart_is_taken_along_as_a_picture_and_as_numbers(trained, window):
    page = window(trained.sandbox.url).go(f"/sessions/{trained.session.id}")
    charts(page)
    taken = {}
    for kind in ("PNG", "CSV"):
        with page.expect_download() as coming:
            page.locator("#curve + .downloads").get_by_role("button", name=kind).click()
        taken[kind] = Path(coming.value.path()).read_bytes()
        assert coming.value.suggested_filename == f"{trained.session.id}-validate-accuracy.{kind.lower()}"
    assert taken["PNG"].startswith(b"\x89PNG\r\n")
    told = trained.session.metrics().query("kind == 'validate' and metric == 'accuracy'")
    by_round = {number: numpy.average(of.value, weights=of.examples) for number, of in told.groupby("round")}
    rows = list(csv.DictReader(taken["CSV"].decode().splitlines()))
    assert {int(row["round"]): float(row["mean"]) for row in rows} == pytest.approx(by_round)


def test_a_name_is_text_in_a_chart_too(trained, window):
    """Plotly reads some HTML, and %{...}, in what it is given to write."""
    name = "<b>bold</b> & %{x} <a href='//evil.example'>"
    with fedn.Network(trained.sandbox.url) as network:
        session = network.start(seed_model(), name=name, rounds=1, min_clients=5, progress=False)
        assert session.wait(progress=False) == "finished"
    page = window(trained.sandbox.url).go(f"/plot?session={session.id}&session={trained.session.id}")
    charts(page)
    legend = page.locator("#compared .legendtext")
    assert sorted(legend.all_text_contents()) == sorted([name, "digits"])
    assert page.locator("#compared a[*|href]").count() == 0
