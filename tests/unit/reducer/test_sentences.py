"""What events say to people: whatever the reducer tells of has a sentence, and any fields are borne."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import fedn.reducer
from fedn.domain.round import OVER
from fedn.reducer import events
from fedn.reducer.preflight import CHECKING
from fedn.reducer.sentences import EVENTS, GRAVITIES, events_of, gravity, sentence

TELLING = {"Observed", "_tell", "tell", "_of"}
"""Calls whose first argument may name an event."""


def names_told() -> Iterator[str]:
    """Every event that the reducer's code names."""
    for file in Path(inspect.getfile(fedn.reducer)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and _called(node.func) in TELLING and node.args:
                yield from _names(node.args[0])
            elif (
                isinstance(node, ast.Return) and file.stem == "telling" and isinstance(node.value, ast.Tuple)
            ):
                yield from _names(node.value.elts[0])


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _names(named: ast.expr) -> Iterator[str]:
    match named:
        case ast.Constant(str(name)) if name.replace("_", "").isalpha():
            yield name
        case ast.Name(name) if name.isupper():
            yield getattr(events, name, None) or getattr(fedn.reducer.event_keeping, name)
        case ast.JoinedStr([ast.Constant("session_"), ast.FormattedValue()]):
            yield from (f"session_{state}" for state in OVER)


def test_every_event_that_the_code_tells_of_has_a_sentence():
    told = set(names_told())
    assert {"round_opened", "waiting", "session_failed", "lagged", "reducer_stopped", "best_model"} <= told
    assert told == EVENTS.keys()


def test_clients_that_check_themselves_are_nothing_to_warn_of():
    assert gravity("waiting", {"session": "s", "reason": CHECKING}) == "info"
    assert gravity("waiting", {"session": "s", "reason": "the state store is away"}) == "warning"


@pytest.mark.parametrize("event", sorted(EVENTS))
@pytest.mark.parametrize(
    "fields", [{}, {"session": 5, "round": None, "counts": [], "clients": "x", "model": {}}]
)
def test_fields_of_another_version_are_borne(event: str, fields: dict[str, object]):
    assert sentence(event, fields).endswith(".")
    assert gravity(event, fields) in GRAVITIES


def test_clients_are_called_by_their_names():
    names = {"c1-ab12": "lund", "c2-cd34": "uppsala", "s-1": "no client"}
    fields = {"round": 2, "rounds": 3, "contributors": 1, "refused": ["c1-ab12"], "lost": ["c9", "c2-cd34"]}
    assert sentence("round_committed", fields, names) == (
        "Round 2 of 3 was committed: 1 client contributed; 1 was refused (lund); 2 were lost (c9, uppsala)."
    )
    moves = {"round": 2, "clients": {"c1-ab12": {"state": "training"}}}
    assert sentence("client_progress", moves, names) == "Round 2: lund training."
    assert sentence("client_unfit", {"client": "c2-cd34"}, names) == "Client uppsala can't take part."
    assert sentence("session_paused", {"session": "s-1"}, names) == "Session s-1 is paused."


DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("event", "fields", "told", "grave"),
    [
        ("reducer_started", {"term": 3}, "The reducer has started, in term 3.", "info"),
        (
            "session_started",
            {"session": "s-1", "name": "digits", "round": 0, "rounds": 1, "model": DIGEST, "plan": {}},
            "Session s-1 (digits) started: 1 round from model abababababab.",
            "info",
        ),
        (
            "session_failed",
            {"session": "s-1", "reason": "selector 'x' failed."},
            "Session s-1 has failed: selector 'x' failed.",
            "error",
        ),
        ("session_finished", {"session": "s-1", "reason": ""}, "Session s-1 has finished.", "good"),
        (
            "round_opened",
            {"round": 2, "rounds": 3, "expected": 1},
            "Round 2 of 3 has begun; 1 client is to train.",
            "info",
        ),
        (
            "round_committed",
            {"round": 2, "rounds": 3, "model": DIGEST, "contributors": 5, "refused": [], "lost": [],
             "train": {}, "seconds": {"training": 1.5, "uploading": 0.25}},
            "Round 2 of 3 was committed after 1.75 s: 5 clients contributed.",
            "good",
        ),
        (
            "round_committed",
            {"round": 2, "rounds": 3, "contributors": 1, "refused": ["c"], "lost": [*"abcdefg"]},
            "Round 2 of 3 was committed: 1 client contributed; 1 was refused (c); "
            "7 were lost (a, b, c, d, e and 2 more).",
            "warning",
        ),
        (
            "round_validated",
            {"round": 2, "clients": 2, "examples": 9, "metrics": {"accuracy": 0.87654, "loss": None}},
            "Round 2 was validated by 2 clients: accuracy 0.8765, loss None.",
            "info",
        ),
        (
            "inquiry_ended",
            {"inquiry": "i", "kind": "evaluation", "round": 2, "failed": 1, "clients": 3},
            "The evaluation with the model of round 2 has ended: 3 clients answered, 1 did not.",
            "warning",
        ),
        (
            "combiner_lost",
            {"combiner": "north", "clients": ["a", "b"], "count": 9},
            "Combiner north does not answer any more. Its 9 clients go elsewhere: a, b and 7 more.",
            "warning",
        ),
        (
            "clients_changed",
            {"combiner": "north", "attached": ["a"], "moved": ["b"], "left": [], "from": {"south": 1},
             "counts": {"attached": 1, "moved": 1, "left": 0}},
            "At combiner north: a attached; b came over (from south).",
            "info",
        ),
        (
            "client_failed",
            {"round": 4, "kind": "validate", "client": "c", "reason": "no data"},
            "Client c could not validate the model of round 4: no data.",
            "warning",
        ),
        (
            "lunch_eaten",
            {"by": "c", "model": DIGEST, "of": [1, 2]},
            "Lunch eaten: by c, model abababababab, of 1, 2.",
            "info",
        ),
        ("lunch_eaten", {}, "Lunch eaten.", "info"),
    ],
)  # fmt: skip
def test_events_in_words(event: str, fields: dict[str, object], told: str, grave: str):
    assert sentence(event, fields) == told
    assert gravity(event, fields) == grave


def test_names_for_a_gravity_leave_none_out():
    assert events_of({"error"}) == {"session_failed"}
    assert {"round_committed", "client_unfit"} <= events_of({"warning"})
    assert events_of({"info", "error"}) == frozenset()
