"""Adam over real processes: a reducer that is killed in every way takes every step once, and forgets none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fedopt import Settings, next_state
from promise_rows import REDUCER, STORE
from promised import CLIENTS, Promised, promised
from safetensors.numpy import load
from trip import Trip

ROUNDS = 5
PLAN = {"server_optimizer": "adam", "server_learning_rate": 0.2, "server_momentum": 0.9}
ADAM = Settings("adam", 0.2, 0.9)
COMMITTER = "fedn.reducer.merging:Committer"
INSTANTS = [
    Trip(f"{COMMITTER}._remember"),  # between the model's blob and the state's
    Trip(f"{STORE}.commit_round"),  # between blobs and record
    Trip(f"{STORE}.commit_round", when="after"),  # between record and announcement
    Trip(f"{COMMITTER}._forget", nth=3),  # before the first old state is deleted; the second call at a commit
]


def test_a_reducer_that_is_killed_at_every_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = INSTANTS
    with promised(tmp_path, monkeypatch, {REDUCER: first}) as federation:
        session = federation.start(rounds=ROUNDS, **PLAN)
        for following in [*others, None]:
            died(federation)
            federation.sandbox.trips = {REDUCER: following} if following else {}
            federation.sandbox.start(REDUCER)
        session = session or federation.only_session()
        federation.finished(session)
        kept_the_course(federation, session)


def test_a_reducer_that_is_killed_between_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with promised(tmp_path, monkeypatch, gates=()) as federation:
        session = federation.start(rounds=ROUNDS, **PLAN)
        federation.until(lambda: federation.session(session)["progress"].get("round") == 1)
        federation.reducer.post(f"/sessions/{session}/pause", {})
        federation.open_gate()
        federation.until(lambda: federation.session(session)["progress"]["state"] == "paused")
        federation.sandbox.kill(REDUCER)
        federation.sandbox.start(REDUCER)
        federation.until(lambda: federation.session(session)["progress"].get("state") == "paused")
        federation.reducer.post(f"/sessions/{session}/resume", {})
        federation.finished(session)
        kept_the_course(federation, session)


def died(federation: Promised) -> None:
    """Wait until the reducer has killed itself, and make it ready to be started anew."""
    federation.tripped(REDUCER)
    federation.sandbox.kill(REDUCER)
    federation.sandbox.marker(REDUCER).unlink()


def kept_the_course(federation: Promised, session: str) -> None:
    """Every model is that of a run that nothing ever interrupted; nobody trained a round twice."""
    records = federation.records(session)
    assert len(records) == 1 + ROUNDS
    for name, close in (("w", 1e-12), ("b", 1e-5)):
        for record, wanted in zip(records[1:], course(), strict=True):
            found = load(blob(federation, record["model"]))[name]
            np.testing.assert_allclose(found, wanted, rtol=close)
    states = [record["optimizer_state"] for record in records]
    models = federation.sandbox.directory / "reducer" / "models"
    assert [(models / digest[:2] / digest).is_file() for digest in states[1:]] == [False] * 3 + [True] * 2
    assert len(list(models.glob("??/*"))) == 1 + ROUNDS + 2
    assert federation.reducer.get(f"/sessions/{session}/trail/verify")["ok"]
    for index in range(len(CLIENTS)):
        assert federation.trained(index) == list(range(1, 1 + ROUNDS))


def course() -> list[float]:
    """What the gated clients come to: each adds 1 + index, with 10 + index examples."""
    weights = np.array([10.0, 11.0, 12.0])
    move = weights @ [1.0, 2.0, 3.0] / weights.sum()
    x, m, v, models = 0.0, 0.0, ADAM.tau**2, []
    for _ in range(ROUNDS):
        x, m, v = next_state(ADAM, x, m, v, x + move)
        models.append(x)
    return models


def blob(federation: Promised, digest: str) -> bytes:
    with federation.reducer.stream(f"/models/{digest}", {}) as answer:
        return bytes(answer.read())
