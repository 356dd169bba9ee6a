"""`fedn.Client` at a reducer and combiners in processes of their own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from sdk_clients import PATIENCE, SEED, adding, until

import fedn
from fedn.domain.errors import Conflict, InvalidConfig, InvalidInput
from fedn.sdk.events import Update, Version


def test_a_client_of_functions_trains_validates_and_is_told_of_everything(network, tmp_path):
    client = adding(fedn.Client(network.url, name="ann", state_dir=tmp_path), 1.0, 10)
    updates: list[Update] = []
    versions: list[tuple[Version, float]] = []
    settled = threading.Event()

    @client.on_update
    def update(told: Update) -> None:
        updates.append(told)
        if told.state != "made" and told.round == 3:
            settled.set()

    @client.on_new_version
    def version(told: Version) -> None:
        versions.append((told, float(told.tensors()["w"][0])))

    with client:
        network.wait_for(1, PATIENCE)
        assert client.combiner
        (there,) = network.clients()
        assert (there["client"], there["name"]) == (client.client, "ann")
        session = network.start(SEED, rounds=3, wait=True, progress=False)
        assert settled.wait(PATIENCE)
        mine = client.client
    assert session.state == "finished"
    assert session.model()["w"] == pytest.approx([3.0] * 4)
    assert (client.combiner, client.client) == ("", "")
    made = [one for one in updates if one.state == "made"]
    assert [(one.session, one.round, one.client, one.examples) for one in made] == [
        (session.id, number, mine, 10) for number in (1, 2, 3)
    ]
    assert [one.round for one in updates if one.state == "counted"] == [1, 2, 3]
    numbers = [told.round for told, _ in versions]
    assert numbers == sorted(set(numbers))
    assert all(value == told.round for told, value in versions)
    assert {told.round: told.digest for told, _ in versions}.items() <= {
        one["round"]: one["model"] for one in session.rounds()
    }.items()


def test_with_the_same_name_it_is_the_same_client(network, tmp_path):
    client = adding(fedn.Client(network.url, name="ann", state_dir=tmp_path), 1.0, 10)
    ids = []
    for _ in range(2):
        with client:
            ids.append(client.client)
            with pytest.raises(Conflict, match="another client uses"):
                adding(fedn.Client(network.url, name="ann", state_dir=tmp_path), 1.0, 10).start()
            with pytest.raises(Conflict, match="runs already"):
                client.start()
            network.wait_for([client.client], PATIENCE)
    assert ids[0] == ids[1]
    assert re.fullmatch("ann-[0-9a-f]{8}", ids[0])
    client.stop()  # again: nothing


def test_each_training_starts_from_the_last_model_that_was_committed(network, tmp_path, two):
    """T6: what was trained here is not what is trained on."""
    given: dict[int, Any] = {}
    third = fedn.Client(network.url, name="cat", state_dir=tmp_path)

    @third.train
    def train(model: Any, config: Any) -> Any:
        given[config["round"]] = {name: value.copy() for name, value in model.items()}
        model["w"] += 100.0
        return model, 1

    third.check(lambda model: None)
    with third:
        network.wait_for(3, PATIENCE)
        session = network.start(SEED, rounds=3, min_clients=3, validate=False, wait=True, progress=False)
    for number in (1, 2, 3):
        expected = session.model(number - 1)
        assert all(np.array_equal(given[number][name], expected[name]) for name in SEED)


def test_an_update_takes_its_examples_and_what_is_too_few_is_declined(network, tmp_path, two):
    client = fedn.Client(network.url, name="cat", state_dir=tmp_path, examples_per_update=50)
    taken: list[Any] = []
    heard: list[Update] = []
    client.on_update(heard.append)
    client.check(lambda model: None)

    @client.train
    def train(model: Any, examples: Any, config: Any) -> Any:
        x, y = examples
        assert x.shape == (50, 3)
        taken.extend(y.tolist())
        return model, len(x)

    def more(first: int, count: int) -> int:
        return client.add_examples(np.zeros((count, 3)), np.arange(first, first + count))

    assert more(0, 12) == 12
    plan = {"min_clients": 2, "validate": False, "wait": True, "progress": False}
    with client:
        network.wait_for(3, PATIENCE)
        session = network.start(SEED, rounds=1, **plan)
        (refused,) = session.rounds()[1]["refused"]
        assert refused["client"] == client.client
        assert "not enough new examples: 12 of 50" in refused["reason"]
        assert (taken, client.waiting_examples) == ([], 12)
        more(12, 100)
        session = network.start(SEED, rounds=3, **plan)
        assert [one["contributors"] for one in session.rounds()] == [0, 3, 3, 2]
        assert taken == list(range(100))
        assert client.waiting_examples == 12
    assert [(one.state, one.round) for one in heard if one.state in ("made", "failed")] == [
        ("failed", 1), ("made", 1), ("made", 2), ("failed", 3)
    ]  # fmt: skip


def test_a_round_of_one_client_goes_on_when_its_examples_have_come(network, tmp_path):
    client = fedn.Client(
        network.url, name="ann", state_dir=tmp_path, examples_per_update=10, wait_for_examples=PATIENCE
    )
    client.train(lambda model, examples, config: (model, len(examples[0])))
    client.check(lambda model: None)
    with client:
        session = network.start(SEED, rounds=2, validate=False)
        until(lambda: session.info()["progress"].get("expected") == 1)
        client.add_examples(np.zeros((15, 3)))
        until(lambda: session.round == 1)
        client.add_examples(np.zeros((5, 3)))
        assert session.wait(progress=False) == "finished"
    assert client.waiting_examples == 0


def test_noise_is_added_to_what_leaves_and_to_nothing_else(network, tmp_path):
    client = fedn.Client(network.url, name="ann", state_dir=tmp_path, noise=0.5)
    seed = {"w": np.zeros(20_000), "n": np.arange(5)}

    @client.train
    def train(model: Any, config: Any) -> Any:
        return {"w": model["w"] + 1.0, "n": model["n"]}, 1

    client.check(lambda model: None)
    with client:
        session = network.start(seed, rounds=1, seed=7, validate=False, wait=True, progress=False)
        again = network.start(seed, rounds=1, seed=7, validate=False, wait=True, progress=False)
    model, other = session.model(), again.model()
    assert abs(model["w"].mean() - 1.0) < 0.05
    assert abs(model["w"].std() - 0.5) < 0.05
    assert np.array_equal(model["n"], seed["n"])
    assert not (model["w"] == other["w"]).any()


def test_a_framework_model_needs_its_build(network, tmp_path):
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, y = np.eye(3), np.array([0, 1, 2])
    client = fedn.Client(network.url, name="ann", state_dir=tmp_path, helper="sklearn",
                         hyperparameters={"steps": 2})  # fmt: skip

    @client.build
    def build() -> Any:
        return linear_model.SGDClassifier(loss="log_loss", random_state=1)

    @client.train
    def train(model: Any, config: Any) -> Any:
        for _ in range(config["steps"]):
            model.partial_fit(x, y)
        return model, len(x)

    @client.validate
    def validate(model: Any) -> Any:
        return len(x), {"accuracy": model.score(x, y)}

    with client:
        seed = build().partial_fit(x, y, classes=y)
        session = network.start(seed, rounds=2, config={"steps": 9}, wait=True, progress=False)
        assert session.load_into(build()).score(x, y) == 1.0
        refusing = network.start(seed, rounds=1, config={"fish": 1})
        until(lambda: "fish" in refusing.info()["progress"].get("reason", ""))
        refusing.stop()


def test_ctrl_c_ends_run_in_order(network, tmp_path):
    script = f"""
import fedn, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
client = fedn.Client({network.url!r}, name="ann", state_dir={str(tmp_path)!r})
client.train(lambda model, config: (model, 1))
client.run()
print("done")
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            network.wait_for(1, PATIENCE)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, out, "Traceback" in err) == (0, "done\n", False), err
    until(lambda: not network.clients())


def test_what_is_wrong_with_a_client_is_named(network, tmp_path):
    with pytest.raises(InvalidInput, match=r"client: has no train\(\)"):
        fedn.Client(network.url).start()
    with pytest.raises(InvalidInput, match=r"helper.*'fish'"):
        adding(fedn.Client(network.url, helper="fish", state_dir=tmp_path), 1.0, 1).start()
    with pytest.raises(InvalidConfig, match="fish: is no setting"):
        fedn.Client(network.url, fish=1)
    with pytest.raises(InvalidConfig, match="data: is not for a client made of functions"):
        fedn.Client(network.url, data="x")
    with pytest.raises(InvalidConfig, match="cpus: is for a process that is the client's own"):
        fedn.Client(network.url, cpus=1)
    with pytest.raises(InvalidInput, match="noise: -1 is out of bounds"):
        fedn.Client(network.url, noise=-1)
    with pytest.raises(InvalidInput, match="examples: are not kept"):
        fedn.Client(network.url).add_examples(np.zeros(3))
    with pytest.raises(InvalidConfig, match="plain HTTP"):
        fedn.Client("http://reducer.example.org:8090")
