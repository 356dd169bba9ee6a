"""Predictions, evaluations and packages through the SDK: asked by a person, done by clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from package_files import write
from sdk_clients import PATIENCE, SEED, adding, until

import fedn
from fedn.domain.errors import InvalidInput, NotFound, Unavailable

PACKAGE = {
    "fedn.yaml": """
name: scaling
entry_points:
  startup: {python: "app:startup"}
  train: {python: "app:train"}
  validate: {python: "app:validate"}
  predict: {python: "app:predict"}
hyperparameters: {step: 1.0}
""",
    "app.py": """
def startup(data):
    return float(open(data).read())

def train(model, scale, config):
    model["w"] += scale * config["step"]
    return model, 10

def validate(model, scale):
    return 4, {"first": float(model["w"][0])}

def predict(model, scale, output):
    (output / "scaled.txt").write_text(str(scale * float(model["w"][0])))
    return 6
""",
}


@pytest.fixture
def predicting(network: fedn.Network, tmp_path: Path) -> Iterator[fedn.Client]:
    """Adds 1 in each round, of 10 examples; predicts 7."""
    client = adding(fedn.Client(network.url, name="ann", state_dir=tmp_path), 1.0, 10)

    @client.predict
    def predict(model: Any, output: Path) -> Any:
        (output / "predicted.json").write_text(json.dumps(model["w"].tolist()))
        return 7, {"mean": float(model["w"].mean())}

    with client:
        network.wait_for(["ann"], PATIENCE)
        yield client


def test_clients_predict_for_a_person_and_keep_what_they_predict(network, predicting, tmp_path):
    session = network.start(SEED, rounds=2, wait=True, progress=False)
    for which, round_, mean in ((None, 2, 2.0), (1, 1, 1.0), ("best", 2, 2.0)):
        answers = session.predict(which)
        assert (answers.kind, answers.session, answers.round) == ("prediction", session.id, round_)
        assert answers.model == session.rounds()[round_]["model"]
        assert dict(answers.clients[predicting.client].metrics) == {"mean": mean}
        assert (answers.examples, answers.failed) == (7, {})
    kept = [json.loads(path.read_text()) for path in tmp_path.rglob("predicted.json")]
    assert sorted(values[0] for values in kept) == [1.0, 2.0]


def test_clients_evaluate_any_model_apart_from_the_rounds(network, two):
    session = network.start(SEED, rounds=1, min_clients=2, wait=True, progress=False)
    stored = session.means()
    elsewhere = network.seed({"w": np.full(4, 5.0), "b": np.ones(2, np.float32)}, progress=False)
    for which, round_, accuracy in ((None, 1, 0.175), (0, 0, 0.0), (elsewhere, 0, 0.5)):
        answers = session.evaluate(which)
        assert (answers.kind, answers.round, answers.examples) == ("evaluation", round_, 40)
        assert answers.metrics["accuracy"] == pytest.approx(accuracy)
        assert answers.clients.keys() == {client.client for client in two}
    assert session.means() == stored
    other = network.seed({"v": np.zeros(3)}, progress=False)
    with pytest.raises(InvalidInput, match="model: has other tensors"):
        session.evaluate(other)
    with pytest.raises(NotFound, match="no round 7"):
        session.evaluate(7)
    for client in two:
        client.stop()
    until(lambda: not network.clients())
    with pytest.raises(Unavailable, match="no client that can take part"):
        session.evaluate()


def test_who_can_not_predict_says_why(network, two):
    session = network.start(SEED, rounds=1, min_clients=2, wait=True, progress=False)
    answers = session.predict()
    assert (answers.clients, answers.metrics, answers.examples) == ({}, {}, 0)
    assert answers.failed.keys() == {client.client for client in two}
    assert all("has no predict()" in reason for reason in answers.failed.values())


def test_what_each_client_did_and_how_long_it_took(network, two):
    session = network.start(SEED, rounds=3, min_clients=2, wait=True, progress=False)
    ann, bob = session.clients()
    assert [one["client"] for one in (ann, bob)] == sorted(client.client for client in two)
    assert [(one["rounds"], one["last_round"], one["examples"]) for one in (ann, bob)] == [
        (3, 3, 30), (3, 3, 90)
    ]  # fmt: skip
    table = [row for row in session._metric_rows() if row["kind"] == "train"]
    for one in (ann, bob):
        measured = [row["metrics"]["train_seconds"] for row in table if row["client"] == one["client"]]
        assert len(measured) == 3
        assert one["train_seconds"] == pytest.approx(sum(measured) / 3)
        assert one["train_seconds"] > 0
    means = session.means()
    assert all(means[number]["train"].keys() == {"loss"} for number in (1, 2, 3))


def test_a_package_is_uploaded_trained_and_asked(network, sandbox, tmp_path):
    data = tmp_path / "scale.txt"
    data.write_text("3.0")
    sandbox.data = (data,)
    sandbox.start_client(0)
    try:
        network.wait_for(1, PATIENCE)
        folder = write(tmp_path / "package", PACKAGE)
        session = network.start(SEED, package=folder, rounds=2, config={"step": 2.0})
        digest = session.info()["plan"]["package"]
        assert digest in {one["digest"] for one in network.packages()}
        assert session.wait(progress=False) == "finished"
        assert session.model()["w"] == pytest.approx([12.0] * 4)
        assert session.evaluate().metrics == {"first": 12.0}
        assert session.predict(1).examples == 6
        [predicted] = sandbox.directory.rglob("scaled.txt")
        assert float(predicted.read_text()) == 18.0
        again = network.start(SEED, package=digest, rounds=1, wait=True, progress=False)
        assert again.model()["w"] == pytest.approx([3.0] * 4)
    finally:
        sandbox.kill("client-1")
