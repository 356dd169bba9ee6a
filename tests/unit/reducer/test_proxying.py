"""Behind a proxy and under a path: addresses, cookies and origins are those that the visitor sees."""

from __future__ import annotations

import ssl
import time

import httpx
import pytest
from identities import member
from reverse_proxy import ReverseProxy

from fedn.config import ReducerSettings
from fedn.domain.errors import InvalidConfig
from fedn.domain.identity import Role
from fedn.identity.authority import Authority
from fedn.reducer import web as web_module
from fedn.reducer.rest import create_app
from fedn.reducer.web import Web

HTML = {"Accept": "text/html"}
OUTER = "fl.example.org"
FORWARDED = {
    "X-Forwarded-For": "198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": OUTER,
}


def log_in(http, token: str, path: str = "/login", **more):
    headers = {"Origin": f"https://{OUTER}"} | more.pop("headers", {})
    return http.post(path, data={"token": token}, headers=headers, **more)


# --- under a path ----------------------------------------------------------------------------------


def test_under_a_path_everything_that_is_answered_is_under_it(net):
    http = net.app(path_prefix="/fedn").test_client()
    site = {"base_url": f"https://{OUTER}"}
    answer = http.get("/fedn/?a=1", headers=HTML, **site)
    assert (answer.status_code, answer.location) == (302, "/fedn/login?next=/fedn/?a%3D1")
    answer = log_in(http, net.admin, "/fedn/login", **site)
    assert (answer.status_code, answer.location) == (303, "/fedn/")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Secure-fedn_login=")
    assert "; Path=/fedn;" in f"{cookie};"
    assert http.get("/fedn/", headers=HTML, **site).status_code == 200
    document = http.get("/fedn/api/v1/openapi.json", **site).get_json()
    assert document["servers"] == [{"url": "/fedn"}]
    answer = http.get("/fedn/login", **site)
    assert answer.location == "/fedn/"


def test_beside_its_path_there_is_nothing_but_what_machines_ask_for(net, beside):
    http, bearer = net.app(path_prefix="/fedn").test_client(), beside("small_network").bearer(net.admin)
    for path in ("/", "/login", "/fednx/login", "/favicon.ico", "/api/"):
        answer = http.get(path, headers=bearer)
        assert answer.status_code == 404, path
        assert answer.get_json()["code"] == "not_found"
    for path in ("/healthz", "/readyz", "/metrics", "/api/v1/healthz", "/api/v1/network"):
        for prefix in ("", "/fedn"):
            assert http.get(prefix + path, headers=bearer).status_code == 200, prefix + path
    assert http.get("/api/v1/openapi.json", headers=bearer).get_json()["servers"] == [{"url": "/"}]


@pytest.mark.parametrize("prefix", ["fedn", "/fedn/", "/", "/..", "/a/./b", "//evil.org", "/ü", "/a b"])
def test_a_prefix_is_a_plain_path(prefix):
    with pytest.raises(InvalidConfig, match="path_prefix"):
        ReducerSettings(path_prefix=prefix)


def test_networks_are_networks():
    with pytest.raises(InvalidConfig, match="proxy_networks"):
        ReducerSettings(proxy_networks=["10.0.0.1/8"])


# --- whom to believe -------------------------------------------------------------------------------


def test_a_trusted_proxy_says_who_comes_and_how(net):
    http = net.app(trusted_proxies=1).test_client()
    answer = log_in(http, net.admin, headers=FORWARDED)
    assert answer.status_code == 303
    assert answer.headers["Set-Cookie"].startswith("__Host-fedn_login=")
    assert "; Secure;" in answer.headers["Set-Cookie"]
    (entry,) = net.audit("logged_in")
    assert "198.51.100.7" in str(entry.details)


def test_clients_are_sent_past_a_proxy_where_tls_ends(net):
    http = net.app(trusted_proxies=1, port=8095).test_client()
    site = {"base_url": f"https://{OUTER}", "headers": FORWARDED | HTML}
    assert log_in(http, net.admin, **site).status_code == 303
    shown = http.get("/network/join", **site).get_data(as_text=True)
    assert f'value="https://{OUTER}:8095"' in shown
    assert "past the proxy" in shown


def test_of_a_chain_only_as_many_are_believed_as_are_trusted(net):
    http = net.app(trusted_proxies=1).test_client()
    chain = {"X-Forwarded-For": "192.0.2.1, 198.51.100.7", "X-Forwarded-Host": f"evil.org, {OUTER}"}
    assert log_in(http, net.admin, headers=FORWARDED | chain).status_code == 303
    (entry,) = net.audit("logged_in")
    assert "192.0.2.1" not in str(entry.details)


@pytest.mark.parametrize(("settings", "peer"), [({}, "127.0.0.1"), ({"trusted_proxies": 1}, "203.0.113.9")])
def test_nobody_else_is_believed(net, settings, peer):
    """Combiners and clients come past the proxy: what they say of where they are is not taken."""
    http = net.app(**settings).test_client()
    answer = log_in(
        http, net.admin, headers=FORWARDED | {"X-Forwarded-Prefix": "/x", "Origin": "http://localhost"},
        environ_base={"REMOTE_ADDR": peer},
    )  # fmt: skip
    assert (answer.status_code, answer.location) == (303, "/")
    assert answer.headers["Set-Cookie"].startswith("fedn_login=")
    (entry,) = net.audit("logged_in")
    assert peer in str(entry.details)


def test_a_prefix_that_is_no_path_is_not_taken(net):
    http = net.app(trusted_proxies=1).test_client()
    for prefix in ("//evil.org", "https://evil.org", "/a?b", "/\\evil.org"):
        answer = http.get("/", headers=HTML | FORWARDED | {"X-Forwarded-Prefix": prefix})
        assert answer.location.startswith("/login"), prefix


# --- a real one ------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path):
    """The proxy's own certificate, which is verified by nobody here."""
    shown = member(Authority.create("outer", time.time()), Role.COMBINER, "proxy")
    file = tmp_path / "proxy.pem"
    file.write_bytes(shown.key + shown.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.fixture
def inside(net, monkeypatch):
    """Starts the reducer's web server as proxies speak with it."""
    monkeypatch.setattr(web_module.Server, "expiration_interval", 0.02)
    running: list[Web] = []

    def started(**more) -> str:
        settings = ReducerSettings(port=0, http_threads=4, event_streams=1, trusted_proxies=1, **more)
        app = create_app(net.service, settings, net.registrar, net.dir.hosts)
        running.append(Web(app, settings))
        running[-1].start()
        return f"http://127.0.0.1:{running[-1].port}"

    yield started
    for web in running:
        web.stop()


@pytest.mark.parametrize(("prefix", "strip"), [("", ""), ("/fedn", ""), ("/fedn", "/fedn"), ("", "/fedn")])
def test_through_a_proxy_that_speaks_https_for_it(net, inside, outside, prefix, strip):
    root = prefix or strip
    with (
        ReverseProxy(inside(path_prefix=prefix), outside, strip) as proxy,
        httpx.Client(base_url=proxy.url, verify=False, trust_env=False, timeout=20) as http,
    ):
        answer = http.get(f"{root}/", headers=HTML)
        assert answer.headers["Location"].startswith(f"{root}/login")
        answer = http.post(
            f"{root}/login", data={"token": net.admin}, headers={"Origin": "https://localhost"}
        )
        assert answer.status_code == 400, "the port is part of an origin"
        answer = http.post(f"{root}/login", data={"token": net.admin}, headers={"Origin": proxy.url})
        assert answer.headers["Location"] == f"{root}/"
        cookie = answer.headers["Set-Cookie"]
        assert "Secure" in cookie
        assert f"Path={root or '/'}" in cookie.split("; ")
        page = http.get(answer.headers["Location"], headers=HTML)
        assert page.status_code == 200
        assert f'href="{root}/static/' in page.text
