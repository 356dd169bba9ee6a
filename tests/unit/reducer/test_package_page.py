"""Packages on the page: the list, the form for those who may, and an upload as its script does it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib import import_module

import pytest
from browsing import own
from package_files import FILES, MANIFEST, archive

from fedn.domain.ids import digest_of
from fedn.packages.members import MAX_BYTES

SITE = "https://fl.example.org"
HTML = {"Accept": "text/html"}
TAR = {"Content-Type": "application/x-tar"}
PACKAGE = archive()
DIGEST = "ab" * 32


@pytest.fixture
def http(net):
    """Logs in as a role, and asks as a browser does."""
    app = net.app()

    def logged_in(role: str):
        browser = app.test_client()
        for name in ("get", "post"):
            ask = getattr(browser, name)
            setattr(browser, name, lambda *args, _ask=ask, **more: _ask(*args, **{"base_url": SITE} | more))
        browser.post("/login", data={"token": net.token(role)}, headers={"Origin": SITE})
        return browser

    return logged_in


class Page(HTMLParser):
    """The elements of a page: by id, the forms, and the addresses of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.forms: dict[str, dict[str, str | None]] = {}
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        if "id" in names:
            self.ids.append(names["id"])
        if tag == "form":
            self.forms[names.get("id", "")] = names
        if tag == "script":
            self.scripts.append(names["src"])


def sent(browser) -> dict[str, str]:
    """Headers of an upload from the page."""
    return own(browser, SITE, **TAR)


def page(browser, path: str = "/packages") -> Page:
    return Page(browser.get(path, headers=HTML).get_data(as_text=True))


def test_a_package_is_uploaded_as_the_form_does_it_and_listed(net, http):
    browser = http("operator")
    form = page(browser).forms["upload"]
    assert form["method"] == "post"
    assert int(form["data-limit"]) == MAX_BYTES
    answer = browser.post(form["action"], data=PACKAGE, headers=sent(browser))
    assert (answer.status_code, answer.get_json()["digest"]) == (201, digest_of(PACKAGE))
    shown = browser.get("/packages", headers=HTML).get_data(as_text=True)
    cells = [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", shown, re.S)]
    at = cells.index(digest_of(PACKAGE)[:12])
    assert cells[at - 1 : at + 4] == [
        "mnist-keras Digits.", digest_of(PACKAGE)[:12], "keras", "startup, train, validate", "10.0 KiB"
    ]  # fmt: skip
    assert cells[at + 4].startswith("20")


def test_what_is_wrong_with_a_package_comes_in_words(http):
    wrong = archive({**FILES, "fedn.yaml": "name: x\nentry_points: {trian: x}"})
    browser = http("operator")
    answer = browser.post("/api/v1/packages", data=wrong, headers=sent(browser))
    assert answer.status_code == 400
    details = answer.get_json()["details"]
    assert details["field"] == "fedn.yaml: entry_points.trian"
    assert details["problem"] == "is not an entry point of a package"
    assert "did you mean 'train'?" in details["remedy"]


def test_no_other_page_can_upload_with_somebodys_login(net, http):
    browser = http("operator")
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {}):
        refused = browser.post("/api/v1/packages", data=PACKAGE, headers=headers)
        assert refused.status_code in (400, 401), headers
    stale = browser.post("/api/v1/packages", data=PACKAGE, headers={"Origin": SITE})
    assert (stale.status_code, stale.get_json()["code"]) == (409, "stale_page")
    assert net.service.state.packages() == []


def test_viewers_see_packages_and_no_form(http):
    operator, browser = http("operator"), http("viewer")
    operator.post("/api/v1/packages", data=PACKAGE, headers=sent(operator))
    shown = page(browser)
    assert "upload" not in shown.forms
    assert not any("upload" in source for source in shown.scripts)
    assert digest_of(PACKAGE)[:12] in browser.get("/packages").get_data(as_text=True)
    assert browser.post("/api/v1/packages", data=PACKAGE, headers=sent(browser)).status_code == 403


def test_what_a_package_says_of_itself_is_text(http):
    evil = archive({**FILES, "fedn.yaml": MANIFEST.replace("Digits.", "<script>alert(1)</script>")})
    browser = http("operator")
    assert browser.post("/api/v1/packages", data=evil, headers=sent(browser)).status_code == 201
    shown = browser.get("/packages", headers=HTML).get_data(as_text=True)
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert" in shown


def test_what_is_drawn_anew_lies_around_the_form(http):
    """The script puts each live part in the place of its namesake; the form is in none."""
    browser = http("operator")
    shown = page(browser)
    live = Page(browser.get("/packages", headers={**HTML, "Fedn-Live": "1"}).get_data(as_text=True))
    assert set(live.ids) <= set(shown.ids)
    assert "package-list" in live.ids
    assert len(shown.ids) == len(set(shown.ids))
    for source in shown.scripts:
        with browser.get(source) as answer:
            assert answer.status_code == 200


def test_a_package_older_than_those_that_are_listed_can_be_started_with(http, monkeypatch):
    monkeypatch.setattr(import_module("fedn.reducer.pages.start"), "PACKAGES_SHOWN", 1)
    browser = http("operator")
    newer = archive({**FILES, "fedn.yaml": MANIFEST.replace("mnist-keras", "newer")})
    for package in (PACKAGE, newer):
        assert browser.post("/api/v1/packages", data=package, headers=sent(browser)).status_code == 201
    for package in (PACKAGE, newer):
        address = f"/start?model={DIGEST}&package={digest_of(package)}"
        shown = browser.get(address, headers=HTML).get_data(as_text=True)
        assert f'<option value="{digest_of(package)}" selected>' in shown
    assert browser.get(f"/start?package={DIGEST}", headers=HTML).status_code == 404
