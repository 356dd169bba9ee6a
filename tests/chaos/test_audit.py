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
    blobs, updates, trainings = {sha256(model).hexdigest(): model}, {}, []
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
            trainings.append((client, SESSION, number))
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
    return Evidence([session], {SESSION: trail}, blobs.__getitem__, updates, trainings, seen)


def test_an_honest_trail_is_green(tmp_path: Path) -> None:
    verdict = audit(honest(tmp_path))
    assert verdict.ok, verdict.problems
    assert verdict.rounds == 2


@pytest.mark.parametrize("counted", [(0, 1), (0, 1, 2, 2)])
def test_a_dropped_or_a_doubled_update_is_seen_in_the_model(tmp_path: Path, counted: tuple[int, ...]) -> None:
    assert audit(honest(tmp_path, counted)).folded_twice == 2


def test_a_client_that_counts_twice_is_seen_in_the_record(tmp_path: Path) -> None:
    evidence = honest(tmp_path)
    last = evidence.trails[SESSION][-1]["record"]
    last["parts"] *= 2
    evidence.trails[SESSION][-1] = item(last)
    assert audit(evidence).folded_twice == 3


def test_a_training_done_twice_is_seen(tmp_path: Path) -> None:
    evidence = honest(tmp_path)
    evidence.trainings.append(evidence.trainings[0])
    assert audit(evidence).trained_twice == 1


def unfinished(evidence: Evidence) -> None:
    evidence.sessions[0]["state"] = "failed"


def a_lost_round(evidence: Evidence) -> None:
    evidence.trails[SESSION].pop()


def a_record_written_anew(evidence: Evidence) -> None:
    last = evidence.trails[SESSION][-1]["record"]
    evidence.trails[SESSION][-1] = item({**last, "committed_at": 1})


def altered_bytes(evidence: Evidence) -> None:
    evidence.trails[SESSION][1]["raw"] += " "


def another_parent(evidence: Evidence) -> None:
    last = evidence.trails[SESSION][-1]["record"]
    evidence.trails[SESSION][-1] = item({**last, "parent": "0" * 64})


def another_model(evidence: Evidence) -> None:
    evidence.blob = lambda digest: save(seed_model(50))


def an_update_gone(evidence: Evidence) -> None:
    evidence.updates = dict(list(evidence.updates.items())[1:])


def a_training_without_a_note(evidence: Evidence) -> None:
    evidence.trainings.pop()


@pytest.mark.parametrize(
    "tamper",
    [
        unfinished, a_lost_round, a_record_written_anew, altered_bytes, another_parent, another_model,
        an_update_gone, a_training_without_a_note,
    ],
)  # fmt: skip
def test_tampering_is_seen(tmp_path: Path, tamper: Callable[[Evidence], None]) -> None:
    evidence = honest(tmp_path)
    tamper(evidence)
    assert not audit(evidence).ok


def test_a_kill_between_journal_and_note_is_forgiven(tmp_path: Path) -> None:
    evidence = honest(tmp_path)
    evidence.trainings.pop()
    assert audit(evidence, unnoted=1).ok
