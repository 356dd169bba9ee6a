"""Why a session or a round is as it is, over REST: from what the stores and the reducer have recorded."""

from __future__ import annotations

import pytest

from fedn.config import ReducerSettings
from fedn.domain.errors import StoreUnavailable
from fedn.domain.ids import ClientId, CombinerName, Incarnation
from fedn.domain.messages import Registration
from fedn.ports import EventRow, MetricRow
from fedn.reducer.rest import create_app


@pytest.fixture
def http(service):
    return create_app(service, ReducerSettings()).test_client()


@pytest.fixture
def session(service, small):
    """Four committed rounds, of which the third took ten times as long as the others, for one client."""
    started = small.seeded(service).session
    for number in (1, 2, 3, 4):
        service.commit(started, 0.5)
        seconds = {"clients": 30.0 if number == 3 else 3.0, "reducing": 0.5, "validating": 99.0}
        fields = {"session": started, "round": number, "seconds": seconds}
        service.state.add_events([EventRow(number, 10.0, "round_committed", started, number, fields)])
        for client, training in (("client-a", 2.0), ("client-b", seconds["clients"] - 1)):
            laps = {"waiting": 0.5, "training": training}
            row = MetricRow(started, number, "timing", ClientId(client), 10, laps)
            service.state.add_metrics([row], service.term)
    return started


def asked(http, path: str, status: int = 200) -> dict:
    answer = http.get(f"/api/v1/sessions/{path}")
    assert answer.status_code == status, answer.get_data(as_text=True)
    return answer.get_json()


def test_a_committed_round_is_compared_with_the_others(http, session):
    slow = asked(http, f"{session}/rounds/3/why")
    assert (slow["cause"], slow["round"], slow["session"]) == ("straggler", 3, session)
    assert "It took 30 s, and the session's other 3 rounds 3.5 s in the median" in slow["text"]
    assert "What took longer is clients: 30 s, usually 3 s" in slow["text"]
    assert "slowest client was client-b (waiting 0.5 s and training 29 s)" in slow["text"]
    assert {"kind": "client", "id": "client-b"} in slow["links"]
    assert asked(http, f"{session}/rounds/2/why")["cause"] == "as_usual"
    assert "no round 6; its last is 4" in asked(http, f"{session}/rounds/6/why", 404)["error"]
    assert "seed model" in asked(http, f"{session}/rounds/0/why", 404)["error"]
    asked(http, "nosuch/why", 404)


def test_the_present_round_is_explained_from_what_runs(http, service, session):
    service.register(Registration(1, CombinerName("c1"), "c1:1", Incarnation("i1")))
    service.progress = {
        "state": "running", "reason": "", "waits": "", "hindrances": {}, "round": 5, "expected": 2,
        "received": 1, "refused": {}, "lost": {}, "opened_at": 1.0, "stragglers": {"clients": ["client-b"]},
        "clients": {
            "client-a": {"combiner": "c1", "state": "folded", "since": 4.0},
            "client-b": {"combiner": "c1", "state": "uploading", "since": 5.0},
        },
    }  # fmt: skip
    told = {"session": session, "client": "client-b", "round": 5, "reason": "boom", "kind": "validate"}
    service.state.add_events([EventRow(9, 10.0, "client_failed", session, 5, told)])
    found = asked(http, f"{session}/why")
    assert (found["cause"], found["state"], found["round"]) == ("straggler", "running", 5)
    assert "client-b is uploading its update" in found["text"]
    assert found == asked(http, f"{session}/rounds/5/why") | {
        name: found[name]
        for name in ("at", "text", "evidence")  # these name times
    }
    assert {"kind": "event", "id": "9"} in found["links"]
    assert any("boom" in line for line in found["evidence"])
    service.reason = "another reducer has taken over"
    assert asked(http, f"{session}/why")["cause"] == "another_reducer"


def test_there_is_an_answer_when_the_store_gives_none(http, service, session, monkeypatch):
    def away(session):
        raise StoreUnavailable("MongoDB at db did not answer")

    monkeypatch.setattr(service.state, "session", away)
    found = asked(http, f"{session}/why")
    assert found["cause"] == "store_unreachable"
    assert "MongoDB at db did not answer" in found["text"]
