"""Bands by round and what clients did, read a piece at a time, and read once."""

from __future__ import annotations

import pytest

from fedn.config import ReducerSettings
from fedn.domain.update import TRAIN_SECONDS
from fedn.ports import EventRow, MetricRow
from fedn.reducer import tallies as tallies_module
from fedn.reducer.participation import participation
from fedn.reducer.rest import create_app
from fedn.reducer.tallies import Band, Tallies, bands, chief


def row(kind, client, examples, **metrics):
    return MetricRow("s-1", 1, kind, client, examples, metrics)


def test_a_band_is_the_weighted_mean_between_the_least_and_the_most():
    found = bands([
        row("validate", "a", 1, accuracy=0.2),
        row("validate", "b", 3, accuracy=0.6, loss=1.0),
        row("train", "a", 1, loss=float("nan"), **{TRAIN_SECONDS: 3.0}),
        row("timing", "a", 1, training=1.0),
        row("timing", "b", 3, training=3.0),
    ])  # fmt: skip
    assert found["validate"] == {
        "accuracy": Band(2, pytest.approx(0.5), 0.2, 0.6),
        "loss": Band(1, 1.0, 1.0, 1.0),
    }
    assert "train" not in found
    assert found["timing"] == {"training": Band(2, 2.0, 1.0, 3.0)}  # seconds are nobody's examples


class Counting:
    """A store that counts the rounds whose rows were asked for."""

    def __init__(self, state):
        self._state = state
        self.asked = []

    def __getattr__(self, name):
        return getattr(self._state, name)

    def metrics(self, session, after=-1, limit=10_000):
        self.asked.append(after)
        return self._state.metrics(session, after, limit)


@pytest.fixture
def ran(service, small):
    """A session of ten rounds that runs."""
    info = small.seeded(service, rounds=20)
    for number in range(10):
        service.commit(info.session, 0.3 + number / 20)
    return info.session


def test_it_says_what_a_whole_reading_says_and_reads_old_rounds_once(service, ran, monkeypatch):
    monkeypatch.setattr(tallies_module, "ROWS_AT_ONCE", 5)  # two rows a round, and rounds are never cut
    monkeypatch.setattr(tallies_module, "FRESH_SECONDS", 0.0)
    state = Counting(service.state)
    tallies, info = Tallies(state), service.state.session(ran)
    looks = 0
    while not tallies.of(info).complete:
        looks += 1
        assert looks < 10
    assert looks > 1
    tally = tallies.of(info)
    assert [number for number, _ in tally.curve("validate", "accuracy")] == list(range(1, 11))
    assert tally.curve("validate", "accuracy", after=9)[0][1].mean == pytest.approx(0.75)
    assert tally.clients == participation(service.state, ran)
    state.asked.clear()
    service.commit(ran, 0.9)
    tally = tallies.of(service.state.session(ran))
    assert tally.curve("validate", "accuracy")[-1][0] == 11
    assert tally.clients == participation(service.state, ran)
    assert min(state.asked) >= 7


def test_a_late_report_of_a_new_round_still_counts(service, ran, small, monkeypatch):
    monkeypatch.setattr(tallies_module, "FRESH_SECONDS", 0.0)
    tallies, info = Tallies(service.state), service.state.session(ran)
    before = tallies.of(info).curve("validate", "accuracy")[-1][1]
    late = MetricRow(ran, 10, "validate", "client-c", 4, {"accuracy": 0.0})
    service.state.add_metrics([late], service.term)
    after = tallies.of(info).curve("validate", "accuracy")[-1][1]
    assert (before.clients, after.clients, after.low) == (2, 3, 0.0)


@pytest.mark.parametrize("state", ["running", "cancelled"])
def test_a_validation_that_ends_long_behind_its_round_is_seen(service, ran, monkeypatch, state):
    monkeypatch.setattr(tallies_module, "FRESH_SECONDS", 0.0)
    tallies = Tallies(service.state)
    before = tallies.of(service.state.session(ran))
    seconds = [one.train_seconds for one in before.clients]
    if state == "cancelled":
        service.end(ran, state, "")
        tallies.of(service.state.session(ran))
    rows = [MetricRow(ran, 2, "validate", client, 4, {"f1": 0.5}) for client in ("client-a", "client-c")]
    service.state.add_metrics(rows, service.term)
    service.state.add_events([EventRow(7, 1.0, "round_validated", ran, 2, {})])
    tally = tallies.of(service.state.session(ran))
    assert tally.curve("validate", "f1") == [(2, Band(2, 0.5, 0.5, 0.5))]
    assert {one.client: one.validate.round for one in tally.clients if one.validate} == {
        "client-a": 10, "client-b": 10, "client-c": 2,
    }  # fmt: skip
    assert [one.train_seconds for one in tally.clients][: len(seconds)] == seconds


def test_the_metric_to_show_first():
    assert chief(["loss", "accuracy"]) == "accuracy"
    assert chief(["loss", "accuracy"], "loss") == "loss"
    assert chief(["loss", "f1"]) == "f1"
    assert chief([]) == ""


# --- over HTTP -------------------------------------------------------------------------------------


@pytest.fixture
def http(service):
    return create_app(service, ReducerSettings()).test_client()


def test_a_chart_is_columns_by_round(http, ran):
    found = http.get(f"/api/v1/sessions/{ran}/chart").get_json()
    assert (found["kind"], found["metric"], found["next"]) == ("validate", "accuracy", None)
    assert found["rounds"] == list(range(1, 11))
    assert (found["low"][0], found["mean"][0], found["high"][0]) == pytest.approx((0.0, 0.3, 0.4))
    assert found["clients"] == [2] * 10
    tail = http.get(f"/api/v1/sessions/{ran}/chart?kind=validate&metric=accuracy&after=8").get_json()
    assert tail["rounds"] == [9, 10]
    assert http.get(f"/api/v1/sessions/{ran}/chart?kind=nonsense").status_code == 400
    assert http.get("/api/v1/sessions/nobody/chart").status_code == 404


def test_the_times_of_rounds_are_columns_too(http, ran, service):
    told = {"session": ran, "round": 2, "seconds": {"clients": 2.0, "reducing": 0.5}}
    service.state.add_events([EventRow(1, 1.0, "round_committed", ran, 2, told)])
    timing = MetricRow(ran, 2, "timing", "client-a", 1, {"training": 1.5})
    service.state.add_metrics([timing], service.term)
    found = http.get(f"/api/v1/sessions/{ran}/chart/times").get_json()
    assert found["rounds"] == list(range(1, 11))
    assert found["phases"] == {"clients": [None, 2.0, *[None] * 8], "reducing": [None, 0.5, *[None] * 8]}
    assert found["laps"] == {"training": [None, 1.5, *[None] * 8]}
    assert found["next"] is None
