"""A session exported by the real libraries, and read back by their own readers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.domain.errors import InvalidInput
from fedn.observers.mlflow import MLflow
from fedn.observers.tensorboard import TensorBoard
from fedn.ports import Observed
from fedn.reducer.observing import Background, Everybody
from fedn.testing.federation import Federation

SESSION = "s-20261121-120000-abc123"
PLAN = {"rounds": 3, "stop_metric": "accuracy", "config": {"lr": {"1": 0.1, "9": 0.01}, "no/../te": "x"}}
MODEL = "ab" * 32
BEGUN = {"session": SESSION, "name": "digits", "round": 0, "rounds": 3, "model": "cd" * 32, "plan": PLAN}


def story(*rounds: int) -> list[Observed]:
    """What a reducer says of rounds of two clients, whose accuracy after round n is n / 10."""
    told = []
    for n in rounds:
        means = {"clients": 2, "examples": 30, "metrics": {"loss": 1.0 / n, "../x": 2.0}}
        told += [
            Observed("round_committed", {"session": SESSION, "round": n, "model": MODEL, "train": means}),
            Observed("round_validated", {"session": SESSION, "round": n, "clients": 2, "examples": 8,
                                         "metrics": {"accuracy": n / 10}}),
            Observed("best_model", {"session": SESSION, "round": n, "metric": "accuracy", "value": n / 10,
                                    "model": MODEL}),
        ]  # fmt: skip
    return told


WHOLE = [
    Observed("session_started", BEGUN),
    *story(1, 2),
    Observed("session_recovered", BEGUN | {"round": 2}),
    *story(3),
    Observed("session_finished", {"session": SESSION, "reason": "stopped early"}),
    *story(4)[1:2],
]


class App:
    def train(self, model: Any, config: Any) -> Any:
        return {name: value + 1 for name, value in model.items()}, 10, {"loss": 1.0 / config["round"]}

    def check(self, model: Any) -> None:
        """All is well."""

    def validate(self, model: Any) -> Any:
        return 5, {"accuracy": float(model["w"][0]) / 10}


async def trained(directory: Path, *exporters: Any) -> str:
    """A real session of three rounds, told to exporters as a reducer does."""
    behind = [Background(type(exporter).__name__, exporter) for exporter in exporters]
    federation = Federation(directory)
    federation._observer = Everybody(federation.story, *behind)
    async with federation:
        await federation.add_combiner("one")
        for name in ("ann", "bob"):
            await federation.add_client(name, App())
        await federation.story.until("network_changed", clients=2)
        info = await federation.start_session({"w": np.zeros(2)}, rounds=3, min_clients=2, config={"lr": 0.5})
        await federation.story.until("session_finished")
    for one in behind:
        one.close(30.0)
    return info.session


# --- TensorBoard -----------------------------------------------------------------------------------


@pytest.fixture
def scalars():
    """Reads a folder as TensorBoard does: (step, value) by tag, and texts by tag."""
    pytest.importorskip("tensorboardX", reason="the extra 'tensorboard' is not installed")
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed, which reads what was written",
    )
    multiplexer = pytest.importorskip("tensorboard.backend.event_processing.event_multiplexer")

    def read(root: Path, session: str) -> tuple[dict[str, list], dict[str, list[str]]]:
        runs = multiplexer.EventMultiplexer().AddRunsFromDirectory(str(root))
        runs.Reload()
        found = runs.GetAccumulator(session)
        assert isinstance(found, accumulator.EventAccumulator)
        values = {tag: [(e.step, round(e.value, 4)) for e in found.Scalars(tag)]
                  for tag in found.Tags()["scalars"]}  # fmt: skip
        texts = {tag: [e.tensor_proto.string_val[0].decode() for e in found.Tensors(tag)]
                 for tag in found.Tags()["tensors"]}  # fmt: skip
        return values, texts

    return read


def test_tensorboard_reads_every_round_of_a_session_that_a_restart_interrupted(tmp_path, scalars) -> None:
    first = TensorBoard(str(tmp_path / "runs"))
    for observed in WHOLE[:7]:
        first.observe(observed)
    second = TensorBoard(str(tmp_path / "runs"))
    for observed in WHOLE[7:]:
        second.observe(observed)
    values, texts = scalars(tmp_path / "runs", SESSION)  # the first process was killed: nobody has closed
    first.close()
    second.close()
    assert values["validate/accuracy"] == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert values["train/loss"] == [(1, 1.0), (2, 0.5), (3, 0.3333)]
    assert values["train/clients"] == [(1, 2.0), (2, 2.0), (3, 2.0)]
    assert 'config.lr: {"1": 0.1, "9": 0.01}' in texts["plan/text_summary"][0]
    assert texts["best/text_summary"][-1] == f"round 3, accuracy 0.3, model {MODEL}"
    assert texts["outcome/text_summary"] == ["finished stopped early"]


async def test_a_real_session_is_read_by_tensorboard(tmp_path, scalars) -> None:
    session = await trained(tmp_path / "network", TensorBoard(str(tmp_path / "runs")))
    values, _ = scalars(tmp_path / "runs", session)
    assert values["validate/accuracy"] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert values["train/loss"] == [(1, 1.0), (2, 0.5), (3, 0.3333)]
    assert values["train/examples"] == [(1, 20.0), (2, 20.0), (3, 20.0)]


# --- MLflow ----------------------------------------------------------------------------------------


@pytest.fixture
def mlflow(monkeypatch):
    """The library; what the observer tells it by its environment is taken back."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "true")
    return pytest.importorskip("mlflow", reason="the extra 'mlflow' is not installed")


def run_of(mlflow: Any, location: str, session: str) -> tuple[Any, Any]:
    client = mlflow.MlflowClient(tracking_uri=location)
    experiment = client.get_experiment_by_name("fedn").experiment_id
    [run] = client.search_runs([experiment], f"tags.`fedn.session` = '{session}'")
    return client, run


def test_mlflow_has_one_run_of_a_session_that_a_restart_interrupted(tmp_path, mlflow) -> None:
    location = f"file://{tmp_path}/ml"
    first, second = MLflow(location), MLflow(location)
    for observed in WHOLE[:7]:
        first.observe(observed)
    for observed in WHOLE[7:]:
        second.observe(observed)
    client, run = run_of(mlflow, location, SESSION)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "digits"
    assert run.data.params["rounds"] == "3"
    assert run.data.params["config.lr"] == '{"1": 0.1, "9": 0.01}'
    assert run.data.params["config.no_.._te"] == "x"
    history = client.get_metric_history(run.info.run_id, "validate/accuracy")
    assert [(point.step, point.value) for point in history] == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert run.data.metrics["train/loss"] == pytest.approx(1 / 3)
    assert run.data.metrics["train/_x"] == 2.0
    tags = run.data.tags
    assert (tags["fedn.best_model"], tags["fedn.best_round"], tags["fedn.best_value"]) == (MODEL, "3", "0.3")
    assert (tags["fedn.model"], tags["fedn.reason"]) == (MODEL, "stopped early")


async def test_a_real_session_is_read_by_mlflow(tmp_path, mlflow) -> None:
    location = str(tmp_path / "ml")
    session = await trained(tmp_path / "network", MLflow(location))
    client, run = run_of(mlflow, location, session)
    history = client.get_metric_history(run.info.run_id, "validate/accuracy")
    assert [(point.step, point.value) for point in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert run.data.params["config.lr"] == "0.5"
    assert run.data.tags["fedn.best_round"] == "3"
    assert run.info.status == "FINISHED"


# --- without them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "modules", "extra"),
    [
        (TensorBoard, ["tensorboardX", "tensorboardX.event_file_writer"], "tensorboard"),
        (MLflow, ["mlflow", "mlflow.entities"], "mlflow"),
    ],
)
def test_a_missing_library_names_the_extra(tmp_path, monkeypatch, kind, modules, extra) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidInput, match=rf"pip install '\.\[{extra}\]'"):
        kind(str(tmp_path))
