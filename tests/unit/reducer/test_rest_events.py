"""Events over HTTP: the list and its filters, one event, and the stream across restarts."""

from __future__ import annotations

import json
from itertools import islice

import pytest

from fedn.config import ReducerSettings
from fedn.domain.ids import CombinerName, Incarnation
from fedn.domain.messages import Registration
from fedn.ports import Observed
from fedn.reducer.events import EventHub
from fedn.reducer.rest import create_app
from fedn.testing.contracts.state_events import happened


@pytest.fixture
def http(service):
    return create_app(service, ReducerSettings()).test_client()


def assert_refused(answer, status: int) -> str:
    assert answer.status_code == status, answer.get_data(as_text=True)
    return answer.get_json()["error"]


def stream_of(answer) -> list[dict]:
    lines = answer.get_data(as_text=True).splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def listed(http, query: str) -> list[int]:
    return [event["number"] for event in http.get(f"/api/v1/events?{query}").get_json()["events"]]


def test_events_are_listed_from_the_store_and_from_on_their_way_there(http, service):
    service.state.add_events([happened(1), happened(2, "s", 4, event="session_failed", reason="disk full")])
    service.hub = EventHub(begin=2)
    http = create_app(service, ReducerSettings()).test_client()
    service.hub.observe(Observed("waiting", {"session": "s", "round": 5, "reason": "no combiner"}))
    service.hub.observe(Observed("a", {"round": 1, "loss": float("inf")}))
    page = http.get("/api/v1/events").get_json()
    assert ([event["number"] for event in page["events"]], page["next"]) == ([1, 2, 3, 4], None)
    assert page["events"][2] == {
        "number": 3, "at": page["events"][2]["at"], "event": "waiting", "session": "s", "round": 5,
        "fields": {"session": "s", "round": 5, "reason": "no combiner"},
        "sentence": "Round 5 waits: no combiner.", "gravity": "warning",
    }  # fmt: skip
    assert page["events"][3]["fields"]["loss"] is None
    assert http.get("/api/v1/events?limit=2").get_json()["next"] == 2
    for query, numbers in (
        ("after=1&before=4", [2, 3]), ("limit=2&newest=1", [3, 4]), ("session=s", [2, 3]), ("round=4", [2]),
        ("event=a&event=waiting", [3, 4]), ("gravity=warning&gravity=error", [2, 3]),
        ("gravity=info", [1, 4]), ("gravity=error&newest=1", [2]), ("gravity=warning&event=a", []),
        ("gravity=warning&limit=1", [3]),
    ):  # fmt: skip
        assert (query, listed(http, query)) == (query, numbers)
    for number in (2, 3):
        assert http.get(f"/api/v1/events/{number}").get_json() == page["events"][number - 1]
    assert_refused(http.get("/api/v1/events/5"), 404)
    for query in ("after=x", "event=A", "gravity=bad", "newest=2", "session=../x", "limit=0"):
        assert_refused(http.get(f"/api/v1/events?{query}"), 400)


def test_clients_are_called_by_their_names_and_found_by_id_too(http, service):
    service.register(Registration(1, CombinerName("c-1"), "c-1:12080", Incarnation("i")))
    service.hub.observe(Observed("client_unfit", {"session": "s", "client": "client-a"}))
    unfit = "Client name of client-a can't take part."
    event = http.get("/api/v1/events?event=client_unfit").json["events"][0]
    assert (event["sentence"], event["fields"]["client"]) == (unfit, "client-a")
    assert http.get(f"/api/v1/events/{event['number']}").json["sentence"] == unfit
    stream = http.get("/api/v1/events/stream", headers={"Last-Event-ID": "1"}, buffered=False)
    assert unfit in "".join(chunk.decode() for chunk in islice(stream.response, 2))
    stream.close()
    for text, there in (("name of client-a", True), ("Client client-a", True), ("client-c", False)):
        assert ("Client name of client-a" in http.get("/events", query_string={"text": text}).text) is there


def test_grave_events_are_found_among_many_others(http, service):
    rare = {5: "session_failed", 2500: "waiting", 2999: "session_failed"}
    service.state.add_events([happened(n, event=rare.get(n, "update_received")) for n in range(1, 3001)])
    service.hub = EventHub(begin=3000)
    http = create_app(service, ReducerSettings()).test_client()
    assert listed(http, "gravity=info&gravity=error&after=4&limit=3") == [5, 6, 7]
    assert listed(http, "gravity=error") == [5, 2999]
    assert listed(http, "event=update_received&event=waiting&gravity=warning") == [2500]
    assert len(listed(http, "gravity=info&newest=1")) == 1000


def test_a_stream_resumes_behind_the_last_event_it_saw(http, service):
    for name in ("a", "b", "c"):
        service.hub.observe(Observed(name, {}))
    answers = [
        http.get("/api/v1/events/stream", headers={"Last-Event-ID": "1"}),
        http.get("/api/v1/events/stream?after=500"),
        http.get("/api/v1/events/stream"),
    ]
    service.hub.close()
    assert [[e["event"] for e in stream_of(answer)] for answer in answers] == [
        ["b", "c"],
        ["lagged"],
        [],
    ]
    assert answers[0].mimetype == "text/event-stream"
    for answer in answers:
        answer.close()
    assert service.hub.streams_open == 0
    assert_refused(http.get("/api/v1/events/stream?after=x"), 400)


def test_a_stream_goes_on_across_a_restart_and_says_when_something_is_missing(service):
    service.state.add_events([happened(number) for number in (6, 7, 8, 10, 11)])
    service.hub = EventHub(begin=11)
    http = create_app(service, ReducerSettings()).test_client()
    service.hub.observe(Observed("b", {}))
    whole, broken = (http.get(f"/api/v1/events/stream?after={after}") for after in (9, 7))
    service.hub.close()
    assert [(e["number"], e["event"]) for e in stream_of(whole)] == [(10, "told"), (11, "told"), (12, "b")]
    assert "\nid: 10\ndata:" in whole.get_data(as_text=True)
    assert [(e["number"], e["event"]) for e in stream_of(broken)] == [(12, "lagged")]


def test_streams_are_capped_and_closing_one_frees_it(http, service):
    streams = [http.get("/api/v1/events/stream") for _ in range(3)]
    assert "event_streams" in assert_refused(http.get("/api/v1/events/stream"), 429)
    for stream in streams:
        stream.close()
    with http.head("/api/v1/events/stream") as head:
        assert head.status_code == 200
    assert service.hub.streams_open == 0
