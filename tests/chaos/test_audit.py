"""The auditor is itself audited: a trail as it should be is green, and every way to tamper with it is red."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app import examples, seed_model, trained
from audit import Evidence, audit
from safetensors.numpy import load, save

SESSION = "s-1"


def record(number: int, parent: str, base: bytes, model: bytes, contributors: list[Any]) -> Any:
    said = {
        "session": SESSION, "round": number, "parent": parent, "base_model": sha256(base).hexdigest(),
        "model": sha256(model).hexdigest(), "parts": [{"contributors": contributors}],
    }  # fmt: skip
    return item(said)


def item(said: Any) -> Any:
    raw = json.dumps(said)
    return {"record": said, "raw": raw, "digest": sha256(raw.encode()).hexdigest()}


def honest(directory: Path, counted: tuple[int, ...] = (0, 1, 2)) -> Evidence:
    """Two rounds of three clients; ``counted`` says whose updates are in the sums."""
    model = save(seed_model(50))
    blobs, updates, notes = {sha256(model).hexdigest(): model}, {}, []
    trail = [record(0, "0" * 64, b"", model, [])]
    for number in (1, 2):
        base, tensors, contributors = model, load(model), []
        made = {index: trained(tensors, number, index) for index in range(3)}
        for index, update in made.items():
            file = save(update)
            digest, client = sha256(file).hexdigest(), f"client-{index + 1}-ab"
            updates[SESSION, number, digest] = directory / digest
            (directory / digest).write_bytes(file)
            contributors.append({"client": client, "examples": examples(number, index), "digest": digest})
            notes += [(what, client, SESSION, number) for what in ("trained", "counted", "deleted")]
        weights = [examples(number, index) for index in counted]
        model = save(
            {
                key: np.average([made[i][key].astype(float) for i in counted], 0, weights).astype(old.dtype)
                for key, old in tensors.items()
            }
        )
        blobs[sha256(model).hexdigest()] = model
        trail.append(record(number, trail[-1]["digest"], base, model, contributors))
    session = {"session": SESSION, "name": "test", "state": "finished", "reason": "", "plan": {"rounds": 2}}
    seen = {(SESSION, n): stored["digest"] for n, stored in enumerate(trail)}
    return Evidence([session], {SESSION: trail}, blobs.__getitem__, updates, notes, seen)


def test_an_honest_trail_is_green(tmp_path: Path) -> None:
    verdict = audit(honest(tmp_path))
    assert verdict.ok, verdict.problems
    assert verdict.rounds == 2


@pytest.mark.parametrize(
    ("counted", "shown"),
    [((0, 1), "dropped updates"), ((0, 1, 2, 2), "double folds"), ((0, 1, 1, 1), "models wrong")],
)
def test_what_is_wrong_with_a_sum_is_seen_in_the_model(
    tmp_path: Path, counted: tuple[int, ...], shown: str
) -> None:
    counts = audit(honest(tmp_path, counted)).counts
    assert {what: times for what, times in counts.items() if times} == {shown: 2}


def last_record(evidence: Evidence, **changes: Any) -> None:
    trail = evidence.trails[SESSION]
    trail[-1] = item({**trail[-1]["record"], **changes})


def only_one_round(evidence: Evidence) -> None:
    evidence.trails[SESSION].pop()
    evidence.seen = {(SESSION, n): evidence.seen[SESSION, n] for n in (0, 1)}
    evidence.notes = [note for note in evidence.notes if note[3] == 1]


TAMPERING: dict[str, tuple[Callable[[Evidence], object], str]] = {
    "failed": (lambda e: e.sessions[0].update(state="failed"), "sessions not finished"),
    "a round never made": (only_one_round, "rounds missing"),
    "a round gone": (lambda e: e.trails[SESSION].pop(), "rounds lost"),
    "a record written anew": (lambda e: last_record(e, committed_at=1), "rounds lost"),
    "another parent": (lambda e: last_record(e, parent="0" * 64), "records wrong"),
    "altered bytes": (
        lambda e: e.trails[SESSION][1].update(raw=e.trails[SESSION][1]["raw"] + " "),
        "records wrong",
    ),
    "another model": (lambda e: setattr(e, "blob", lambda _: save(seed_model(50))), "models wrong"),
    "an update gone": (lambda e: e.updates.popitem(), "updates wrong"),
    "counted twice": (
        lambda e: last_record(e, parts=e.trails[SESSION][2]["record"]["parts"] * 2),
        "double folds",
    ),
    "trained twice": (lambda e: e.notes.append(e.notes[0]), "double trainings"),
    "trained without a note": (lambda e: e.notes.pop(0), "trainings not noted"),
    "told wrongly that it does not count": (lambda e: note(e, "uncounted", "client-1-ab"), "settled wrongly"),
    "told wrongly that it counts": (lambda e: note(e, "counted", "client-4-ab"), "settled wrongly"),
    "deleted before it was told": (lambda e: e.notes.pop(1), "deleted too early"),
}


def note(evidence: Evidence, what: str, client: str) -> None:
    evidence.notes.append((what, client, SESSION, 1))


@pytest.mark.parametrize("how", TAMPERING)
def test_tampering_is_seen(tmp_path: Path, how: str) -> None:
    evidence = honest(tmp_path)
    tamper, shown = TAMPERING[how]
    tamper(evidence)
    assert audit(evidence).counts.get(shown)


def test_a_kill_between_journal_and_note_is_forgiven(tmp_path: Path) -> None:
    evidence = honest(tmp_path)
    evidence.notes.pop(0)
    assert audit(evidence, unnoted=1).ok
