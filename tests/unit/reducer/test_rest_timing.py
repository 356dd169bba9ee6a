"""Where rounds' time went, over the REST API."""

from __future__ import annotations

import pytest

from fedn.config import ReducerSettings
from fedn.domain.ids import ClientId
from fedn.ports import EventRow, MetricRow
from fedn.reducer.rest import create_app


@pytest.fixture
def http(service):
    return create_app(service, ReducerSettings()).test_client()


def test_timings_stand_apart_from_metrics_and_a_kind_can_be_asked_for(http, service, small):
    session = small.seeded(service).session
    service.commit(session, 0.5)
    rows = [("client-a", 10, 2.0), ("client-b", 30, 4.0)]
    timings = [
        MetricRow(session, 1, "timing", ClientId(client), examples, {"training": seconds})
        for client, examples, seconds in rows
    ]
    service.state.add_metrics(timings, service.term)
    path = f"/api/v1/sessions/{session}/metrics"
    (one,) = http.get(path).get_json()["rounds"]
    assert one["timing"] == {"clients": 2, "examples": 40, "metrics": {"training": 3.0}}  # all count alike
    assert list(one["validate"]["metrics"]) == ["accuracy"]
    asked = http.get(f"{path}?kind=timing").get_json()
    assert [row["metrics"] for row in asked["rows"]] == [{"training": 2.0}, {"training": 4.0}]
    assert list(asked["rounds"][0]) == ["round", "timing"]
    assert http.get(f"{path}?kind=mood").status_code == 400


def test_rounds_have_their_phases_where_events_of_them_are_kept(http, service, small):
    session = small.seeded(service).session
    for _ in range(3):
        service.commit(session, 0.5)
    told = [
        ("round_committed", 2, {"seconds": {"clients": 2.0, "reducing": 0.5}}),
        ("round_committed", 3, {"seconds": {"clients": 3.0}}),
        ("round_validated", 2, {"seconds": {"validating": 0.25}}),
        ("round_validated", 3, {}),
    ]
    service.state.add_events([
        EventRow(number, 1.5, event, session, round_, fields)
        for number, (event, round_, fields) in enumerate(told, 1)
    ])  # fmt: skip
    path = f"/api/v1/sessions/{session}/rounds"
    everything = {item["round"]: item["seconds"] for item in http.get(path).get_json()["rounds"]}
    second = {"clients": 2.0, "reducing": 0.5, "validating": 0.25}
    assert everything == {0: {}, 1: {}, 2: second, 3: {"clients": 3.0}}
    assert http.get(f"{path}/2").get_json()["seconds"] == second
    assert http.get(f"{path}?after=3").get_json()["rounds"] == []
