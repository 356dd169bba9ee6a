"""The table of who may what against the routes that there are, and every route asked as every role."""

from __future__ import annotations

import pytest

from fedn.domain.identity import MEMBERS, PEOPLE, Role
from fedn.domain.ids import PROTOCOL_VERSION
from fedn.identity.roles import EVERYBODY, REST, may_rest, row_of
from fedn.reducer.registrar import Registrar
from fedn.reducer.rest import create_app

VALUES = {
    "session": "nobody", "number": 7, "digest": "0" * 64, "filename": "status.css", "token": "0" * 16,
    "role": "client", "member": "nobody", "inquiry": "nothing", "combiner": "nobody", "client": "nobody",
    "other": "0" * 64, "name": "fedn.yaml",
}  # fmt: skip
BODIES = {
    "/api/v1/combiners": {
        "protocol": PROTOCOL_VERSION,
        "combiner": "c1",
        "address": "h:1",
        "incarnation": "i",
    },
    "/api/v1/clients/assignment": {"client": "ann"},
}


def routes(app) -> set[str]:
    """METHOD rule, as in the table."""
    return {
        f"{method} {rule.rule}"
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }


def test_every_route_has_a_row_and_every_row_a_route(net):
    found = routes(net.app())
    assert found - set(REST) == set(), "these routes are refused to everybody: give them a row"
    assert set(REST) - found == set(), "these rows are about nothing"


def test_a_network_without_identity_has_the_same_routes(net, service):
    from fedn.config import ReducerSettings

    assert routes(create_app(service, ReducerSettings())) == routes(net.app())


def test_who_has_no_row_is_refused_and_head_is_as_get():
    assert not any(may_rest(role, "GET", "/api/v1/nothing") for role in set(Role) - {Role.ANYBODY})
    assert not any(may_rest(role, "DELETE", "/api/v1/models") for role in set(Role) - {Role.ANYBODY})
    assert row_of("HEAD", "/api/v1/models") is row_of("GET", "/api/v1/models")


@pytest.fixture
def callers(net, beside):
    """For each role that somebody can have towards the reducer, how to ask as one."""
    helper = beside("small_network")
    people = {role: {"headers": dict(helper.bearer(net.token(role)))} for role in sorted(PEOPLE)}
    names = {Role.COMBINER: "c1", Role.CLIENT: "ann"}
    members = {
        role: {"environ_overrides": dict(helper.shown(net.join(role, names[role])))}
        for role in sorted(MEMBERS)
    }
    reducer = {Role.REDUCER: {"environ_overrides": dict(helper.shown(net.wallet.current))}}
    return people | members | reducer | {Role.NOBODY: {}}


def calls(app):
    """Every route: (method, rule, path)."""
    adapter = app.url_map.bind("localhost")
    for rule in app.url_map.iter_rules():
        for method in sorted(rule.methods - {"OPTIONS"}):
            values = {name: VALUES[name] for name in rule.arguments}
            yield method, rule.rule, adapter.build(rule.endpoint, values, method=method)


def test_every_route_lets_in_whom_the_table_says_and_nobody_else(net, callers):
    app = net.app()
    called = 0
    for method, rule, path in calls(app):
        for role, how in callers.items():
            # from an address of its own, for an address that is refused too often hears only that
            environ = {
                "REMOTE_ADDR": f"10.0.{called // 250}.{called % 250}",
                **how.get("environ_overrides", {}),
            }
            answer = app.test_client().open(path, method=method, json=BODIES.get(rule),
                                            **how | {"environ_overrides": environ})  # fmt: skip
            answer.close()
            refused = answer.status_code in (401, 403)
            if row_of(method, rule) is EVERYBODY and rule in ("/api/v1/join", "/api/v1/renew", "/login"):
                refused = False  # by what is in the body, not by who asks; bodies are another test's
            assert refused is not may_rest(role, method, rule), (role, method, rule, answer.status_code)
            if refused:
                assert answer.status_code == (401 if role is Role.NOBODY else 403), (role, method, rule)
                if method != "HEAD":
                    assert set(answer.get_json()) == {"code", "error", "details", "status"}
            called += 1
    assert called >= 6 * len(REST)


def test_the_way_in_does_not_ask_who_it_is(net, callers):
    """Bodies that are wrong are refused for being wrong, not for who sends them."""
    http = net.app().test_client()
    for how in callers.values():
        for path in ("/api/v1/join", "/api/v1/renew"):
            assert http.post(path, json={}, **how).status_code == 400
        assert http.post("/login", json={}, **how).status_code == 400


def test_options_are_told_to_nobody(net):
    http = net.app().test_client()
    assert http.options("/api/v1/tokens").status_code == 401
    assert http.options("/healthz").status_code == 401


def test_an_unknown_path_is_just_not_there(net):
    answer = net.app().test_client().get("/api/v1/nothing")
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")


def test_the_registrar_is_what_turns_it_on(net, service):
    from fedn.config import ReducerSettings

    assert isinstance(net.registrar, Registrar)
    plain = create_app(service, ReducerSettings()).test_client()
    for path in ("/api/v1/whoami", "/api/v1/audit", "/api/v1/audit/verify", "/", "/api/v1/network"):
        assert plain.get(path).status_code == 200, path
    for path in ("/api/v1/authority", "/api/v1/tokens", "/api/v1/members"):
        answer = plain.get(path)
        assert answer.status_code == 404
        assert "fedn network init" in answer.get_json()["error"]
    for path, body in (("join", {"token": "x", "request": "y"}), ("renew", {"request": "y"}),
                       ("tokens", {"role": "viewer"})):  # fmt: skip
        answer = plain.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == 409
        assert "fedn network init" in answer.get_json()["error"]
    assert plain.get("/api/v1/whoami").get_json() == {
        "role": "anybody", "name": "127.0.0.1", "expires_at": None,
    }  # fmt: skip
