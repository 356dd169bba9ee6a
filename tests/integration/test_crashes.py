"""Real processes, real SIGKILL: the session goes on, nobody trains twice, nobody counts twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from federations import names, running


def test_a_killed_combiner_costs_nobody_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, monkeypatch, combiners=2, clients=4) as federation:
        for index, combiner in enumerate(["combiner-1", "combiner-1", "combiner-2", "combiner-2"]):
            federation.sandbox.start_client(index, f"--combiner={combiner}")
        federation.attached(4)
        assert federation.clients_at("combiner-1") == {"client-1", "client-2"}
        session = federation.start(rounds=2, min_clients=4)

        federation.open_gate(0)
        federation.open_gate(1)
        federation.received(session, 2)  # both are folded at combiner-1, and nowhere else
        federation.sandbox.kill("combiner-1")
        federation.until(lambda: federation.clients_at("combiner-2") >= {"client-1", "client-2"})
        federation.open_gate()

        federation.finished(session)
        first, second = federation.records(session)[1:]
        assert names(first) == names(second) == ["client-1", "client-2", "client-3", "client-4"]
        assert [federation.trained(index) for index in range(4)] == [[1, 2]] * 4
        assert federation.audit(session) < 1e-6


def test_a_killed_reducer_goes_on_from_the_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, monkeypatch, combiners=2, clients=3) as federation:
        for index in range(3):
            federation.sandbox.start_client(index)
        federation.attached(3)
        session = federation.start(rounds=3, min_clients=3)
        federation.open_gate(0)
        federation.received(session, 1)
        federation.sandbox.kill("reducer")
        federation.open_gate()  # the clients go on while there is no reducer
        federation.sandbox.start_reducer()

        federation.finished(session)
        assert [names(record) for record in federation.records(session)[1:]] == [
            ["client-1", "client-2", "client-3"]
        ] * 3
        assert [federation.trained(index) for index in range(3)] == [[1, 2, 3]] * 3
        assert federation.audit(session) < 1e-6


def test_a_killed_client_offers_from_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, monkeypatch, combiners=1, clients=2) as federation:
        federation.sandbox.start_client(0)
        federation.sandbox.start_client(1)
        federation.attached(2)
        session = federation.start(rounds=1, min_clients=2)
        federation.open_gate(0)
        federation.received(session, 1)
        federation.sandbox.kill("combiner-1")  # the sum is gone
        federation.sandbox.kill("client-1")  # and so is the process that holds the only copy
        federation.open_gate()
        federation.sandbox.start_combiner("combiner-1")
        federation.sandbox.start_client(0)

        federation.finished(session)
        assert names(federation.records(session)[1]) == ["client-1", "client-2"]
        assert federation.trained(0) == [1]
        assert federation.audit(session) < 1e-6


def test_a_client_killed_while_uploading_is_lost_by_name_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, monkeypatch, combiners=1, clients=1) as federation:
        federation.open_gate()
        federation.sandbox.start_client(0)
        script = str(Path(__file__).with_name("half_uploader.py"))
        with subprocess.Popen(
            [sys.executable, script, federation.sandbox.url], stdout=subprocess.PIPE, text=True
        ) as half:
            federation.attached(2)
            session = federation.start(rounds=1, min_clients=1)
            assert half.stdout is not None
            assert half.stdout.readline() == "half\n"
            half.kill()

        federation.finished(session)
        [_, record] = federation.records(session)
        assert names(record) == ["client-1"]
        assert [absence["client"] for absence in record["lost"]] == ["half-00000000"]
        assert federation.audit(session) < 1e-6


def test_the_session_waits_for_clients_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path, monkeypatch, combiners=1, clients=2) as federation:
        federation.open_gate()
        federation.sandbox.start_client(0)
        federation.attached(1)
        session = federation.start(rounds=1, min_clients=2)
        progress = federation.session(session)["progress"]
        assert progress["reason"] == "waiting for clients: 1 of 2 are attached"
        federation.sandbox.start_client(1)
        federation.finished(session)
        assert names(federation.records(session)[1]) == ["client-1", "client-2"]
