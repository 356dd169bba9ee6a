"""`fedn why`: one paragraph, its remedy, and what was recorded."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def session(service, small):
    started = small.seeded(service).session
    service.commit(started, 0.5)
    return started


def test_why_is_one_paragraph_with_what_was_recorded(fedn, service, session):
    waits = "waiting for clients: 0 of 1 are ready"
    service.progress = {"state": "waiting", "reason": waits, "waits": waits, "hindrances": {}}
    title, *rest = fedn.good("why", session[-4:]).splitlines()
    assert title == "No combiner"
    assert "no combiner is connected" in " ".join(rest)
    assert "What to do: start one with `fedn combiner start`" in " ".join(rest)
    assert rest[-1] == f"  - reason: {waits}"
    assert json.loads(fedn.good("why", session, "--json"))["cause"] == "no_combiner"


def test_why_of_a_round_and_of_none(fedn, session):
    assert "2 updates went into it" in fedn.good("why", session, 1)
    assert "has no round 7; its last is 1" in fedn.refused(4, "why", session, 7)
    assert "nosuch" in fedn.refused(4, "why", "nosuch")
