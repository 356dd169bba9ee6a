"""The promises of `fedn.ports.StateStore` about events, as tests.

Part of `fedn.testing.contracts.state_store.StateStoreContract`: subclass that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from fedn.domain.errors import InvalidInput, StaleTerm
from fedn.domain.ids import ClientId, SessionId
from fedn.ports import EventRow, StateStore
from fedn.testing.contracts.samples import genesis, session_info

MNIST = SessionId("mnist")


class StateEventsContract:
    """What a reducer and its readers ask of the events of a StateStore, given by the fixture ``store``."""

    def test_events_are_kept_as_they_were_told(self, store: StateStore) -> None:
        fields: Any = {"session": "mnist", "round": 3, "refused": ["ü.$"], "train": {"a.b": 0.5, "n": None}}
        rows = [happened(7, at=5.5), happened(2**40, "mnist", 3, **fields)]
        assert store.events() == []
        store.add_events(rows)
        store.add_events([])
        assert store.events() == rows

    def test_an_event_added_again_is_there_once(self, store: StateStore) -> None:
        rows = [happened(1), happened(2)]
        store.add_events(rows)
        store.add_events([replace(rows[1], event="other"), happened(3)])
        assert [row.event for row in store.events()] == ["told", "other", "told"]

    def test_fields_that_are_no_json_are_refused(self, store: StateStore) -> None:
        for value in (math.nan, b"bytes", {1, 2}):
            with pytest.raises(InvalidInput, match="fields"):
                store.add_events([happened(1), happened(2, value=value)])
        assert store.events() == []

    def test_events_come_in_bounded_pages_from_both_ends(self, store: StateStore) -> None:
        store.add_events([happened(number) for number in range(10, 2000, 2)])
        assert len(store.events()) == 995
        assert numbers(store.events(after=13, limit=3)) == [14, 16, 18]
        assert numbers(store.events(after=1998)) == []
        assert numbers(store.events(limit=3, newest=True)) == [1994, 1996, 1998]
        assert numbers(store.events(limit=2, newest=True, before=20)) == [16, 18]
        assert numbers(store.events(after=14, before=20)) == [16, 18]
        assert len(store.events(after=-(2**70), before=2**70, limit=2**70)) == 995
        with pytest.raises(InvalidInput):
            store.events(limit=0)

    def test_events_are_found_by_session_round_and_name(self, store: StateStore) -> None:
        store.add_events(
            [
                happened(1),
                happened(2, "mnist", 1),
                happened(3, "mnist", 2, event="lost"),
                happened(4, "other", 2, event="lost"),
                happened(5, "mnist", 2, event="waiting"),
            ]
        )
        assert numbers(store.events(session="mnist")) == [2, 3, 5]
        assert numbers(store.events(session="mnist", round=2)) == [3, 5]
        assert numbers(store.events(round=-1)) == [1]
        assert numbers(store.events(names=["lost", "waiting"])) == [3, 4, 5]
        assert numbers(store.events(names=["lost"], newest=True, limit=1)) == [4]
        assert numbers(store.events(after=2, session="mnist", names={"waiting"})) == [5]
        assert numbers(store.events(session="nobody")) == []

    def test_the_oldest_go(self, store: StateStore) -> None:
        store.trim_events(3)
        store.add_events([happened(number) for number in (1, 5, 6, 2_000_000, 2_000_001)])
        store.trim_events(5)
        assert len(store.events()) == 5
        for _ in range(2):
            store.trim_events(3)
            assert numbers(store.events()) == [6, 2_000_000, 2_000_001]

    def test_who_no_longer_leads_tells_nothing(self, store: StateStore) -> None:
        old = store.take_term()
        store.add_events([happened(1)], old)
        new = store.take_term()
        with pytest.raises(StaleTerm):
            store.add_events([happened(2)], old)
        store.add_events([happened(3)], new)
        assert numbers(store.events()) == [1, 3]

    def test_a_session_goes_with_its_events(self, store: StateStore) -> None:
        first = genesis()
        store.add_session(session_info(first), first)
        store.add_events([happened(1), happened(2, "mnist", 0), happened(3, "other", 0)])
        store.set_session_state(MNIST, "finished", "", store.take_term())
        store.remove_session(MNIST)
        assert numbers(store.events()) == [1, 3]

    def test_a_forgotten_client_is_in_no_event(self, store: StateStore) -> None:
        kept = [happened(1, client="c-10"), happened(2, lost=["xc-1", "c-1.5"], reason="c-1x and c-10.")]
        about = happened(3, client="c-1", reason="no data")
        naming = happened(
            4, lost=["c-1", "c-2"], seconds={"c-1": 1.5, "c-2": 2.5}, reason="c-1 is slow; so is c-1.",
            came=[{"client": "c-1", "name": "ward 7"}, {"client": "c-2", "name": "ward 8"}],
        )  # fmt: skip
        left = happened(
            4, lost=["c-2"], seconds={"c-2": 2.5}, reason="(forgotten) is slow; so is (forgotten).",
            came=[{"client": "c-2", "name": "ward 8"}],
        )  # fmt: skip
        store.add_events([*kept, about, naming])
        assert store.forget_events(ClientId("c-1")) == 2
        assert store.events() == [*kept, left]
        assert store.forget_events(ClientId("c-1")) == 0

    def test_a_forgotten_clients_name_goes_too(self, store: StateStore) -> None:
        store.add_events(
            [happened(1, attached=["Süd 7", "Süd 71"], reason="Süd 7 (c-1) is ill", n=[1, [{}]])]
        )
        assert store.forget_events(ClientId("c-1"), "Süd 7") == 1
        fields = {"attached": ["Süd 71"], "reason": "(forgotten) ((forgotten)) is ill", "n": [1, [{}]]}
        assert [row.fields for row in store.events()] == [fields]


def happened(
    number: int, session: str = "", round: int = -1, /, *, event: str = "told", at: float = 1.0, **fields: Any
) -> EventRow:
    return EventRow(number, at, event, session, round, fields)


def numbers(rows: Sequence[EventRow]) -> list[int]:
    return [row.number for row in rows]
