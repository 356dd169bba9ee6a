"""GET /metrics: what it says of sessions, members and requests, in a form that Prometheus reads."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

from fedn.config import ReducerSettings
from fedn.domain.errors import StoreUnavailable
from fedn.domain.messages import Registration
from fedn.ports import Observed
from fedn.reducer.prometheus import NEWEST, Reducer
from fedn.reducer.rest import create_app


@pytest.fixture
def http(service):
    return create_app(service, ReducerSettings()).test_client()


class Scraped:
    def __init__(self, http, **headers: str) -> None:
        answer = http.get("/metrics", headers=headers)
        assert answer.status_code == 200
        self.media = answer.content_type
        read = parse_open if "openmetrics" in self.media else parse
        self.families = list(read(answer.get_data(as_text=True)))
        self._samples = [sample for family in self.families for sample in family.samples]

    def all(self, name: str) -> list:
        return [sample for sample in self._samples if sample.name == name]

    def one(self, name: str, **labels: str) -> float:
        (found,) = [s.value for s in self.all(name) if labels.items() <= s.labels.items()]
        return found


def test_sessions_rounds_and_members_are_told(small, service, http):
    service.register(Registration(1, "c1", "h:1", "i1"))
    service.register(Registration(1, "c2", "h:2", "i2"))
    session = small.seeded(service).session
    service.commit(session, 0.5)
    seconds = {"clients": 2.5, "committing": 0.5}
    service.hub.observe(Observed("round_committed", {"session": session, "round": 1, "seconds": seconds}))
    service.progress = {"round": 2, "expected": 5, "received": 3, "refused": {"a": "NaN"}, "lost": {}}
    seen = Scraped(http)
    assert seen.one("fedn_sessions", state="running") == 1
    assert seen.one("fedn_sessions", state="failed") == 0
    assert seen.one("fedn_session_rounds_committed_total", session=session) == 1
    names = ("round", "updates_expected", "updates_received", "clients_refused", "clients_lost")
    assert [seen.one(f"fedn_session_{name}", session=session) for name in names] == [2, 5, 3, 1, 0]
    assert seen.one("fedn_session_last_round_seconds", session=session, phase="clients") == 2.5
    assert seen.one("fedn_combiners", state="live") == 2
    assert seen.one("fedn_clients", combiner="c1") == 2
    assert seen.one("fedn_reducer_term") == service.term
    assert seen.one("fedn_state_store_up") == 1
    assert seen.one("process_open_fds") > 0
    assert [f.name for f in seen.families if f.name.startswith("fedn") and not f.documentation] == []


def test_it_is_told_of_running_sessions_and_the_newest_alone(small, service, http):
    first = small.seeded(service).session
    others = [small.seeded(service).session for _ in range(NEWEST + 3)]
    for session in others:
        service.stop_session(session)
    seen = Scraped(http)
    told = {sample.labels["session"] for sample in seen.all("fedn_session_rounds_committed_total")}
    assert first in told
    assert len(told) == NEWEST + 1
    assert seen.one("fedn_sessions", state="cancelled") == NEWEST + 3


def test_requests_are_counted_by_rule_and_never_by_path(service, http):
    for path in ("/api/v1/sessions/one", "/api/v1/sessions/two", "/nothing/here", "/nor/here"):
        assert http.get(path).status_code == 404
    http.open("/healthz", method="MADEUP")
    seen = Scraped(http)
    requests = {(s.labels["method"], s.labels["route"], s.labels["status"]): s.value
                for s in seen.all("fedn_http_requests_total")}  # fmt: skip
    assert requests == {
        ("GET", "/api/v1/sessions/<session>", "404"): 2,
        ("GET", "none", "404"): 2,
        ("other", "none", "405"): 1,
    }
    name = "fedn_http_request_duration_seconds"
    assert seen.one(f"{name}_bucket", route="/api/v1/sessions/<session>", le="+Inf") == 2
    assert seen.one(f"{name}_sum", route="/api/v1/sessions/<session>") > 0


def test_a_store_that_does_not_answer_is_told_beside_the_rest(service):
    def sessions():
        raise StoreUnavailable("the disk is gone")

    state = SimpleNamespace(sessions=sessions)
    front = SimpleNamespace(network=service.network, ready=service.ready, state=state, hub=service.hub)
    told = {family.name: family.samples for family in Reducer(front).collect()}
    assert told["fedn_state_store_up"][0].value == 0
    assert told["fedn_reducer_ready"][0].value == 1


def test_it_speaks_openmetrics_to_whoever_asks_for_it(http):
    seen = Scraped(http, Accept="application/openmetrics-text; version=1.0.0")
    assert "openmetrics" in seen.media
    assert seen.one("fedn_build_info")


def test_an_accept_header_that_makes_no_sense_gets_the_usual_format(http):
    answer = http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=zz"})
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")


def test_who_shows_no_token_gets_none(net, beside):
    http, bearer = net.app().test_client(), beside("small_network").bearer
    assert http.get("/metrics").status_code == 401
    assert http.get("/metrics", headers=bearer(net.token("viewer"))).status_code == 200
    ann = beside("small_network").shown(net.join("client", "ann"))
    assert http.get("/metrics", environ_base=ann).status_code == 403
