"""Trackers of a reducer that is killed have every round in the end, and each of them once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from ports import settled_port
from sdk_clients import PATIENCE, SEED, until

import fedn
from fedn.sandbox.processes import Sandbox

ROUNDS = 9


def in_tensorboard(folder: Path, session: str) -> dict[str, list[int]]:
    """The steps of every scalar, as TensorBoard's own reader finds them."""
    multiplexer = pytest.importorskip("tensorboard.backend.event_processing.event_multiplexer")
    runs = multiplexer.EventMultiplexer().AddRunsFromDirectory(str(folder))
    runs.Reload()
    found = runs.GetAccumulator(session)
    steps = {tag: [one.step for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    return steps if "outcome/text_summary" in found.Tags()["tensors"] else {}


def in_mlflow(folder: Path, session: str) -> dict[str, list[int]]:
    client = pytest.importorskip("mlflow").MlflowClient(tracking_uri=str(folder))
    experiment = client.get_experiment_by_name("fedn").experiment_id
    [run] = client.search_runs([experiment], f"tags.`fedn.session` = '{session}'")
    histories = {tag: client.get_metric_history(run.info.run_id, tag) for tag in run.data.metrics}
    steps = {tag: [point.step for point in history] for tag, history in histories.items()}
    return steps if run.info.status == "FINISHED" else {}


def test_a_killed_reducer_tells_its_trackers_what_they_missed(tmp_path: Path, monkeypatch: Any) -> None:
    for module in ("tensorboardX", "tensorboard", "mlflow"):
        pytest.importorskip(module)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    go_on = threading.Semaphore(0)
    flags = (f"--observers=tensorboard:{tmp_path / 'runs'}", f"--observers=mlflow:{tmp_path / 'ml'}")
    with Sandbox(tmp_path / "network", 1, 0, settled_port()) as sandbox:
        network = until(lambda: fedn.Network(sandbox.url))
        client = fedn.Client(sandbox.url, name="ann", state_dir=tmp_path)

        @client.train
        def train(model: Any, config: Any) -> Any:
            assert go_on.acquire(timeout=PATIENCE)
            return model, 10, {"loss": 1.0}

        client.validate(lambda model: (5, {"accuracy": 0.5}))
        with network, client:
            until(network.clients)
            session = network.start(SEED, rounds=ROUNDS)
            for number in (3, 6):  # at first nobody listens, then they do until they are killed
                go_on.release(3)
                until(lambda last=number: session.round == last)
                sandbox.kill("reducer")
                sandbox.start_reducer(*flags)
            go_on.release(3)
            assert session.wait(progress=False) == "finished"
            validated = [number for number, kinds in session.means().items() if "validate" in kinds]
        for read, folder in ((in_tensorboard, "runs"), (in_mlflow, "ml")):
            steps = until(lambda read=read, folder=folder: read(tmp_path / folder, session.id))
            for name in ("clients", "examples", "loss"):
                assert steps[f"train/{name}"] == [*range(1, ROUNDS + 1)], (folder, name)
            assert sorted(steps["validate/accuracy"]) == validated, folder
            assert "train/train_seconds" not in steps
