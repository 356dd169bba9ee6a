"""REST routes beside the rounds: the best model, what clients did, predictions and evaluations."""

from __future__ import annotations

import re

import pytest

from fedn.config import ReducerSettings
from fedn.domain.ids import ClientId
from fedn.ports import MetricRow
from fedn.reducer.rest import create_app


@pytest.fixture
def http(service):
    return create_app(service, ReducerSettings()).test_client()


@pytest.fixture
def session(service, small):
    """Four rounds, of which the second and the third are the best."""
    started = small.seeded(service).session
    for accuracy in (0.5, 0.9, 0.9, 0.7):
        service.commit(started, accuracy)
    return started


def named(answer, status: int) -> dict:
    assert answer.status_code == status, answer.get_data(as_text=True)
    return answer.get_json()


def test_the_best_model_is_named_beside_the_trail(http, service, session):
    path = f"/api/v1/sessions/{session}/best"
    second = service.state.record(session, 2).record.model
    best = {"round": 2, "model": second, "metric": "accuracy", "value": pytest.approx(0.9)}
    assert named(http.get(path), 200) == best
    assert named(http.get(f"{path}?metric=accuracy&direction=min"), 200)["round"] == 1
    rows = [MetricRow(session, 3, "validate", ClientId("client-a"), 1, {"loss": 0.25})]
    service.state.add_metrics(rows, service.term)
    assert named(http.get(f"{path}?metric=loss&direction=min"), 200)["round"] == 3
    assert "'f1'; there are accuracy" in named(http.get(f"{path}?metric=f1"), 404)["error"]
    assert named(http.get(f"{path}?direction=up"), 400)["details"]["field"] == "direction"


def test_what_each_client_did_is_paged(http, service, session):
    path = f"/api/v1/sessions/{session}/clients"
    first = named(http.get(f"{path}?limit=1"), 200)
    assert first["next"] == "client-a"
    [client] = first["clients"]
    assert (client["client"], client["rounds"], client["last_round"], client["examples"]) == (
        "client-a", 4, 4, 40,
    )  # fmt: skip
    assert client["validate"]["round"] == 4
    assert client["train"] is None
    trained = [(1, {"train_seconds": 2.0, "loss": 1.0}), (2, {"loss": 0.5}), (3, {"train_seconds": 3.0})]
    rows = (MetricRow(session, number, "train", ClientId("client-a"), 10, each) for number, each in trained)
    service.state.add_metrics(rows, service.term)
    [client] = named(http.get(f"{path}?limit=1"), 200)["clients"]
    assert client["train_seconds"] == 2.5
    rest = named(http.get(f"{path}?after={first['next']}"), 200)
    assert rest["clients"][0]["train_seconds"] is None
    assert ([one["client"] for one in rest["clients"]], rest["next"]) == (["client-b"], None)


def test_a_prediction_is_asked_for_and_looked_at(http, session):
    path = f"/api/v1/sessions/{session}"
    made = named(http.post(f"{path}/predict", json={"round": 4}), 202)
    assert (made["kind"], made["running"], made["asked"]) == ("prediction", True, ["client-a", "client-b"])
    assert made["failed"] == [{"client": "client-b", "reason": "boom"}]
    assert made["means"] == {"clients": 1, "examples": 5, "metrics": {"accuracy": 0.25}}
    shown = named(http.get(f"{path}/inquiries/{made['inquiry']}"), 200)
    assert shown == made | {"running": False}
    named(http.post(f"{path}/evaluate", json={"model": made["model"]}), 202)
    listed = named(http.get(f"{path}/inquiries"), 200)["inquiries"]
    assert [inquiry["kind"] for inquiry in listed] == ["evaluation", "prediction"]


@pytest.mark.parametrize(
    ("body", "status"),
    [({"model": "x"}, 400), ({"round": -1}, 404), ({"round": 5}, 404), ({"round": "1"}, 400)],
)
def test_a_model_that_is_none_is_refused(http, session, body, status):
    named(http.post(f"/api/v1/sessions/{session}/predict", json=body), status)


def test_the_page_shows_the_best_model_and_who_can_not_take_part(http, service, session):
    service.unfit_clients = {ClientId("<b>"): "data: has 5 columns"}
    service.progress = {
        "state": "running", "reason": "", "best": {"metric": "accuracy", "round": 3, "value": 0.9},
        "failed": {"round": 2, "clients": {"client-z": "boom"}},
    }  # fmt: skip
    page = http.get(f"/sessions/{session}").get_data(as_text=True)
    assert re.search(r"Best accuracy</dt><dd>0.9000 <small><a [^>]*>round 3</a>", page)
    assert f"/models/{service.state.record(session, 3).record.model}" in page
    assert "&lt;b&gt;</td>" in page
    assert "can't take part: data: has 5 columns" in page
    assert "did not validate: boom" in page


def test_the_page_knows_the_best_model_of_a_session_that_has_ended(http, service, session):
    service.end(session, "finished", "")
    page = http.get(f"/sessions/{session}").get_data(as_text=True)
    assert re.search(r"Best accuracy</dt><dd>0.9000 <small><a [^>]*>round 2</a>", page)
