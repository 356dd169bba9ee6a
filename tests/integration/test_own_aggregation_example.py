"""examples/own-aggregation, installed as its README says, keeps its contracts and trains on both tiers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import federations
import numpy as np
import pytest
from federations import Running, running
from safetensors.numpy import load

EXAMPLE = Path(__file__).parents[2] / "examples" / "own-aggregation"
APP = """
class App:
    def __init__(self, index):
        self.index = index

    def train(self, model, config):
        move = (1 + self.index) * config["round"]
        return {name: value + move for name, value in model.items()}, [100, 400, 100_000][self.index]

    def validate(self, model):
        return {}


def app(index, clients):
    return App(index)
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the example is installed; every process that this test starts finds it."""
    where = tmp_path / "site"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--no-compile"]
    run("pip", "--disable-pip-version-check", *install, f"--target={where}", str(EXAMPLE))
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(where), *inherited]))
    return where


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_keeps_its_contracts(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    told = run("pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "test_own_aggregation.py"))
    assert "passed" in told
    assert "skipped" not in told  # its parts merge
    listed = run("fedn", "plugins")
    assert "own_aggregation:Capped" in listed
    assert "own_aggregation:Steady" in listed


def test_it_trains_on_both_tiers(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mover.py").write_text(APP)
    monkeypatch.setattr(federations, "APP", f"{tmp_path / 'mover.py'}:app")
    with running(tmp_path, monkeypatch, combiners=2, clients=3) as federation:
        for index in range(3):
            federation.sandbox.start_client(index, f"--combiner=combiner-{1 + index % 2}")
        federation.attached(3)
        session = federation.start(
            rounds=3, min_clients=3, aggregator="capped", server_optimizer="steady", server_momentum=0.9
        )
        federation.finished(session)
        records = federation.records(session)[1:]
        assert [len(record["parts"]) for record in records] == [2] * 3
        for record, wanted in zip(records, course(3), strict=True):
            np.testing.assert_allclose(model(federation, record)["w"], wanted, rtol=1e-12)
        assert federation.reducer.get(f"/sessions/{session}/trail/verify")["ok"]


def course(rounds: int) -> list[float]:
    """By hand: the third client counts for 1,000 examples, and the mean's step is smoothed."""
    x, m, models = 0.0, 0.0, []
    for number in range(1, rounds + 1):
        move = number * (100 * 1 + 400 * 2 + 1000 * 3) / 1500
        m = 0.9 * m + 0.1 * move
        x += m / (1 - 0.9**number)
        models.append(x)
    return models


def model(federation: Running, record: Any) -> dict[str, Any]:
    with federation.reducer.stream(f"/models/{record['model']}", {}) as answer:
        return load(answer.read())
