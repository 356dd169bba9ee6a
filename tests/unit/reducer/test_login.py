"""Browsers: the form, the cookie and its ends, pages by role, other sites, the banner."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from browsing import own

from fedn.config import ReducerSettings
from fedn.domain.identity import Principal, Role, parse_token
from fedn.reducer.logins import LOGIN_SECONDS, MAX_LOGINS, MAX_OF_ONE, Logins
from fedn.reducer.rest import create_app

SITE = "https://fl.example.org"
HTML = {"Accept": "text/html,application/xhtml+xml"}
OWN = {"Origin": SITE}


@pytest.fixture
def app(net):
    return net.app()


def browser(app, jar: bool = True):
    """A real client at the reducer's address, over what it takes for HTTPS."""
    http = app.test_client(use_cookies=jar)
    for name in ("get", "post", "open"):
        ask = getattr(http, name)
        setattr(http, name, lambda *args, _ask=ask, **more: _ask(*args, **{"base_url": SITE} | more))
    return http


def log_in(http, token: str):
    return http.post("/login", data={"token": token}, headers=OWN)


@pytest.fixture
def http(app):
    return browser(app)


# --- coming in -------------------------------------------------------------------------------------


def test_a_page_leads_to_the_form_and_the_form_to_the_page(net, http):
    answer = http.get("/", headers=HTML)
    assert (answer.status_code, answer.location) == (302, "/login?next=/")
    form = http.get("/login").get_data(as_text=True)
    assert 'method="post"' in form
    assert 'type="password"' in form
    answer = log_in(http, net.token("viewer", name="vera"))
    assert (answer.status_code, answer.location) == (303, "/")
    page = http.get("/", headers=HTML)
    assert page.status_code == 200
    assert "vera, viewer" in page.get_data(as_text=True)
    assert http.get("/login").location == "/"
    assert http.get("/api/v1/whoami").get_json()["name"] == "vera"
    (entry,) = net.audit("logged_in")
    assert entry.actor == "viewer:vera"


def test_a_program_gets_an_error_and_no_page(http):
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        assert http.get("/", headers=headers).status_code == 401
    assert http.get("/people").status_code == 401
    assert http.get("/api/v1/network", headers=HTML).status_code == 401


def test_the_cookie_is_for_this_site_and_no_script(net, http):
    cookie = log_in(http, net.admin).headers["Set-Cookie"]
    assert re.match(r"__Host-fedn_login=[\w-]{43};", cookie)
    for word in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/", "Max-Age=43200"):
        assert word in cookie
    assert "Domain" not in cookie
    assert parse_token("", net.admin).secret not in cookie


def test_a_wrong_token_shows_the_form_again_and_why(net, http):
    long = net.admin + "x" * 60_000
    wrong = {
        "sesame": "not a token",
        "": "not a token",
        long: "too long",
        net.token("client"): "to join with",
    }
    for token, reason in wrong.items():
        answer = log_in(http, token)
        page = answer.get_data(as_text=True)
        assert answer.status_code == 401
        assert "Set-Cookie" not in answer.headers
        assert reason in page
        assert "<form" in page
        assert token[-20:] not in page or not token
    assert net.audit("refused")
    assert http.post("/login", data=b"x", headers=OWN, content_type="multipart/form-data").status_code == 400
    assert http.post("/login", json={"token": net.admin}, headers=OWN).status_code == 400


def test_who_guesses_is_slowed_down(http):
    answers = [log_in(http, "sesame") for _ in range(40)]
    assert answers[-1].status_code == 429
    assert "try again" in answers[-1].get_data(as_text=True)


# --- how a login ends ------------------------------------------------------------------------------


def test_logging_out_ends_it_here_and_everywhere(net, app, http):
    stolen = {"Cookie": log_in(http, net.admin).headers["Set-Cookie"].partition(";")[0]}
    thief = browser(app, jar=False)
    assert thief.get("/api/v1/whoami", headers=stolen).status_code == 200
    answer = http.post("/logout", headers=own(http, SITE))
    assert (answer.status_code, answer.location) == (303, "/login")
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert http.get("/api/v1/whoami").status_code == 401
    assert thief.get("/api/v1/whoami", headers=stolen).status_code == 401


def test_it_ends_after_twelve_hours(net, http):
    log_in(http, net.admin)
    assert http.get("/api/v1/whoami").get_json()["expires_at"] == pytest.approx(
        net.clock() + LOGIN_SECONDS, abs=60
    )
    net.clock.ahead = LOGIN_SECONDS - 60
    assert http.get("/api/v1/whoami").status_code == 200
    net.clock.ahead = LOGIN_SECONDS + 1
    assert http.get("/api/v1/whoami").status_code == 401
    assert http.get("/", headers=HTML).location == "/login?next=/"


def test_it_ends_with_its_token(net, http, beside):
    token = net.token("viewer", seconds=600)
    log_in(http, token)
    assert http.get("/api/v1/whoami").status_code == 200
    net.registrar.revoke_token(parse_token("", token).token, False, beside("small_network").BY)
    answer = http.get("/api/v1/whoami")
    assert (answer.status_code, answer.get_json()["code"]) == (403, "revoked")
    assert http.get("/", headers=HTML).location == "/login?next=/"
    log_in(http, net.token("viewer", seconds=600))
    net.clock.ahead = 601
    assert http.get("/api/v1/whoami").status_code == 401


def test_its_stream_ends_with_it(net, http):
    log_in(http, net.token("viewer"))
    with http.get("/api/v1/events/stream") as answer:
        lines = iter(answer.response)
        next(lines)
        http.post("/logout", headers=own(http, SITE))
        assert b"".join(lines) == b""


def test_logins_are_bounded():
    logins = Logins()
    of_one = [logins.begin(Principal(Role.VIEWER, "v", "token-0"))[0] for _ in range(MAX_OF_ONE + 5)]
    assert [logins.find(cookie) is not None for cookie in of_one] == [False] * 5 + [True] * MAX_OF_ONE
    many = [logins.begin(Principal(Role.VIEWER, "v", f"token-{n}"))[0] for n in range(1, MAX_LOGINS + 10)]
    assert logins.find(of_one[-1]) is None
    assert logins.find(many[-1]) is not None
    for cookie in ("", "x", "x" * 43, "é" * 43, "x" * 100_000):
        assert logins.find(cookie) is None
        assert logins.end(cookie) is None


# --- other sites -----------------------------------------------------------------------------------


def test_another_site_can_not_act_with_a_browsers_cookie(net, http):
    log_in(http, net.admin)
    assert http.post("/api/v1/tokens", json={"role": "viewer"}, headers=own(http, SITE)).status_code == 201
    for origin in ("https://evil.example", "http://fl.example.org", "https://fl.example.org:8443", "null"):
        answer = http.post("/api/v1/tokens", json={"role": "admin"}, headers={"Origin": origin})
        assert (answer.status_code, answer.get_json()["details"]["field"]) == (400, "Origin")
    assert http.post("/api/v1/tokens", json={"role": "admin"}).status_code == 401, "no browser leaves it out"
    assert len(net.audit("token_created")) == 1
    for origin in ("https://evil.example", "null"):
        assert http.post("/logout", headers={"Origin": origin}).status_code == 400
        assert http.post("/login", data={"token": net.admin}, headers={"Origin": origin}).status_code == 400


def test_a_cookie_counts_only_where_it_was_set(net, http, app):
    """Browsers keep a __Host- cookie to its host; here is what happens if one does not."""
    cookie = log_in(http, net.admin).headers["Set-Cookie"].partition(";")[0]
    fresh = browser(app, jar=False)
    assert fresh.get("/api/v1/whoami", headers={"Cookie": cookie}).status_code == 200
    answer = fresh.get("/api/v1/whoami", base_url="https://rebound.example", headers={"Cookie": cookie})
    assert (answer.status_code, answer.get_json()["details"]["field"]) == (400, "Host")
    plain = cookie.removeprefix("__Host-")
    assert fresh.get("/api/v1/whoami", headers={"Cookie": plain}).status_code == 401


# --- what pages show -------------------------------------------------------------------------------


class Scripts(HTMLParser):
    """What a strict policy forbids: script and style in the page itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inline: list[str] = []

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        if (tag == "script" and "src" not in names) or tag == "style":
            self.inline.append(tag)
        self.inline += [name for name in names if name.startswith("on") or name == "style"]


def test_who_is_who_is_for_those_who_run_the_network(net, http, app):
    net.join("client", "ann")
    made = net.token("viewer", name="vera")
    for role, members, tokens in (("admin", True, True), ("operator", True, False), ("viewer", False, False)):
        each = browser(app)
        log_in(each, net.token(role))
        page = each.get("/people", headers=HTML).get_data(as_text=True)
        assert (">ann</a>" in page) is members, role
        assert (parse_token("", made).token in page) is tokens, role
        assert parse_token("", made).secret not in page
    log_in(http, net.admin)
    net.registrar.revoke_member(Role.CLIENT, "ann", Principal(Role.ADMIN, "admin"))
    page = http.get("/people", headers=HTML).get_data(as_text=True)
    assert re.search(r'class="whole bad">2\d', page)


def test_downloads_are_offered_to_those_who_may(net, app, small):
    model = small.seeded(net.service).head.model
    for role, offered in (("operator", True), ("viewer", False)):
        each = browser(app)
        log_in(each, net.token(role))
        page = each.get(f"/models/{model}", headers=HTML).get_data(as_text=True)
        assert ('href="/api/v1/models/' in page) is offered


def test_no_page_needs_a_script_of_its_own_and_the_policy_allows_none(net, http):
    log_in(http, net.admin)
    fresh = browser(net.app())
    for answer in (
        http.get("/", headers=HTML),
        http.get("/people", headers=HTML),
        http.get("/packages", headers=HTML),
        fresh.get("/login"),
        log_in(fresh, "x"),
    ):
        found = Scripts()
        found.feed(answer.get_data(as_text=True))
        assert found.inline == []
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "form-action 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Cache-Control"] == "no-store"


def test_names_are_escaped_everywhere(net, http):
    log_in(http, net.admin)
    page = http.post("/login", data={"token": "<script>alert(1)</script>"}, headers=OWN).get_data(
        as_text=True
    )
    assert "<script>alert" not in page


@pytest.mark.parametrize("insecure", [True, False])
def test_an_insecure_network_says_so_on_every_page(service, insecure):
    settings = ReducerSettings(host="0.0.0.0" if insecure else "127.0.0.1", insecure_no_tls_no_auth=insecure)
    plain = create_app(service, settings).test_client()
    assert ("Insecure:" in plain.get("/").get_data(as_text=True)) is insecure
    assert plain.get("/login").location == "/", "there is nothing to log in to"
    assert plain.post("/login", data={"token": "x"}).status_code == 409
    assert plain.post("/logout").status_code == 409
    assert "Log out" not in plain.get("/").get_data(as_text=True)
