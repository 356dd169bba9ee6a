"""`fedn.Network` and its sessions, at a reducer and combiners in processes of their own."""

from __future__ import annotations

import re
import threading
from typing import Any

import numpy as np
import pytest
from package_files import write
from sdk_clients import PATIENCE, SEED, until

import fedn
from fedn.domain.errors import InvalidInput, InvalidModel, NotFound, Unavailable
from fedn.helpers.files import seed_file
from fedn.sdk.events import Update, Version
from fedn.sdk.session import Session


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
    losses = trained[trained.metric == "loss"]
    assert sorted(zip(losses.examples, losses.value, strict=True)) == [(10, 1.0), (30, 0.5)]
    assert set(trained.metric) == {"loss", "train_seconds"}
    accuracy = table[table.metric == "accuracy"].groupby(["kind", "round"]).value.mean()
    assert accuracy["validate", 2] == pytest.approx(0.35)
    timings = session.timings()
    assert list(timings.columns) == ["round", "client", "waiting", "training", "queued", "uploading"]
    assert sorted(zip(timings["round"], timings.client, strict=True)) == [
        (n, c) for n in (1, 2) for c in sorted(ids)
    ]
    assert (timings.training > 0).all()
    assert set(table.kind) == {"check", "train", "validate"}


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
    with pytest.raises(InvalidModel, match="model: lacks b and has weights, which the weights have not"):
        session.load_into({"w": np.zeros(4), "weights": np.zeros(4)})
    assert session.load_into({}).keys() == {"w", "b"}
    digest = session.rounds()[1]["model"]
    assert session.model(digest)["w"] == pytest.approx([1.75] * 4)
    for ask in (session.model, session.evaluate, lambda which: session.download(tmp_path / "none", which)):
        with pytest.raises(InvalidInput, match="'bset' is neither a round, 'best' nor a digest"):
            ask("bset")
    with pytest.raises(NotFound):
        session.model(7)
    torch = pytest.importorskip("torch")
    with pytest.raises(InvalidModel):
        session.load_into(torch.nn.Linear(2, 2))


def test_a_session_is_paused_resumed_waited_for_and_stopped(network, tmp_path):
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
        with pytest.raises(Unavailable, match=r"has not ended after 0 s: it is paused, round 0 of 1000"):
            session.wait(0, progress=False)
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


def test_sessions_are_plain_objects(network, two):
    session = network.start(SEED, rounds=1, min_clients=2)
    assert isinstance(session, Session)
    assert repr(session) == f"<fedn session {session.id} at {network.url}>"
    assert session.wait(progress=False) == "finished"
