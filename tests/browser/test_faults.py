"""What goes wrong around a page: stale forms, second tabs, a reducer that dies. Pages say so, and recover."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from pages import Gates, audit, forgive, later_rounds, live, mark
from sdk_clients import until

import fedn
from fedn.sandbox.digits import seed_model

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
SINCE = re.compile(r"since \d\d:\d\d:\d\d; trying again\. What is shown is from then\.")
AWAY = "net::ERR_"
"""What browsers log of a reducer that is gone."""


@pytest.fixture(scope="module")
def faulty(empty: Gates) -> Gates:
    """Three clients, and a seed model."""
    for index in range(3):
        empty.sandbox.start_client(index)
    empty.network.seed(seed_model(), name="digits", progress=False)
    until(lambda: len(empty.network.clients()) == 3)
    return empty


@pytest.fixture
def running(faulty: Gates) -> Iterator[fedn.Session]:
    """A session whose rounds go on and on."""
    faulty.open("all")
    session = faulty.network.start(name="endless", rounds=100_000, min_clients=2, progress=False)
    until(lambda: session.round >= 1)
    yield session
    if session.state == "running":
        session.stop()
    until(lambda: session.state == "cancelled")


def come_back(faulty: Gates) -> None:
    """Start the reducer again, on the same stores."""
    faulty.sandbox.start_reducer()
    until(faulty.network.status)


def test_a_stopped_session_is_not_started_again(running, faulty, window) -> None:
    running.stop()
    view = window(faulty.sandbox.url)
    page = view.go(f"/sessions/{running.id}")
    expect(page.locator("#session-head .state")).to_have_text("cancelled")
    assert page.locator("#session-head button").count() == 0
    address = f"/api/v1/sessions/{running.id}/resume"
    came = page.evaluate("address => fedn.ask('POST', address)", address)
    assert (came["status"], came["answer"]["code"]) == (409, "conflict")
    forgive(view, "status of 409")
    page.get_by_role("link", name="Start a new session from its newest model").click()
    expect(page.locator("#model")).to_have_value(running.info()["head"]["model"])
    expect(page.locator("#min_clients")).to_have_value("2")


def test_a_stale_form_says_so_and_keeps_what_was_typed(faulty, window) -> None:
    view = window(faulty.sandbox.url)
    page = view.go("/start")
    live(page)
    page.fill("#name", "stale")
    page.fill("#rounds", "3")
    _hold_redraws(page)
    faulty.sandbox.kill("reducer")
    come_back(faulty)
    start = page.get_by_role("button", name="Start the session")
    start.click()
    expect(page.locator("#plan .outcome")).to_contain_text("nothing was done")
    assert "stale" not in [one["name"] for one in faulty.network.sessions()]
    expect(page.locator("#name")).to_have_value("stale")
    expect(page.locator("#link")).to_contain_text("started anew")
    expect(page.locator("#preview")).to_contain_text("3 rounds will be committed")
    start.click()
    page.wait_for_url("**/sessions/*")
    expect(page.locator("h1")).to_contain_text("stale")
    forgive(view, AWAY, "status of 409", "status of 503")


def _hold_redraws(page) -> None:
    """Keep the page as it is until it has sent its form, as if that were done in the same moment."""
    sent = []

    def hold(route) -> None:
        if not sent and "fedn-live" in route.request.headers:
            route.abort()
        else:
            route.continue_()

    def let_go(route) -> None:
        sent.append(route)
        route.continue_()

    page.route("**/start", hold)
    page.route("**/api/v1/sessions", let_go)


def test_two_tabs_follow_one_stream(running, faulty, window) -> None:
    view = window(faulty.sandbox.url)
    first, second = view.go(f"/sessions/{running.id}"), view.tab()
    second.goto(first.url)
    stay = [mark(first), mark(second)]
    for page in (first, second):
        live(page)
        later_rounds(page)
    until(lambda: faulty.gauge("event_streams") == 1)
    first.get_by_role("button", name="Stop").click()
    first.locator("dialog button[value=yes]").click()
    for page in (first, second):
        expect(page.locator("#session-head .state")).to_have_text("cancelled")
    assert all(stays() for stays in stay)
    first.close()  # it held the stream, which the other one takes over
    faulty.network.start(name="after the first tab", rounds=1, min_clients=2, progress=False)
    second.get_by_role("link", name="Overview").click()
    expect(second.locator("#overview")).to_contain_text("after the first tab")
    live(second)


def test_a_button_stays_where_it_is_while_the_page_around_it_is_drawn(running, faulty, window) -> None:
    page = window(faulty.sandbox.url).go(f"/sessions/{running.id}")
    live(page)
    stop = page.get_by_role("button", name="Stop").element_handle()
    begun = page.locator("#session-head time").inner_text()
    later_rounds(page, 3)
    expect(page.locator("#session-head time")).not_to_have_text(begun)
    later_rounds(page, 3)
    assert stop.evaluate("button => button.isConnected")


def test_a_reducer_that_dies_is_missed_and_comes_back(running, faulty, window) -> None:
    view = window(faulty.sandbox.url)
    page = view.go(f"/sessions/{running.id}")
    live(page)
    stays, link = mark(page), page.locator("#link")
    later_rounds(page)
    faulty.sandbox.kill("reducer")
    expect(link).to_contain_text("no connection")
    come_back(faulty)
    expect(link).to_have_text("live; the reducer was started anew meanwhile")  # nobody logs in here
    later_rounds(page, 3)
    assert stays()
    forgive(view, AWAY, "status of 503")


@pytest.mark.parametrize("width", [360, 1280])
def test_while_the_reducer_is_away_every_page_says_so_and_its_clocks_stand_still(
    running, faulty, window, width
):
    faulty.open()  # a round that lasts
    view = window(faulty.sandbox.url, viewport={"width": width, "height": 800})
    page, overview = view.go(f"/sessions/{running.id}"), view.tab()
    overview.goto(f"{faulty.sandbox.url}/")
    clock = page.locator("[data-clock]")
    for one in (page, overview):
        live(one)
    expect(clock).to_be_visible()
    faulty.sandbox.kill("reducer")
    for one in (page, overview):
        banner = one.get_by_role("status").filter(has_text="No connection to the reducer since")
        expect(banner).to_contain_text(SINCE)
        expect(banner).to_be_visible()
        expect(banner).to_be_in_viewport()
    audit(page, f"away, {width}")
    stood = clock.inner_text()
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#outcome")).to_contain_text("did not answer")
    page.wait_for_timeout(1500)  # three ticks
    assert clock.inner_text() == stood
    come_back(faulty)
    for one in (page, overview):
        expect(one.locator("#away")).to_be_empty()
        live(one)
    expect(page.locator("#outcome .alert")).to_have_count(0)
    forgive(view, AWAY, "status of 503")


def test_a_page_that_says_what_is_wrong_is_not_asked_for_again(running, faulty, window) -> None:
    faulty.open("all")
    view = window(faulty.sandbox.url)
    page = view.page
    assert page.goto(f"{faulty.sandbox.url}/sessions/none").status == 404
    live(page)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    committed = running.round
    until(lambda: running.round >= committed + 5)  # each of them is an event, which draws other pages
    assert [url for url in asked if url.endswith("/sessions/none")] == []
    forgive(view, "status of 404")
    assert sum("404" in error for error in view.errors) == 1


def test_start_pressed_twice_starts_one_session(faulty, window) -> None:
    page = window(faulty.sandbox.url).go("/start")
    live(page)
    page.fill("#name", "pressed twice")
    page.fill("#rounds", "1")
    page.get_by_role("button", name="Start the session").dblclick()
    page.wait_for_url("**/sessions/*")
    expect(page.locator("#session-head .state")).to_have_text("finished")
    assert [one["name"] for one in faulty.network.sessions()].count("pressed twice") == 1
