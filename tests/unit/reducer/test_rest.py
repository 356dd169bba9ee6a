"""The REST API over real stores: every answer's form, every error's one shape, the page."""

from __future__ import annotations

import logging
import re

import pytest
from answers import assert_error
from browsing import own

from fedn.config import ReducerSettings
from fedn.domain.ids import PROTOCOL_VERSION
from fedn.domain.messages import Gauge
from fedn.domain.plan import plan_fields
from fedn.reducer.metrics import whole_rounds
from fedn.reducer.pages.drawing import sparkline
from fedn.reducer.rest import create_app


@pytest.fixture
def app(service):
    return create_app(service, ReducerSettings(max_model_bytes=10_000))


@pytest.fixture
def http(app):
    return app.test_client()


COMBINER = {"protocol": PROTOCOL_VERSION, "combiner": "c1", "address": "127.0.0.1:12080", "incarnation": "i1"}


# --- one shape for every error, on every route -----------------------------------------------------


def every_route(app):
    values = {"session": "nobody", "number": 7, "digest": "0" * 64, "filename": "nothing.css",
              "token": "0" * 16, "role": "client", "member": "nobody", "combiner": "nobody",
              "client": "nobody", "inquiry": "nothing",
              "other": "0" * 64, "name": "fedn.yaml"}  # fmt: skip
    adapter = app.url_map.bind("localhost")
    for rule in app.url_map.iter_rules():
        wanted = {name: values[name] for name in rule.arguments}
        yield (
            rule,
            adapter.build(rule.endpoint, wanted, method=next(iter(rule.methods - {"OPTIONS", "HEAD"}))),
        )


def test_every_route_refuses_an_unknown_method_in_the_one_shape(app, http):
    for _, path in every_route(app):
        body = assert_error(http.open(path, method="PATCH"), 405, "method_not_allowed")
        assert body["details"] == {"method": "PATCH", "path": path}


def test_every_route_refuses_an_incompatible_neighbour_with_both_versions(app, http):
    for rule, path in every_route(app):
        for method in rule.methods - {"OPTIONS", "HEAD"}:
            answer = http.open(path, method=method, headers={"Fedn-Protocol": "9"})
            body = assert_error(answer, 426, "incompatible_protocol")
            assert body["details"] == {"theirs": 9, "ours": PROTOCOL_VERSION}


def test_every_route_refuses_a_body_beyond_its_limit(app, http):
    for rule, path in every_route(app):
        method = next(iter(rule.methods - {"OPTIONS", "HEAD"}))
        answer = http.open(path, method=method, environ_overrides={"CONTENT_LENGTH": str(2**27)})
        assert_error(answer, 413, "too_large")


def test_every_route_that_names_something_says_that_it_is_not_there(app, http):
    for rule, path in every_route(app):
        if rule.arguments:
            for method in rule.methods - {"OPTIONS", "HEAD"}:
                assert_error(http.open(path, method=method), 404, "not_found")


def test_every_route_hides_a_bug_and_logs_it(app, http, service, caplog):
    def broken(*_: object, **__: object):
        raise RuntimeError("secret")

    for name in (
        "network",
        "ready",
        "register",
        "assign",
        "seed_model",
        "start_session",
        "stop_session",
        "pause_session",
        "resume_session",
    ):
        setattr(service, name, broken)
    with caplog.at_level(logging.CRITICAL):
        for path in ("/", "/start", "/readyz", "/api/v1/network", "/api/v1/combiners", "/api/v1/clients"):
            assert "secret" not in assert_error(http.get(path), 500, "internal")["error"]
        assert_error(http.post("/api/v1/models", data=b"x"), 500, "internal")
        assert_error(http.post("/api/v1/sessions", json={}), 500, "internal")


def test_a_path_that_is_nothing(http):
    assert_error(http.get("/api/v2/nothing"), 404, "not_found")


# --- who may ask -----------------------------------------------------------------------------------


def test_a_foreign_page_can_neither_act_nor_read(http):
    assert (
        "Origin"
        in assert_error(
            http.post("/api/v1/sessions", json={}, headers={"Origin": "http://evil.example"}), 400
        )["error"]
    )
    assert "Host" in assert_error(http.get("/api/v1/network", headers={"Host": "evil.example"}), 400)["error"]
    for origin in ("http://localhost", "https://localhost"):  # the latter behind a proxy that speaks TLS
        answer = http.post("/api/v1/sessions", json={}, headers={"Origin": origin})
        assert_error(answer, 409, "stale_page")  # not from a page that it has loaded from here
        answer = http.post("/api/v1/sessions", json={}, headers=own(http, origin))
        assert answer.status_code == 404  # let in; there is only no seed model


def test_a_foreign_page_loads_nothing_and_may_only_lead_here(http, service):
    """Each would hold one of the event streams, whose answers it can't read."""
    for site in ("cross-site", "same-site"):
        for path in ("/api/v1/events/stream", "/"):
            answer = http.get(path, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors"})
            assert "another site" in assert_error(answer, 400)["error"]
        link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
        assert http.get("/", headers=link).status_code == 200
    assert http.get("/", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_a_page_that_is_refused_carries_no_token(http):
    asked = {"Accept": "text/html"}
    refused = http.get("/", headers=asked | {"Host": "evil.example"})
    assert (refused.status_code, 'data-token=""' in refused.text) == (400, True)
    assert re.search(r'data-token="[\w-]{20,}"', http.get("/", headers=asked).text)


def test_with_the_loud_flag_other_host_names_are_served(service):
    settings = ReducerSettings(insecure_no_tls_no_auth=True, host_names=["fl.example.org"])
    plain = create_app(service, settings).test_client()
    for host in ("reducer.lan", "reducer", "10.0.0.7:8090", "[fd00::7]:8090", "fl.example.org"):
        assert plain.get("/healthz", headers={"Host": host}).status_code == 200, host
    for host in ("evil.example", "evil.example:8090", "lan.evil.example", "10.0.0.7.evil.example"):
        error = assert_error(plain.get("/healthz", headers={"Host": host}), 400)["error"]
        assert "host_names" in error


def test_a_protocol_header_that_is_no_number(http):
    assert "Fedn-Protocol" in assert_error(http.get("/healthz", headers={"Fedn-Protocol": "x"}), 400)["error"]


# --- health, network -------------------------------------------------------------------------------


def test_health_and_readiness(http, service):
    assert http.get("/healthz").get_json()["status"] == "alive"
    assert http.get("/api/v1/readyz").get_json()["status"] == "ready"
    service.reason = "the state store does not answer"
    assert assert_error(http.get("/readyz"), 503, "unavailable")["error"] == service.reason


def test_plan_fields_are_served_whole(http):
    served = http.get("/api/v1/plan").get_json()["fields"]
    assert [item["name"] for item in served] == [name for name, *_ in plan_fields()]
    assert all(item["doc"] for item in served)


def test_a_combiner_registers_and_clients_are_sent_to_it(http):
    client = {"protocol": PROTOCOL_VERSION, "client": "me", "prefer": "", "avoid": ""}
    assert_error(http.post("/api/v1/clients/assignment", json=client), 503, "unavailable")
    answer = http.post("/api/v1/combiners", json=COMBINER)
    assert answer.get_json() == {"protocol": PROTOCOL_VERSION, "term": 1, "revoked": []}
    assert http.post("/api/v1/clients/assignment", json=client).get_json() == {
        "combiner": "c1",
        "address": "127.0.0.1:12080",
        "protocol": PROTOCOL_VERSION,
    }
    (combiner,) = http.get("/api/v1/network").get_json()["combiners"]
    assert (combiner["live"], combiner["clients"][0]["client"]) == (True, "client-a")
    assert http.get("/api/v1/combiners").get_json()["combiners"][0]["clients"] == 2
    assert http.get("/api/v1/clients").get_json()["clients"][1]["combiner"] == "c1"


def test_one_combiner_and_one_client_with_all_that_is_known(http, service, small):
    http.post("/api/v1/combiners", json=COMBINER)
    one = http.get("/api/v1/combiners/c1").get_json()
    assert ([c["client"] for c in one["clients"]], one["log"]) == (["client-a", "client-b"], [])
    session = small.seeded(service).session
    service.commit(session, 0.5)
    service.commit(session, 0.6)
    client = http.get("/api/v1/clients/client-a").get_json()
    assert (client["name"], client["combiner"]) == ("name of client-a", "c1")
    assert [(s["session"], s["rounds"]) for s in client["sessions"]] == [(session, 2)]
    assert http.get("/api/v1/clients/client-a?limit=0").get_json()["sessions"] == []


def test_a_combiner_drains_while_another_can_take_its_clients(http):
    client = {"client": "me", "prefer": "c1"}
    http.post("/api/v1/combiners", json=COMBINER)
    assert_error(http.post("/api/v1/combiners/c1/drain"), 409, "conflict")
    http.post("/api/v1/combiners", json=COMBINER | {"combiner": "c2"})
    assert http.post("/api/v1/combiners/c1/drain").get_json()["draining"]
    assert http.post("/api/v1/clients/assignment", json=client).get_json()["combiner"] == "c2"
    assert not http.post("/api/v1/combiners/c1/undrain").get_json()["draining"]
    assert http.post("/api/v1/clients/assignment", json=client).get_json()["combiner"] == "c1"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"combiner": "../c"}, "combiner"),
        ({"combiner": 5}, "combiner"),
        ({"address": "nowhere"}, "address"),
        ({"address": "h:1\nx"}, "address"),
        ({"protocol": True}, "protocol"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_registration_names_the_field(http, change, named):
    body = assert_error(http.post("/api/v1/combiners", json=COMBINER | change), 400, "invalid_input")
    assert body["details"]["field"] == named


def test_an_incompatible_combiner_is_refused_by_its_body_too(http):
    assert_error(http.post("/api/v1/combiners", json=COMBINER | {"protocol": 7}), 426)


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"[" * 60_000])
def test_a_body_that_is_not_an_object(http, data):
    answer = http.post("/api/v1/sessions", data=data, content_type="application/json")
    assert assert_error(answer, 400)["details"]["field"] == "body"


def test_a_body_must_be_called_json(http):
    answer = http.post("/api/v1/sessions", data="{}", content_type="text/plain")
    assert assert_error(answer, 400)["details"]["field"] == "Content-Type"


# --- sessions --------------------------------------------------------------------------------------


def test_a_session_needs_a_seed_and_the_answer_says_how(http):
    assert "fedn model seed" in assert_error(http.post("/api/v1/sessions", json={}), 404)["error"]


def test_a_session_starts_is_listed_shown_and_stopped(http, small):
    seed = http.post("/api/v1/models?name=zeros", data=small.model_file()).get_json()
    body = {"name": "digits", "model": seed["digest"], "plan": {"rounds": 3, "config": {"lr": 0.1}}}
    answer = http.post("/api/v1/sessions", json=body)
    assert answer.status_code == 201
    session = answer.get_json()
    assert session["plan"]["rounds"] == 3
    assert session["head"]["model"] == seed["digest"]
    path = f"/api/v1/sessions/{session['session']}"
    assert http.get("/api/v1/sessions").get_json()["sessions"] == [session]
    assert http.get(path).get_json() == session | {"progress": {}, "unfit": None}
    assert http.post(f"{path}/pause").get_json()["state"] == "paused"
    assert http.post(f"{path}/resume").get_json()["state"] == "running"
    assert http.post(f"{path}/stop").get_json()["state"] == "cancelled"


def test_a_plan_field_that_is_wrong_is_named(http):
    for plan, named in (({"rouns": 3}, "rouns"), ({"rounds": 0}, "rounds"), ({"rounds": "3"}, "rounds")):
        body = assert_error(http.post("/api/v1/sessions", json={"plan": plan}), 400, "invalid_plan")
        assert body["details"]["field"] == named


def test_the_page_shows_gauges_in_use_or_once_above_half(http, service):
    http.post("/api/v1/combiners", json=COMBINER)
    service.gauges = (Gauge("parts", 1, 256, 1), Gauge("uploads", 0, 4, 3), Gauge("parked", 0, 10_000, 7))
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", http.get("/").get_data(as_text=True))
    assert cells[cells.index("parts") :][:4] == ["parts", "1", "1", "256"]
    assert cells[cells.index("uploads") :][:4] == ["uploads", "0", "3", "4"]
    assert "parked" not in cells


def test_live_progress_is_shown(http, service, small):
    session = small.seeded(service).session
    service.progress = {
        "round": 1,
        "state": "dispatched",
        "expected": 2,
        "received": 1,
        "clients": {"a": "x"},
    }
    assert http.get(f"/api/v1/sessions/{session}").get_json()["progress"] == dict(service.progress)


def test_rounds_are_paged(http, service, small):
    session = small.seeded(service).session
    for _ in range(5):
        service.commit(session, 0.5)
    path = f"/api/v1/sessions/{session}/rounds"
    seen, after = [], -1
    while after is not None:
        page = http.get(f"{path}?after={after}&limit=2").get_json()
        seen += [item["round"] for item in page["rounds"]]
        after = page["next"]
    assert seen == [0, 1, 2, 3, 4, 5]
    assert http.get(f"{path}?after=5").get_json()["rounds"] == []
    for bad in ("limit=0", "limit=x", "limit=1_0", "limit=٣", "after=-2", "limit=99999999"):
        assert_error(http.get(f"{path}?{bad}"), 400)


def test_one_round_has_its_record_and_metrics(http, service, small):
    session = small.seeded(service).session
    service.commit(session, 0.5)
    one = http.get(f"/api/v1/sessions/{session}/rounds/1").get_json()
    assert (one["contributors"], one["examples"], one["record"]["round"]) == (2, 30, 1)
    assert one["metrics"]["validate"]["metrics"]["accuracy"] == pytest.approx((0.2 * 1 + 0.6 * 3) / 4)
    assert len(one["rows"]) == 2
    assert_error(http.get(f"/api/v1/sessions/{session}/rounds/9"), 404)


def test_metrics_are_weighted_by_examples_and_nan_is_left_out(http, service, small):
    session = small.seeded(service).session
    service.commit(session, 0.5)
    answer = http.get(f"/api/v1/sessions/{session}/metrics")
    (one,) = answer.get_json()["rounds"]
    assert one["validate"] == {"clients": 2, "examples": 4, "metrics": {"accuracy": pytest.approx(0.5)}}
    assert "NaN" not in answer.get_data(as_text=True)


def test_a_page_of_metrics_never_cuts_a_round(service, small):
    session = small.seeded(service).session
    for _ in range(4):
        service.commit(session, 0.5)
    after, seen = -1, []
    while after is not None:
        rows, after = whole_rounds(service.state, session, after, limit=3)
        assert len(rows) % 2 == 0
        seen += [row.round for row in rows]
    assert seen == [1, 1, 2, 2, 3, 3, 4, 4]


def test_the_trail_carries_the_very_bytes_and_verifies(http, service, small):
    session = small.seeded(service).session
    service.commit(session, 0.5)
    page = http.get(f"/api/v1/sessions/{session}/trail").get_json()
    from fedn.domain.ids import digest_of

    assert [digest_of(item["raw"].encode()) for item in page["records"]] == [
        r["digest"] for r in page["records"]
    ]
    assert page["records"][1]["record"]["parent"] == page["records"][0]["digest"]
    report = http.get(f"/api/v1/sessions/{session}/trail/verify").get_json()
    assert (report["ok"], report["problems"], report["head"]) == (True, [], page["head"]["record"])


# --- the page --------------------------------------------------------------------------------------


def test_the_page_shows_the_network_the_sessions_and_the_rounds(http, service, small):
    http.post("/api/v1/combiners", json=COMBINER)
    session = small.seeded(service)
    for accuracy in (0.5, 0.75):
        service.commit(session.session, accuracy)
    network = http.get("/network").get_data(as_text=True)
    for part in ("127.0.0.1:12080", "name of client-a"):
        assert part in network
    shown = http.get(f"/sessions/{session.session}").get_data(as_text=True)
    for part in (session.session, "0.5000", "0.7500"):
        assert part in shown
    assert "digits" in http.get("/").get_data(as_text=True)


def test_the_page_escapes_what_others_named(http, service, small):
    seed = service.seed_model([small.model_file()], "", 0)
    service.start_session("<script>alert(1)</script>", seed.digest, small.seeded(service).plan)
    page = http.get("/").get_data(as_text=True)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_the_page_asks_nothing_of_other_machines(http):
    page = http.get("/")
    asked = re.findall(r'(?:src|href|action)="(https?:[^"]*)', page.get_data(as_text=True))
    assert asked == []
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    for path in ("/static/fedn.css", "/static/live.js", "/library/plotly.min.js", "/favicon.ico"):
        answer = http.get(path)
        assert answer.status_code == 200
        answer.close()


def test_the_curve_is_scaled_and_bears_a_flat_line():
    assert sparkline([1.0]) == ""
    assert sparkline([0.0, 1.0]) == "0.0,48.0 240.0,0.0"
    assert sparkline([2.0, 2.0]) == "0.0,48.0 240.0,48.0"
