"""Packages on the page: the list, the form for those who may, and an upload as its script does it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from package_files import FILES, MANIFEST, archive

from fedn.domain.ids import digest_of
from fedn.packages.members import MAX_BYTES

SITE = "https://fl.example.org"
HTML = {"Accept": "text/html"}
OWN = {"Origin": SITE, "Content-Type": "application/x-tar"}
PACKAGE = archive()


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


def page(browser, path: str = "/") -> Page:
    return Page(browser.get(path, headers=HTML).get_data(as_text=True))


def test_a_package_is_uploaded_as_the_form_does_it_and_listed(net, http):
    browser = http("operator")
    form = page(browser).forms["upload"]
    assert form["method"] == "post"
    assert int(form["data-limit"]) == MAX_BYTES
    assert form["data-login"] == "/login"
    answer = browser.post(form["action"], data=PACKAGE, headers=OWN)
    assert (answer.status_code, answer.get_json()["digest"]) == (201, digest_of(PACKAGE))
    for path in ("/", "/fragment"):
        shown = browser.get(path, headers=HTML).get_data(as_text=True)
        cells = [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<td.*?</td>", shown, re.S)]
        at = cells.index(digest_of(PACKAGE)[:12])
        assert cells[at - 1 : at + 4] == [
            "mnist-keras Digits.", digest_of(PACKAGE)[:12], "keras", "startup, train, validate", "10.0 KiB"
        ]  # fmt: skip
        assert cells[at + 4].startswith("20")


def test_what_is_wrong_with_a_package_comes_in_words(http):
    wrong = archive({**FILES, "fedn.yaml": "name: x\nentry_points: {trian: x}"})
    answer = http("operator").post("/api/v1/packages", data=wrong, headers=OWN)
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
    assert net.service.state.packages() == []


def test_viewers_see_packages_and_no_form(http):
    http("operator").post("/api/v1/packages", data=PACKAGE, headers=OWN)
    browser = http("viewer")
    shown = page(browser)
    assert "upload" not in shown.forms
    assert not any("upload" in source for source in shown.scripts)
    assert digest_of(PACKAGE)[:12] in browser.get("/fragment").get_data(as_text=True)
    assert browser.post("/api/v1/packages", data=PACKAGE, headers=OWN).status_code == 403


def test_what_a_package_says_of_itself_is_text(http):
    evil = archive({**FILES, "fedn.yaml": MANIFEST.replace("Digits.", "<script>alert(1)</script>")})
    browser = http("operator")
    assert browser.post("/api/v1/packages", data=evil, headers=OWN).status_code == 201
    shown = browser.get("/", headers=HTML).get_data(as_text=True)
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert" in shown


def test_what_is_drawn_anew_lies_around_the_form(http):
    """The script puts each part of the fragment in the place of its namesake; the form is in none."""
    browser = http("operator")
    shown, fragment = page(browser), page(browser, "/fragment")
    assert set(fragment.ids) < set(shown.ids)
    assert {"overview", "package-list", "people"} <= set(fragment.ids)
    assert len(shown.ids) == len(set(shown.ids))
    assert "upload" not in fragment.forms
    for source in shown.scripts:
        with browser.get(source) as answer:
            assert answer.status_code == 200
