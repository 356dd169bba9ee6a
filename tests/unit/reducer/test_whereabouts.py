"""Where clients were last, and that their coming and going costs few events."""

from __future__ import annotations

from fedn.domain.ids import ClientId, CombinerName
from fedn.domain.messages import ClientInfo
from fedn.ports import Observed
from fedn.reducer.whereabouts import LEFT_SECONDS, MAX_NAMED, Whereabouts

A, B = CombinerName("a"), CombinerName("b")


def at(combiner: CombinerName, *clients: str) -> list[tuple[CombinerName, ClientInfo]]:
    return [(combiner, ClientInfo(ClientId(client), client.upper())) for client in clients]


def told(events: list[Observed]) -> list[tuple[object, ...]]:
    assert {event.event for event in events} <= {"clients_changed"}
    return [
        tuple(event.fields[k] for k in ("combiner", "attached", "left", "moved", "from")) for event in events
    ]


def test_who_came_who_left_and_who_moved() -> None:
    where = Whereabouts()
    assert told(where.update(at(A, "x", "y", "z"), 1.0)) == [(A, ["X", "Y", "Z"], [], [], {})]
    assert where.update(at(A, "x", "y", "z"), 2.0) == []
    assert told(where.update(at(A, "x") + at(B, "y", "new"), 3.0)) == [(B, ["NEW"], [], ["Y"], {A: 1})]
    assert where.waiting
    now = 3.0 + LEFT_SECONDS
    assert told(where.update(at(A, "x") + at(B, "y", "new"), now)) == [(A, [], ["Z"], [], {})]
    assert not where.waiting
    assert {c: (seen.combiner, seen.seen_at) for c, seen in where.seen.items()} == {
        "x": (A, now), "y": (B, now), "new": (B, now), "z": (A, 3.0),
    }  # fmt: skip


def test_who_is_away_for_a_moment_has_moved_or_nothing_has_happened() -> None:
    where = Whereabouts()
    where.update(at(A, "x", "y"), 1.0)
    assert where.update([], 2.0) == []
    assert told(where.update(at(A, "x") + at(B, "y"), 3.0)) == [(B, [], [], ["Y"], {A: 1})]


def test_a_thousand_that_come_at_once_are_one_event_that_names_a_few() -> None:
    (event,) = Whereabouts().update(at(A, *(f"c{number:04}" for number in range(1000))), 1.0)
    assert event.fields["counts"] == {"attached": 1000, "left": 0, "moved": 0}
    assert event.fields["attached"] == [f"C{number:04}" for number in range(MAX_NAMED)]


def test_who_left_first_is_forgotten_first_and_who_is_here_never() -> None:
    where = Whereabouts(max_gone=2, patience=0)
    for number, gone in enumerate(("x", "y", "z"), start=1):
        where.update(at(A, "stays", gone), 2.0 * number)
        where.update(at(A, "stays"), 2.0 * number + 1)
    assert list(where.seen) == ["stays", "y", "z"]
    where.update(at(A, "stays", "y"), 9.0)
    where.update(at(A, "y"), 10.0)
    assert set(where.seen) == {"y", "z", "stays"}
