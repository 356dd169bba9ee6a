"""What clients and combiners may say to spoil what others look at: it is shown or left out, no more."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from fedn.config import ReducerSettings
from fedn.domain.messages import LogLine
from fedn.domain.update import TRAIN_SECONDS
from fedn.ports import EventRow, MetricRow
from fedn.reducer.log_book import LogBook
from fedn.reducer.rest import create_app
from fedn.reducer.tallies import NAMES_KEPT, Tallies

HUGE = 1.7e308
"""Finite; the sum of two is not."""


@pytest.fixture
def http(service):
    return create_app(service, ReducerSettings()).test_client()


@pytest.fixture
def session(service, small):
    info = small.seeded(service, rounds=20)
    for _ in range(2):
        service.commit(info.session, 0.5)
    return info.session


def page(http, address):
    answer = http.get(address, headers={"Accept": "text/html"})
    assert answer.status_code == 200, (address, answer.text[:2000])
    return answer.text


def strict(http, address):
    """The answer as a browser reads it, which knows no Infinity."""

    def no(word):
        raise AssertionError(f"{word} in {address}")

    return json.loads(http.get(address).get_data(as_text=True), parse_constant=no)


def test_numbers_whose_sum_is_infinite_leave_gaps(http, service, session, small):
    for number in (1, 2):
        for client in small.CLIENTS:
            said = {"accuracy": HUGE if number == 2 else -HUGE, TRAIN_SECONDS: HUGE}
            rows = [MetricRow(session, number, kind, client, 9, said) for kind in ("train", "validate")]
            rows.append(MetricRow(session, number, "timing", client, 9, {"training": HUGE}))
            service.state.add_metrics(rows, service.term)
    api = f"/api/v1/sessions/{session}"
    assert strict(http, f"{api}/chart?kind=validate&metric=accuracy")["mean"][-1] is None
    for address in ("chart/times", "metrics", "rounds/2", "clients", "best", "why"):
        strict(http, f"{api}/{address}")
    for address in ("/", "/dashboard", "/control", f"/sessions/{session}", f"/clients/{small.CLIENTS[0]}"):
        assert "nan" not in page(http, address).partition("<polyline")[2]


def test_many_names_of_metrics_neither_fill_the_memory_nor_hide_those_of_the_others(service, session, small):
    for number in (1, 2):
        noise = {f"!{number}-{at}": 0.1 for at in range(NAMES_KEPT)}
        row = MetricRow(session, number, "train", small.CLIENTS[0], 1, noise | {"loss": 0.5})
        other = replace(row, client=small.CLIENTS[1], metrics={"loss": 0.25})
        service.state.add_metrics([row, other], service.term)
    tally = Tallies(service.state).of(service.state.session(session))
    assert "loss" in tally.names["train"]
    kept = {name for of_round in tally.means("train").values() for name in of_round}
    assert len(kept) <= NAMES_KEPT


def test_log_lines_of_no_time_are_shown(http, service, monkeypatch, small):
    book, client = LogBook(), small.CLIENTS[0]
    book.note(f"client:{client}", (LogLine(float("nan"), "info", "of <b>no</b> time"),))
    view = replace(service.network(), logs=book.lines)
    monkeypatch.setattr(service, "network", lambda: view)
    service.commit(small.seeded(service).session, 0.5)  # so that the client is known
    assert "of &lt;b&gt;no&lt;/b&gt; time" in page(http, f"/clients/{client}")


def test_an_event_links_to_ids_alone(http, service, session):
    fields = {"combiner": "c-1", "attached": ["../api/v1/models/x"], "from": {"../../logout": 1}}
    service.state.add_events([EventRow(9000, 1.0, "clients_changed", "", -1, fields)], service.term)
    shown = page(http, "/events/9000")
    assert 'href="/combiners/c-1"' in shown
    assert not [address for address in re.findall(r'href="([^"]*)"', shown) if ".." in address]


def test_few_verify_trails_at_once(http, service, session, monkeypatch):
    answers, verified = list[int](), service.verify_trail

    def another(of):
        answers.append(http.get(f"/api/v1/sessions/{of}/trail/verify").status_code)
        return verified(of)

    monkeypatch.setattr(service, "verify_trail", another)
    assert http.get(f"/api/v1/sessions/{session}/trail/verify").status_code == 200
    assert answers == [429, 200]


def test_a_page_of_the_trail_is_bounded_in_bytes_too(http, session, monkeypatch):
    monkeypatch.setattr("fedn.reducer.rest.PAGE_BYTES", 1)
    monkeypatch.setattr("fedn.reducer.rest.RECORDS_AT_ONCE", 2)
    first = http.get(f"/api/v1/sessions/{session}/trail").get_json()
    assert [item["record"]["round"] for item in first["records"]] == [0, 1]
    rest = http.get(f"/api/v1/sessions/{session}/trail?after={first['next']}").get_json()
    assert ([item["record"]["round"] for item in rest["records"]], rest["next"]) == ([2], None)
