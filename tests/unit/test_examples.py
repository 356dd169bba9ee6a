"""The examples do what their READMEs say: data is made, the app loads, trains and validates."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedn.client.trainer import AppTrainer, load_app
from fedn.domain.ids import ClientId, Digest, SessionId
from fedn.domain.messages import Task, TaskKind

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # restores the path afterwards


def train_once(app: str, options: dict[str, Any], seed: str) -> dict[str, float]:
    trainer = AppTrainer(load_app(app, options), ClientId("me"))
    model = memoryview(Path(seed).read_bytes())
    task = Task(SessionId("s"), 1, TaskKind.TRAIN, Digest("0" * 64), len(model), "{}", 1)
    update = trainer.train(model, task)
    return dict(trainer.validate(memoryview(update.file), task)[1])


def test_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make_data.py", "2"])
    runpy.run_path(str(EXAMPLES / "digits" / "make_data.py"), run_name="__main__")
    settings = yaml.safe_load(Path("data/settings-client-1.yaml").read_text())
    assert settings["app"] == "app:Digits"
    app = f"{EXAMPLES / 'digits' / 'app.py'}:Digits"
    metrics = train_once(app, settings["app_options"], "data/seed.safetensors")
    assert metrics["accuracy"] > 0.5


def test_numpy() -> None:
    runpy.run_path(str(EXAMPLES / "numpy" / "app.py"), run_name="__main__")
    metrics = train_once(f"{EXAMPLES / 'numpy' / 'app.py'}:Regression", {"index": 1}, "seed.safetensors")
    assert metrics["rmse"] < 1.0
