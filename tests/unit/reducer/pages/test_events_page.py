"""The events' page: its filters, its pages, and the page of one event."""

from __future__ import annotations

import re

import pytest

from fedn.ports import EventRow
from fedn.reducer.pages.events import KINDS, SHOWN, number_at
from fedn.reducer.sentences import EVENTS

MINUTE = 60.0


def numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r'data-number="(\d+)"', text)]


def link(text: str, name: str) -> str:
    """The address of the link with this id, '' if there is none."""
    found = re.search(rf'id="{name}" href="([^"]*)"', text)
    return found[1].replace("&amp;", "&") if found else ""


@pytest.fixture
def happened(service, small):
    """Events 10, 20, …: one a minute, every third of a client that fails, the others of committed rounds."""
    session = small.seeded(service).session
    rows = []
    for at in range(1, SHOWN + 31):
        fields = {"session": session, "round": at, "rounds": 99, "contributors": 2, "refused": [], "lost": []}
        if at % 3 == 0:
            fields = {
                "session": session,
                "round": at,
                "client": f"client-{at}",
                "kind": "train",
                "reason": "oops",
            }
        event = "client_failed" if at % 3 == 0 else "round_committed"
        rows.append(EventRow(10 * at, at * MINUTE, event, session, at, fields))
    service.state.add_events(rows)
    return session


def test_nothing_has_happened(browse):
    assert "Nothing has happened yet." in browse("/events", "viewer")


def test_one_goes_through_all_of_them_and_back(browse, happened):
    first = browse("/events")
    last = 10 * (SHOWN + 30)
    assert numbers(first) == list(range(last, last - 10 * SHOWN, -10))
    assert link(first, "newer") == ""
    second = browse(link(first, "older"))
    assert numbers(second) == list(range(300, 0, -10))
    assert link(second, "older") == ""
    assert numbers(browse(link(second, "newer"))) == numbers(first)
    assert numbers(browse(link(second, "newest"))) == numbers(first)


def test_filters(browse, happened):
    for query, found in (
        ("event=client_failed&until=1970-01-01T00:09", [90, 60, 30]),
        ("event=clients&before=100", [90, 60, 30]),
        ("gravity=warning,error&before=100", [90, 60, 30]),
        ("gravity=good&event=clients", []),
        ("text=CLIENT-9", [90]),
        ("text=of 99&since=1970-01-01T00:04&until=1970-01-01T00:05", [50, 40]),
        ("session=another", []),
        ("event=round_committed,client_failed&before=40", [30, 20, 10]),
    ):
        assert numbers(browse(f"/events?{query}")) == found, query


def test_a_filter_stays_from_page_to_page(browse, happened):
    first = browse(f"/events?gravity=good&session={happened}")
    older = link(first, "older")
    assert "gravity=good" in older
    assert f"session={happened}" in older
    assert numbers(browse(older))[-1] == 10
    assert not any(number % 30 == 0 for number in numbers(first))


def test_what_is_no_filter_is_said(browse):
    for query in (
        "gravity=bad", "event=<script>", "since=yesterday", "since=1970-02-31T00:00", "before=x",
        "session=../x", "text=" + "x" * 101,
    ):  # fmt: skip
        assert query.partition("=")[0] in browse(f"/events?{query}", status=400), query


def test_times_are_found_by_halving(service, happened):
    assert number_at(service.state, 0.0) == 1
    assert 40 < number_at(service.state, 5 * MINUTE) <= 50
    assert number_at(service.state, 1e9) > 10 * SHOWN


def test_an_event_has_a_page_with_its_fields_and_links(service, browse, happened, evil):
    fields = {"client": "c-1", "reason": evil, "kind": "train", "round": 1, "session": happened}
    service.state.add_events([EventRow(5000, 1.0, "client_failed", happened, 1, fields)])
    shown = browse("/events/5000", "viewer")
    for address in ("/clients/c-1", f"/sessions/{happened}", f"/sessions/{happened}/rounds/1/why"):
        assert f'href="{address}"' in shown
    assert "Client c-1 could not train on the model of round 1" in shown
    assert f'href="/events/{10 * (SHOWN + 30)}"' in shown  # the one before
    assert "&lt;script&gt;" in browse("/events")
    assert "no event 4999" in browse("/events/4999", status=404)


def test_every_kind_of_event_is_in_a_group():
    offered = [name for group in KINDS.values() for name in group]
    assert sorted(offered) == sorted(EVENTS.keys() - {"client_progress", "lagged"})  # those are not kept
