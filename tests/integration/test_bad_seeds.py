"""Bad seed models against a real reducer: named, explained, nothing kept; and a session without any seed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from federations import Running, running

from fedn.domain.errors import InvalidModel, NotFound
from fedn.helpers.files import seed_file

GOOD = seed_file({"w": np.zeros(8), "b": np.ones(2, dtype=np.float32)})
BAD = {
    "text": (b"this is not a model, whatever its name says", "header"),
    "truncated": (GOOD[:-3], "is truncated"),
    "nan": (seed_file({"w": np.array([0.0, np.nan])}), "tensor 'w': holds NaN"),
    "infinite": (seed_file({"b": np.array([np.inf], dtype=np.float32)}), "tensor 'b': holds NaN, infinity"),
    "whole numbers": (seed_file({"n": np.arange(3)}), "no floating-point tensor"),
}


def blobs(federation: Running) -> list[str]:
    models = federation.sandbox.directory / "reducer" / "models"
    return sorted(path.name for path in models.rglob("*") if path.is_file())


def fedn(federation: Running, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedn", *words, "--reducer", federation.sandbox.url]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_bad_seeds_are_refused_by_name_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path / "home", monkeypatch, combiners=0, clients=0) as federation:
        with pytest.raises(NotFound, match=r"no seed model yet; add one with `fedn model seed FILE`"):
            federation.reducer.post("/sessions", {"name": "seedless", "plan": {}})
        for content, words in BAD.values():
            with pytest.raises(InvalidModel, match=words):
                federation.reducer.upload("/models", iter([content]), len(content), name="bad")
            assert blobs(federation) == []
            assert federation.reducer.get("/models")["models"] == []

        file = tmp_path / "nan.safetensors"
        file.write_bytes(BAD["nan"][0])
        done = fedn(federation, "model", "seed", str(file))
        assert done.returncode == 2
        assert "holds NaN" in done.stderr

        file.write_bytes(GOOD)
        once, again = (fedn(federation, "model", "seed", str(file)) for _ in range(2))
        assert once.returncode == again.returncode == 0
        assert ("there already" in once.stderr, "there already" in again.stderr) == (False, True)
        twice = json.loads(fedn(federation, "model", "seed", str(file), "--json").stdout)
        assert twice["known"] is True
        digest = twice["digest"]
        assert blobs(federation) == [digest]

        session = federation.reducer.post("/sessions", {"name": "waits", "plan": {"rounds": 1}})["session"]
        assert federation.session(session)["progress"]["reason"] == "waiting for clients: 0 of 1 are ready"
        stopped = fedn(federation, "session", "stop", session, "--json")
        assert json.loads(stopped.stdout)["state"] == "cancelled"
