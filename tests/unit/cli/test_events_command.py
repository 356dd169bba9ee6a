"""`fedn events`: the newest, those since a while, filtered, and what happens meanwhile."""

from __future__ import annotations

import json
import threading
import time

import pytest

from fedn.cli import events as command
from fedn.ports import EventRow, Observed
from fedn.reducer.events import EventHub


def row(number: int, age: float, event: str = "told", session: str = "", /, **fields: object) -> EventRow:
    return EventRow(number, time.time() - age, event, session, -1, fields)


@pytest.fixture
def past(service, small):
    """The id of a session with some history."""
    session = small.seeded(service).session
    service.state.add_events(
        [
            row(1, 7500.0, "reducer_started", term=1),
            row(2, 7000.0, "waiting", session, session=session, round=1, reason="no combiner"),
            row(3, 30.0, "session_failed", session, session=session, reason="disk full"),
        ]
    )
    service.hub = EventHub(begin=3)
    return session


def numbers(output: str) -> list[int]:
    return [json.loads(line)["number"] for line in output.splitlines()]


def test_events_are_told_in_sentences(past, fedn):
    lines = fedn.good("events").splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == [
        "1  The reducer has started, in term 1.",
        f"2  {past}: Round 1 waits: no combiner.",
        f"3  Session {past} has failed: disk full.",
    ]
    assert "Nothing of the kind" in fedn.good("events", "--name", "lunch")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["--limit", 2], [2, 3]),
        (["--since", "2h"], [2, 3]),
        (["--since", "1m", "--limit", 1], [3]),
        (["--session", "digits", "--gravity", "warning"], [2]),
        (["--name", "reducer_started", "--name", "waiting"], [1, 2]),
    ],
)
def test_events_are_filtered(past, fedn, asked, found):
    assert numbers(fedn.good("events", "--json", *asked)) == found


def test_all_pages_since_a_while_are_read(past, fedn, service, monkeypatch):
    monkeypatch.setattr(command, "PAGE", 2)
    assert numbers(fedn.good("events", "--json", "--since", "1d")) == [1, 2, 3]


def test_a_time_that_is_none_is_refused(fedn):
    assert "30m, 2h or 7d" in fedn.refused(2, "events", "--since", "yesterday")


def test_what_happens_is_followed_across_a_break(past, service, server, fedn, monkeypatch):
    monkeypatch.setattr(command, "AGAIN_SECONDS", 0.01)
    shown: list[int] = []
    done = threading.Event()

    def put(event, as_json):
        shown.append(event["number"])
        if event["number"] >= 1000:
            done.set()
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "_put", put)
    follower = threading.Thread(target=fedn, args=("events", "--follow", "--session", past))
    follower.start()
    wait_for_stream(service, follower)
    service.hub.observe(Observed("session_paused", {"session": past, "reason": ""}))
    service.hub.observe(Observed("session_paused", {"session": "other", "reason": ""}))
    before, service.hub = service.hub, EventHub(begin=998)
    service.state.add_events([row(6, 1.0, "told", past)])
    from_now_on(server, service)
    before.close()
    wait_for_stream(service, follower)
    service.hub.observe(Observed("session_resumed", {"session": "other"}))
    service.hub.observe(Observed("session_resumed", {"session": past}))
    follower.join(30)
    assert done.is_set()
    assert shown == [2, 3, 4, 6, 1000]


def wait_for_stream(service, follower) -> None:
    while not service.hub.streams_open:
        follower.join(0.01)
        assert follower.is_alive()


def from_now_on(server, service) -> None:
    """A restarted reducer's application in the place of the one before."""
    from fedn.config import ReducerSettings
    from fedn.reducer.rest import create_app

    server[1].app = create_app(service, ReducerSettings(port=0))
