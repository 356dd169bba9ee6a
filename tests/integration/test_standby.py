"""Two reducers, real processes, on one state store: one leads, the other takes over."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from federations import PATIENCE, Running, names
from mongod import MongoSet, replica_set, until
from ports import settled_port

from fedn.cli.rest_client import Reducer
from fedn.domain.errors import Unavailable
from fedn.sandbox.processes import HOST, Process, Sandbox

APP = f"{Path(__file__).with_name('gated_app.py')}:app"


@pytest.fixture(scope="module")
def mongo() -> Iterator[MongoSet]:
    with replica_set() as made:
        yield made


class Twins(Sandbox):
    """A sandbox whose reducer keeps its state in ``state``, and may have a standby."""

    state = ""

    def start_reducer(self, *flags: str) -> Process:
        return super().start_reducer(f"--state-store={self.state}", *flags)

    def start_standby(self, port: int = 0) -> Process:
        home = self.directory / "reducer"
        flags = (f"--host={HOST}", f"--port={port or self.port}", f"--state-store={self.state}",
                 f"--model-store=file://{home / 'models'}")  # fmt: skip
        standby = self._start("standby", "reducer", *flags)
        until(lambda: "standing by: reducer on" in standby.log.read_text())
        return standby


def federation(directory: Path, state: str, combiners: int) -> Twins:
    made = Twins(directory, combiners, 0, settled_port(), app=APP)
    made.state = state
    return made


@pytest.mark.parametrize("kept", ["mongodb", "sqlite"])
def test_a_standby_goes_on_with_the_session_of_a_killed_reducer(
    tmp_path: Path, mongo: MongoSet, monkeypatch: pytest.MonkeyPatch, kept: str
):
    monkeypatch.setenv("FEDN_TEST_DIR", str(tmp_path))
    state = mongo.url() if kept == "mongodb" else f"sqlite:///{tmp_path}/state.db"
    with federation(tmp_path, state, 1) as sandbox, Reducer(sandbox.url) as rest:
        network = Running(sandbox, rest)
        sandbox.clients = 2
        for index in range(2):
            sandbox.start_client(index)
        network.attached(2)
        sandbox.start_standby()
        session = network.start(rounds=3, min_clients=2)
        network.open_gate(0)
        network.received(session, 1)
        sandbox.kill("reducer")
        network.open_gate()
        assert network.finished(session)["head"]["round"] == 3
        assert [names(record) for record in network.records(session)[1:]] == [["client-1", "client-2"]] * 3
        assert [record["term"] for record in network.records(session)] == [1, 2, 2, 2]
        assert network.trained(0) == network.trained(1) == [1, 2, 3]
        assert network.audit(session) < 1e-6


def test_a_round_waits_for_a_store_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FEDN_TEST_DIR", str(tmp_path))
    with (
        replica_set() as own,
        federation(tmp_path, f"{own.url()}?serverSelectionTimeoutMS=1000", 1) as sandbox,
        Reducer(sandbox.url) as rest,
    ):
        network = Running(sandbox, rest)
        sandbox.clients = 2
        for index in range(2):
            sandbox.start_client(index)
        network.attached(2)
        session = network.start(rounds=2, min_clients=2)
        network.open_gate(0)
        network.received(session, 1)
        own.servers[0].kill()
        network.open_gate()
        log = sandbox.processes["reducer"].log
        until(lambda: "the lease can't be renewed" in log.read_text())
        network.until(lambda: network.trained(1) == [1])
        own.servers[0].start()
        assert network.finished(session)["head"]["round"] == 2
        assert [names(record) for record in network.records(session)[1:]] == [["client-1", "client-2"]] * 2
        assert {record["term"] for record in network.records(session)} == {1}
        assert network.trained(0) == network.trained(1) == [1, 2]
        assert network.audit(session) < 1e-6


def test_a_reducer_that_was_away_finds_another_leading_and_ends(tmp_path: Path, mongo: MongoSet):
    other = settled_port()
    with federation(tmp_path, mongo.url(), 0) as sandbox:
        with Reducer(sandbox.url) as rest:
            until(lambda: ready(rest))
        sandbox.start_standby(other)
        sleeper = sandbox.processes["reducer"]
        sleeper.popen.send_signal(signal.SIGSTOP)
        with Reducer(f"http://{HOST}:{other}") as rest:
            until(lambda: ready(rest))
        sleeper.popen.send_signal(signal.SIGCONT)
        assert sleeper.popen.wait(PATIENCE) == 1
        assert "another reducer leads this network now" in sleeper.log.read_text()
        assert "started again it stands by" in sleeper.tail()


def test_a_reducer_waits_for_its_stores_and_then_starts(tmp_path: Path):
    with replica_set() as own, federation(tmp_path, own.url(), 0) as sandbox, Reducer(sandbox.url) as rest:
        until(lambda: ready(rest))
        own.servers[0].kill()
        sandbox.kill("reducer")
        log = sandbox.start_reducer().log
        until(lambda: "waiting for the state store: the MongoDB database" in log.read_text())
        own.servers[0].start()
        until(lambda: ready(rest))
        assert log.read_text().count("reducer is up") == 2


def ready(rest: Reducer) -> bool:
    try:
        return bool(rest.get("/readyz")["status"] == "ready")
    except Unavailable:
        return False
