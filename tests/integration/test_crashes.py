"""Real processes, real SIGKILL: the session goes on, nobody trains twice, nobody counts twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from federations import names, running


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
        assert progress["reason"] == "waiting for clients: 1 of 2 are ready"
        federation.sandbox.start_client(1)
        federation.finished(session)
        assert names(federation.records(session)[1]) == ["client-1", "client-2"]
