"""The SDK against a reducer and combiners in processes of their own: clients, people, `fedn.fit`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from package_files import write
from ports import settled_port

import fedn
from fedn.domain.errors import (
    Conflict,
    FednError,
    InvalidConfig,
    InvalidInput,
    InvalidModel,
    NotFound,
    Unavailable,
)
from fedn.helpers.files import seed_file
from fedn.sandbox.processes import Sandbox
from fedn.sdk.events import Update, Version
from fedn.sdk.fit import Round
from fedn.sdk.session import Session

PATIENCE = 60.0
SEED = {"w": np.zeros(4), "b": np.ones(2, np.float32)}


def until(ready: Callable[[], Any]) -> Any:
    """Wait for ``ready`` to be true; a bound on patience, not a measurement."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if result := ready():
                return result
        except Unavailable:
            pass
        time.sleep(0.02)
    raise AssertionError("waited in vain")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("network"), 2, 0, settled_port()) as running:
        with fedn.Network(running.url) as network:
            until(lambda: sum(one["live"] for one in network.status()["combiners"]) == 2)
        yield running


@pytest.fixture
def network(sandbox: Sandbox) -> Iterator[fedn.Network]:
    """Nobody is attached but who the test brings."""
    with fedn.Network(sandbox.url) as network:
        until(lambda: not network.clients())
        yield network


def adding(client: fedn.Client, number: float, examples: int) -> fedn.Client:
    """It adds ``number`` to every element."""

    @client.train
    def train(model: Any, config: Any) -> Any:
        return {name: value + number for name, value in model.items()}, examples, {"loss": 1 / number}

    @client.validate
    def validate(model: Any) -> Any:
        return examples, {"accuracy": float(model["w"][0]) / 10}

    return client


@pytest.fixture
def two(network: fedn.Network, tmp_path: Path) -> Iterator[list[fedn.Client]]:
    """Clients that add 1, of 10 examples, and 2, of 30: together 1.75 a round."""
    clients = [
        adding(fedn.Client(network.url, name=name, state_dir=tmp_path), number, examples)
        for name, number, examples in (("ann", 1.0, 10), ("bob", 2.0, 30))
    ]
    with clients[0], clients[1]:
        network.wait_for(["ann", "bob"], PATIENCE)
        yield clients


# --- a client --------------------------------------------------------------------------------------


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


# --- a network's people ----------------------------------------------------------------------------


def test_a_session_is_watched_and_its_story_read(network, two, capsys):
    session = network.start(SEED, rounds=3, min_clients=2, name="mine")
    versions: list[Version] = []
    updates: list[Update] = []
    session.on_new_version(versions.append)
    session.on_update(updates.append)
    facts = list(session.watch())
    assert [one.fields["round"] for one in facts if one.event == "round_committed"] == [1, 2, 3]
    assert facts[-1].event == "session_ended"
    assert "Session finished after round 3" in capsys.readouterr().out
    assert (session.state, session.round) == ("finished", 3)
    assert [one.round for one in versions] == [1, 2, 3]
    assert versions[1].tensors()["w"] == pytest.approx([3.5] * 4)
    assert sorted((one.round, one.examples, one.state) for one in updates) == [
        (number, examples, "counted") for number in (1, 2, 3) for examples in (10, 30)
    ]
    assert [one["round"] for one in session.rounds()] == [0, 1, 2, 3]
    assert [one["record"]["round"] for one in session.trail()] == [0, 1, 2, 3]
    assert session.verify()["ok"]
    assert session.means()[2]["train"]["loss"] == pytest.approx((10 * 1.0 + 30 * 0.5) / 40)
    assert session.best()["round"] == 3
    assert network.session("mine").id == network.session(session.id[-6:]).id == session.id
    assert network.sessions()[0]["session"] == session.id


def test_metrics_are_a_tidy_table(network, two):
    pandas = pytest.importorskip("pandas")
    session = network.start(SEED, rounds=2, min_clients=2, wait=True, progress=False)
    table = session.metrics()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["round", "kind", "client", "examples", "metric", "value"]
    ids = {client.client for client in two}
    trained = table[(table.kind == "train") & (table["round"] == 2)]
    assert set(trained.client) == ids
    assert sorted(zip(trained.examples, trained.metric, trained.value, strict=True)) == [
        (10, "loss", 1.0), (30, "loss", 0.5)
    ]  # fmt: skip
    accuracy = table[table.metric == "accuracy"].groupby(["kind", "round"]).value.mean()
    assert accuracy["validate", 2] == pytest.approx(0.35)


def test_models_are_downloaded_checked_and_loaded(network, two, tmp_path):
    session = network.start(SEED, rounds=2, min_clients=2, wait=True, progress=False)
    for which, expected in ((None, 3.5), (0, 0.0), (1, 1.75), ("best", 3.5)):
        model = session.model(which)
        assert model["w"] == pytest.approx([expected] * 4)
        assert model["b"].dtype == np.float32
    path = session.download(tmp_path / "model.safetensors", round=1)
    assert path.read_bytes() == seed_file(session.model(1))
    mine = {"w": np.zeros(4), "b": np.zeros(2, np.float32)}
    assert session.load_into(mine) is mine
    assert mine["w"][0] == 3.5
    with pytest.raises(NotFound):
        session.model(7)
    torch = pytest.importorskip("torch")
    with pytest.raises(InvalidModel):
        session.load_into(torch.nn.Linear(2, 2))


def test_a_session_is_paused_resumed_and_stopped(network, tmp_path):
    client = fedn.Client(network.url, name="ann", state_dir=tmp_path)
    working, go_on = threading.Event(), threading.Semaphore(0)

    @client.train
    def train(model: Any, config: Any) -> Any:
        working.set()
        assert go_on.acquire(timeout=PATIENCE)
        return model, 1

    client.check(lambda model: None)
    with client:
        session = network.start(SEED, rounds=1000, validate=False)
        assert working.wait(PATIENCE)
        session.pause()
        assert session.state == "paused"
        go_on.release()
        until(lambda: session.round == 1)
        session.resume()
        go_on.release(5)
        until(lambda: session.round == 6)
        session.stop()
        go_on.release(100)
        assert session.state == "cancelled"
        assert session.wait(progress=False) == "cancelled"


def test_seeds_and_packages(network, tmp_path):
    digest = network.seed(SEED, name="zeros", progress=False)
    file = tmp_path / "zeros.safetensors"
    file.write_bytes(seed_file(SEED))
    assert network.seed(file, progress=False) == network.seed(lambda: SEED, progress=False) == digest
    listed = next(one for one in network.models() if one["digest"] == digest)
    assert listed["size"] == file.stat().st_size
    with pytest.raises(InvalidModel, match="NaN"):
        network.seed({"w": np.array([np.nan])}, progress=False)
    file.write_bytes(b"no model at all")
    with pytest.raises(InvalidModel, match=re.escape(str(file))):
        network.seed(file, progress=False)
    package = network.upload_package(write(tmp_path / "package"), progress=False)
    assert package in {one["digest"] for one in network.packages()}
    with pytest.raises(InvalidInput, match="rounds: 0"):
        network.start(object(), rounds=0)


def test_who_is_waited_for_in_vain_is_named(network, two):
    network.wait_for(2)
    with pytest.raises(Unavailable, match="1 of 3 clients"):
        network.wait_for(3, seconds=0)
    with pytest.raises(Unavailable, match=r"not attached to .*: cat, dan"):
        network.wait_for(["ann", "dan", "cat"], seconds=0)


def test_an_address_comes_from_the_environment_and_nobody_there_is_said(monkeypatch, sandbox):
    monkeypatch.setenv("FEDN_URL", sandbox.url)
    with fedn.Network() as network:
        assert network.status()["reducer"]["ready"]
    monkeypatch.setenv("FEDN_URL", "http://127.0.0.1:9")
    with fedn.Network() as nobody, pytest.raises(Unavailable, match="give its address with url or FEDN_URL"):
        nobody.status()
    with pytest.raises(InvalidInput, match="url: 'nonsense' is not an address"):
        fedn.Network("nonsense")


# --- fit -------------------------------------------------------------------------------------------


def linear(number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(number)
    x = random.normal(size=(size, 3))
    return x, x @ [1.0, -2.0, 3.0] + random.normal(size=size)


OWNERS = {"ann": linear(1, 100), "bob": linear(2, 40), "cat": linear(3, 10)}


def descend(model: Any, data: Any, config: Any) -> Any:
    """Stochastic: what is drawn depends on the seed that an owner is given."""
    x, y = data
    random = np.random.default_rng(config["seed"])
    for _ in range(config["epochs"]):
        some = random.choice(len(x), min(len(x), config["batch_size"]), replace=False)
        model["w"] -= 0.1 * x[some].T @ (x[some] @ model["w"] - y[some]) / len(some)
    return model, len(x), {"loss": float(np.mean((x @ model["w"] - y) ** 2))}


def fitted(**where: Any) -> tuple[Any, list[Round]]:
    history: list[Round] = []
    model = fedn.fit(
        {"w": np.zeros(3)}, OWNERS, rounds=4, train=descend, epochs=3, batch_size=5, seed=3,
        validate=lambda model, data: (len(data[0]), {"size": float(np.abs(model["w"]).sum())}),
        evaluate=lambda model: {"first": float(model["w"][0])}, callback=history.append, progress=False,
        **where,
    )  # fmt: skip
    return model["w"], history


def assert_same(there: Any, here: Any) -> None:
    assert there[0] == pytest.approx(here[0], abs=1e-9)
    for one, other in zip(there[1], here[1], strict=True):
        assert (one.round, one.clients, one.examples, one.missing) == (
            other.round, other.clients, other.examples, other.missing
        )  # fmt: skip
        for kind in ("train", "validate", "evaluate"):
            assert getattr(one, kind) == pytest.approx(getattr(other, kind), abs=1e-9)


def test_the_same_call_fits_on_a_network_and_its_clients_leave(network, tmp_path):
    there = fitted(network=network, state_dir=tmp_path)
    assert_same(there, fitted())
    until(lambda: not network.clients())
    (kept,) = network.sessions()[:1]
    assert (kept["name"], kept["state"]) == ("fedn.fit", "finished")
    assert fitted(network=network.url, state_dir=tmp_path)[0] == pytest.approx(there[0], abs=1e-9)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OWNERS)


def test_a_secured_network_lets_the_owners_of_an_admin_in_and_no_token_is_shown(tmp_path):
    with Sandbox(tmp_path / "network", 1, 0, settled_port(), tls=True) as running:
        token = running.token
        network = until(lambda: fedn.Network(running.url, token_file=running.secured.token_file))
        with network:
            until(lambda: any(one["live"] for one in network.status()["combiners"]))
            there = fitted(network=network, state_dir=tmp_path / "owners")
            again = fitted(network=network, state_dir=tmp_path / "owners")
            assert_same(there, again)
            members = network._reducer.get("/members")["members"]
            assert len([one for one in members if one["role"] == "client"]) == len(OWNERS)
            client = fedn.Client(running.url, name="dan", join=network.join_token("dan"))
        shown = repr(network) + repr(client) + str(vars(client)) + str(vars(network))
        secret = token.rpartition(".")[2]
        assert secret not in shown
        assert secret not in (tmp_path / "network" / "logs" / "reducer.log").read_text()
        with pytest.raises(FednError, match="give your token's file with token_file or FEDN_TOKEN_FILE"):
            fedn.Network(running.url)
        with pytest.raises(InvalidInput, match="token: is not a token") as refused:
            fedn.Network(running.url, token=token + "x")
        assert secret not in str(refused.value)


def test_clients_that_are_attached_already_fit_by_their_names(network, two):
    model = fedn.fit(SEED, ["ann", "bob"], rounds=2, network=network, progress=False)
    assert model["w"] == pytest.approx([3.5] * 4)
    assert {one["name"] for one in network.clients()} == {"ann", "bob"}


def test_who_fails_on_a_network_ends_it_and_stops_the_session(network, tmp_path):
    def failing(model: Any, data: Any, config: Any) -> Any:
        if len(data[0]) == 40:
            raise ValueError("the scanner is on fire")
        return descend(model, data, config)

    with pytest.raises(FednError, match=r"bob can't go on: .*ValueError") as failed:
        fedn.fit(
            {"w": np.zeros(3)}, OWNERS, train=failing, network=network, state_dir=tmp_path, progress=False
        )
    assert str(failed.value.__cause__) == "the scanner is on fire"
    stopped = network.sessions()[0]
    assert stopped["state"] == "cancelled"
    assert "on fire" not in str(network.session(stopped["session"]).info())  # what an error says stays here
    until(lambda: not network.clients())


def test_sessions_are_plain_objects(network, two):
    session = network.start(SEED, rounds=1, min_clients=2)
    assert isinstance(session, Session)
    assert repr(session) == f"<fedn session {session.id} at {network.url}>"
    assert session.wait(progress=False) == "finished"
