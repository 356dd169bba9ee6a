"""`fedn session watch`: drawn with two progress bars and a line per round, or as JSON lines."""

from __future__ import annotations

from collections.abc import Iterator

from fedn.cli import screen
from fedn.cli.rest_client import Reducer
from fedn.sdk.drawing import drawn
from fedn.sdk.facts import Fact
from fedn.sdk.follow import Follower


def watch_session(reducer: Reducer, session: str, as_json: bool, patience: float = 300.0) -> bool:
    """Tell a session's story until it ends; returns whether it finished well."""
    facts = Follower(reducer, session, patience).facts()
    return _as_json(facts) if as_json else _as_bars(facts, session)


def _as_json(facts: Iterator[Fact]) -> bool:
    state = ""
    for fact in facts:
        screen.put_json({"event": fact.event, **fact.fields})
        state = fact.fields.get("state", state)
    return state == "finished"


def _as_bars(facts: Iterator[Fact], session: str) -> bool:
    with drawn(f"session {session}") as story:
        for fact in facts:
            story.tell(fact)
    return story.state == "finished"
