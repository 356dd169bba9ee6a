"""/api/ in a browser, at a secured reducer that lives under a path: read, log in, try out."""

from __future__ import annotations

from pathlib import Path

import pytest
from ports import settled_port

from fedn.sandbox.processes import Sandbox


@pytest.fixture
def under_a_path(tmp_path: Path):
    sandbox = Sandbox(tmp_path / "network", 0, 0, settled_port(), tls=True)
    try:
        sandbox.start_reducer("--path-prefix=/fedn")
        sandbox.secured.wait()
        yield sandbox
    finally:
        sandbox.stop()


def tried(page, path: str, body: str = "") -> str:
    """The status that a route answers with when it is tried out."""
    box = page.locator(f".opblock:has(.opblock-summary-path[data-path='{path}'])").last
    box.locator(".opblock-summary-control").click()
    box.locator(".try-out__btn").click()
    if body:
        box.locator("textarea").first.fill(body)
    box.locator("button.execute").click()
    said = box.locator(".live-responses-table tbody .response-col_status").first.inner_text()
    return str(said.split()[0])


def test_the_api_is_read_and_tried_out_with_the_browsers_login(under_a_path, window) -> None:
    opened = window(f"{under_a_path.url}/fedn", ignore_https_errors=True)
    page = opened.go("/api/")
    page.fill("input[name=token]", under_a_path.token)
    page.click("main button")
    page.wait_for_url("**/fedn/api/")
    [cookie] = opened.context.cookies()
    assert (cookie["name"], cookie["path"], cookie["secure"]) == ("__Secure-fedn_login", "/fedn", True)
    page.locator(".opblock-tag[data-tag=identity]").click()
    assert tried(page, "/api/v1/whoami") == "200"
    assert tried(page, "/api/v1/tokens", '{"role": "viewer", "name": "vera"}') == "201"
    assert "Fedn-Csrf" not in page.locator("#swagger").inner_text()
