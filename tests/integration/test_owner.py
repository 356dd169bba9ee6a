"""The owner of a client, by `fedn client` beside real processes: pause, resume, status, hours, ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import Running, names, running

from fedn.helpers.files import seed_file

ELEMENTS = 200_000


def fedn(federation: Running, *arguments: object, code: int = 0) -> str:
    """`fedn client …` on the folder of this federation's clients: what it printed."""
    where = ("--state-dir", federation.sandbox.directory / "clients")
    command = [sys.executable, "-m", "fedn", "client", *map(str, (*arguments, *where))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def status(federation: Running, name: str) -> Any:
    """That of a client, which may not have begun yet."""
    if not (federation.sandbox.directory / "clients" / name / "standing.json").exists():
        return {"state": "not there", "working": None}
    return json.loads(fedn(federation, "status", "--name", name, "--json"))["clients"][0]


def becomes(federation: Running, name: str, state: str) -> Any:
    return federation.until(lambda: (told := status(federation, name))["state"] == state and told)


def start(federation: Running, clients: int = 2, flags: tuple[str, ...] = ()) -> None:
    for index in range(clients):
        federation.sandbox.start_client(index, *(flags if index == 0 else ()))
    federation.attached(clients)


def large(federation: Running, **plan: Any) -> str:
    """A session whose updates are uploaded, not sent along with their offers."""
    seed = seed_file({"w": np.zeros(ELEMENTS, dtype=np.float32)})
    model = federation.reducer.upload("/models", iter([seed]), len(seed), name="zeros")
    body = {"name": "large", "model": model["digest"], "plan": {"round_deadline": 60.0, **plan}}
    return str(federation.reducer.post("/sessions", body)["session"])


def test_a_paused_client_finishes_leaves_stays_away_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, monkeypatch, combiners=1, clients=2) as federation:
        start(federation)
        session = federation.start(rounds=2, min_clients=1)
        federation.until(lambda: status(federation, "client-1")["working"])
        assert status(federation, "client-1")["working"]["kind"] == "train"
        fedn(federation, "pause", "--name", "client-1")
        becomes(federation, "client-1", "leaving")
        federation.open_gate()
        told = becomes(federation, "client-1", "away")
        assert (told["running"], told["paused"], told["held"], told["working"]) == (True, True, [], None)
        assert told["rounds"][-1]["outcome"] == "counted"
        federation.finished(session)
        rounds = federation.records(session)[1:]
        assert [names(record) for record in rounds] == [["client-1", "client-2"], ["client-2"]]
        assert federation.clients_at("combiner-1") == {"client-2"}

        federation.sandbox.kill("client-1")
        assert status(federation, "client-1")["state"] == "not running"
        federation.sandbox.start_client(0)
        becomes(federation, "client-1", "away")
        assert federation.clients_at("combiner-1") == {"client-2"}
        fedn(federation, "resume", "--name", "client-1")
        federation.until(lambda: federation.clients_at("combiner-1") == {"client-1", "client-2"})
        again = federation.start(rounds=1, min_clients=2)
        assert federation.finished(again)
        assert federation.trained(0) == [1, 1]
        told = status(federation, "client-1")
        assert (told["state"], told["combiner"], told["paused"]) == ("attached", "combiner-1", False)
        first, *earlier = told["rounds"]
        assert (first["session"], first["outcome"]) == (again, "counted")
        assert {r["session"] for r in earlier} == {session}  # from before it was killed


def test_out_of_hours_a_client_is_away_and_within_them_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now().astimezone()
    soon, later = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (2, 4))
    around = f"{now - timedelta(hours=2):%H:%M}-{soon}, {soon}-{later}"
    with running(tmp_path, monkeypatch, combiners=1, clients=2) as federation:
        federation.sandbox.start_client(0, f"--hours={soon}-{later}")
        federation.sandbox.start_client(1, f"--hours={around}", "--hyperparameters=lr=0.5")
        told = becomes(federation, "client-1", "away")
        assert told["reason"] == f"this client takes part at {soon}-{later} only"
        federation.open_gate()
        session = federation.start(rounds=1, min_clients=1)
        federation.finished(session)
        assert names(federation.records(session)[1]) == ["client-2"]
        settings = status(federation, "client-2")["settings"]
        assert (settings["hours"], settings["hyperparameters"]) == (around, {"lr": 0.5})


def test_the_ledger_is_what_the_network_has_and_tampering_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, monkeypatch, combiners=1, clients=2) as federation:
        start(federation)
        federation.open_gate()
        sessions = [federation.start(rounds=3, min_clients=2), large(federation, rounds=2, min_clients=2)]
        for session in sessions:
            federation.finished(session)
        rounds = {session: federation.records(session)[1:] for session in sessions}

        lines = fedn(federation, "ledger", "--name", "client-1", "--json").splitlines()
        noted = [json.loads(line) for line in lines]
        for session, records in rounds.items():
            mine = {c["digest"]: c["examples"] for r in records for p in r["parts"] for c in p["contributors"]
                    if c["client"].startswith("client-1-")}  # fmt: skip
            kept = {
                d: next(federation.sandbox.kept("client-1").glob(f"*-{d}.*")).stat().st_size for d in mine
            }
            offers = [e for e in noted if e["what"] == "update_offered" and e["session"] == session]
            assert {e["digest"]: e["details"]["examples"] for e in offers} == mine
            sent: Counter[str] = Counter()
            for entry in noted:
                if entry["session"] == session and entry["what"] == "upload_begun":
                    sent[entry["digest"]] += entry["size"]
            for entry in offers:
                if entry["details"]["inline"]:
                    sent[entry["digest"]] += entry["details"]["update_size"]
                    assert entry["size"] > entry["details"]["update_size"]
            assert sent == kept
        told = {(e["session"], e["round"]): (e["details"]["examples"], e["details"]["metrics"])
                for e in noted if e["what"] == "validation_reported"}  # fmt: skip
        rows = [
            row
            for session in sessions
            for row in federation.reducer.get(f"/sessions/{session}/metrics")["rows"]
            if row["kind"] == "validate" and row["client"].startswith("client-1-")
        ]
        assert {
            (r["session"], r["round"]): (r["examples"], r["metrics"]) for r in rows
        }.items() <= told.items()
        assert rows
        [hello] = [e for e in noted if e["what"] == "hello_said"]
        assert hello["to"] == "combiner-1"

        table = fedn(federation, "ledger", "--name", "client-1")
        assert all(session in table for session in sessions)
        assert "update offered" in table
        assert fedn(federation, "ledger", "--name", "client-1", "--since", "2030-01-01", "--json") == ""
        one = fedn(federation, "ledger", "--name", "client-1", "--session", sessions[0], "--json")
        assert {json.loads(line)["session"] for line in one.splitlines()} == {sessions[0]}

        whole = json.loads(fedn(federation, "ledger", "verify", "--name", "client-1", "--json"))
        assert whole["ok"]
        [file] = (tmp_path / "clients" / "client-1" / "ledger").iterdir()
        content = file.read_bytes()
        file.write_bytes(content.replace(b'"examples":10', b'"examples":11', 1))
        assert "damaged" in fedn(federation, "ledger", "verify", "--name", "client-1", code=1)
        file.write_bytes(content[: content.rindex(b"\n", 0, -1) + 1])
        fedn(federation, "ledger", "verify", "--name", "client-1")
        fedn(federation, "ledger", "verify", "--name", "client-1", "--pinned", whole["head"], code=1)
