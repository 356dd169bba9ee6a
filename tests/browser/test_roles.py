"""Who may what, in a browser: logins, cookies, what a viewer is shown, and what is refused to everybody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pages import Gates, audit, forgive, live
from ports import settled_port
from sdk_clients import until

import fedn
from fedn.sandbox.digits import seed_model
from fedn.sandbox.processes import Sandbox

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
PAGES = (
    "/", "/network", "/models", "/seed", "/packages", "/start", "/control", "/plot", "/dashboard", "/events",
    "/people",
)  # fmt: skip
WRITES = "form[data-api], form[method=post]:not(.who), #seed, #keep, #upload, button.btn-danger"


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gates]:
    """A network with identity: one combiner, and a session that waits for clients."""
    folder = tmp_path_factory.mktemp("secured")
    with (
        Sandbox(folder / "network", 1, 0, settled_port(), tls=True) as running,
        fedn.Network(running.url, token=running.token) as network,
    ):
        network.start(seed_model(), name="waits", progress=False)
        until(lambda: len(network.status()["combiners"]) == 1)
        yield Gates(running, folder, network)


def log_in(view, token: str, path: str = "/"):
    """From a page that asks for a login to that page."""
    page = view.page
    page.goto(view.url + path)
    expect(page.locator("#token")).to_be_focused()
    audit(page, "login")
    page.keyboard.type(token)
    page.keyboard.press("Enter")
    page.wait_for_url(view.url + path)
    return page


def asked(page, method: str, address: str) -> int:
    """The status that the page's own script gets."""
    return page.evaluate("([method, address]) => fedn.ask(method, address).then(({ status }) => status)",
                         [method, address])  # fmt: skip


def test_who_asks_for_a_page_gets_it_after_the_login(secured, window) -> None:
    view = window(secured.sandbox.url, ignore_https_errors=True)
    page = log_in(view, secured.sandbox.token, "/control")
    expect(page.locator("h1")).to_have_text("Sessions")
    live(page)
    [cookie] = view.context.cookies()
    assert (cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (True, True, "Strict")
    assert page.evaluate("document.cookie") == ""
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    _writes_need_the_pages_token(view, secured)


def _writes_need_the_pages_token(view, secured) -> None:
    """A cookie alone, which a browser would send by itself, writes nothing."""
    [session] = secured.network.sessions()
    stop = f"/api/v1/sessions/{session['session']}/stop"
    bare = view.page.evaluate("path => fetch(path, { method: 'POST' }).then(({ status }) => status)", stop)
    assert bare == 409
    without_origin = view.context.request.post(view.url + stop)
    assert without_origin.status == 401
    assert secured.network.sessions()[0]["state"] == "running"
    forgive(view, "status of 409")


def test_a_viewer_is_shown_nothing_that_writes_and_refused_if_it_asks(secured, window) -> None:
    admin = window(secured.sandbox.url, ignore_https_errors=True)
    page = log_in(admin, secured.sandbox.token, "/people")
    page.fill("#name", "vera")
    page.get_by_role("button", name="Make a token").click()
    token = page.locator("#token-text").inner_text()
    view = window(secured.sandbox.url, ignore_https_errors=True)
    page = log_in(view, token)
    [session] = secured.network.sessions()
    address = f"/sessions/{session['session']}"
    for path in (*PAGES, address, f"{address}/trail", f"/models/{session['head']['model']}"):
        page = view.go(path)
        assert page.locator(WRITES).count() == 0, path
        audit(page, f"a viewer's {path}")
    audit(admin.go("/people"), "people")
    assert admin.go(address).locator(WRITES).count() > 0
    for method, path in (("POST", f"/api/v1{address}/stop"), ("POST", "/api/v1/sessions"),
                         ("GET", f"/api/v1/models/{session['head']['model']}")):  # fmt: skip
        assert asked(page, method, path) == 403, path
    assert view.page.goto(view.url + "/network/join").status == 403
    expect(view.page.locator("h1")).to_be_visible()
    forgive(view, "status of 403")


def test_logging_out_ends_the_stream_in_every_tab(secured, window) -> None:
    view = window(secured.sandbox.url, ignore_https_errors=True)
    first = log_in(view, secured.sandbox.token)
    live(first)
    second = view.tab()
    second.goto(view.url + "/control")
    live(second)
    second.get_by_role("button", name="Log out").click()
    expect(second).to_have_url(view.url + "/login")
    first.wait_for_url("**/login?next=**")
    until(lambda: secured.gauge("event_streams") == 0)
    assert view.context.cookies() == []
    forgive(view, "status of 401", "ERR_INCOMPLETE_CHUNKED_ENCODING")
