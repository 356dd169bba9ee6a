"""/api/: Swagger UI over our own document, from this host alone and without a script in the page."""

from __future__ import annotations

import re

import pytest

HTML = {"Accept": "text/html"}
SITE = {"base_url": "https://fl.example.org"}


@pytest.fixture
def http(net):
    http = net.app().test_client()
    http.post("/login", data={"token": net.token("viewer")}, headers={"Origin": SITE["base_url"]}, **SITE)
    return http


def test_all_of_it_comes_from_here(http):
    answer = http.get("/api/", headers=HTML, **SITE)
    page = answer.get_data(as_text=True)
    assert not re.findall(r"<script(?![^>]*\bsrc=)", page)
    files = re.findall(r'<(?:script|link)[^>]*(?:src|href)="([^"]*)"', page)
    assert any("swagger-ui-bundle.js" in file for file in files)
    for file in files:
        assert file.startswith("/")
        with http.get(file, **SITE) as answer:
            assert answer.status_code == 200, file
    [document] = re.findall(r'data-document="([^"]*)"', page)
    assert http.get(document, **SITE).get_json()["openapi"]


def test_styles_may_be_written_into_it_and_scripts_may_not(http):
    policy = http.get("/api/", headers=HTML, **SITE).headers["Content-Security-Policy"]
    directives = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    assert "'unsafe-inline'" in directives["style-src"]
    assert directives.get("script-src", directives["default-src"]) == "'self'"


def test_who_is_not_logged_in_is_led_to_the_form(net):
    answer = net.app().test_client().get("/api/", headers=HTML, **SITE)
    assert (answer.status_code, answer.location) == (302, "/login?next=/api/")
