"""A whole federation of processes whose models lie in a real Swift, spoken with by TLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("swift")

from federations import APP, Running
from ports import settled_port
from proxy import Proxy
from s3_places import Certificates, Places, with_keys
from swift_s3 import SECRET_KEY, Swift

from fedn.cli.rest_client import Reducer
from fedn.helpers.files import seed_file
from fedn.sandbox.processes import Process, Sandbox
from fedn.stores import open_models, open_state
from fedn.stores.trail import verify_trail

ELEMENTS = 100_000
COMBINERS, CLIENTS, ROUNDS = 2, 3, 2


@dataclass
class InS3(Sandbox):
    """A sandbox whose reducer keeps its models there. Only the reducer has the keys."""

    models: str = ""
    authority: str = ""

    def start_reducer(self, *flags: str) -> Process:
        return super().start_reducer(f"--model-store={self.models}", *flags)

    def start_combiner(self, name: str, *flags: str) -> Process:
        return super().start_combiner(name, f"--store-ca-bundle={self.authority}", *flags)

    def program(self, name: str) -> list[str]:
        """The ``fedn`` command, in an environment without what it must not have."""
        keys = ("FEDN_S3_ACCESS_KEY", "FEDN_S3_SECRET_KEY")
        without = [] if name == "reducer" else [f"--unset={key}" for key in keys]
        return ["env", *without, *super().program(name)]


@dataclass
class Network:
    """What the tests look at: ``outside`` carries what does not come through the reducer."""

    federation: Running
    swift: Swift
    outside: Proxy
    models: str


@contextmanager
def network(home: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> Iterator[Network]:
    with_keys(monkeypatch)
    monkeypatch.setenv("FEDN_TEST_DIR", str(home))
    ours = Certificates.made(home)
    with (
        Swift(home / "swift", ours.certificate, ours.key) as swift,
        Proxy(swift.url.partition("://")[2]) as outside,
    ):
        places = Places(swift.url, home / "cache")
        models = places.url(ca=ours.authority, public_endpoint=f"https://{outside.address}", **options)
        sandbox = InS3(
            home, COMBINERS, 0, settled_port(), app=APP, models=models, authority=str(ours.authority)
        )
        with sandbox, Reducer(sandbox.url) as reducer:
            sandbox.clients = CLIENTS
            federation = Running(sandbox, reducer)
            federation.until(
                lambda: sum(c["live"] for c in reducer.get("/combiners")["combiners"]) == COMBINERS
            )
            for index in range(CLIENTS):
                sandbox.start_client(index)
            federation.attached(CLIENTS)
            yield Network(federation, swift, outside, models)


def started(federation: Running) -> str:
    """A session of two rounds on a model that is too large to ride along; clients wait for their gate."""
    seed = seed_file({"w": np.zeros(ELEMENTS)})
    model = federation.reducer.upload("/models", iter([seed]), len(seed), name="zeros")
    plan = {"rounds": ROUNDS, "round_deadline": 60.0, "check": False, "validate": False}
    body = {"name": "test", "model": model["digest"], "plan": plan}
    return str(federation.reducer.post("/sessions", body)["session"])


def trained(federation: Running) -> str:
    federation.open_gate()
    session = started(federation)
    verified(federation, session)
    return session


def verified(federation: Running, session: str) -> None:
    assert federation.finished(session)["head"]["round"] == ROUNDS
    assert federation.audit(session) == pytest.approx(0.0, abs=1e-12)


def said(federation: Running) -> str:
    """All logs of all processes."""
    return "".join(path.read_text() for path in (federation.sandbox.directory / "logs").iterdir())


def test_models_go_from_the_store_to_the_combiners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with network(tmp_path, monkeypatch) as net:
        session = trained(net.federation)
        # Each combiner fetches the base model of each round; nothing else goes this way.
        assert net.outside.down > COMBINERS * ROUNDS * ELEMENTS * 8
        logs = said(net.federation)
        assert "through the reducer" not in logs
        assert "Signature" not in logs
        assert SECRET_KEY not in logs
        assert not list((tmp_path / "reducer").glob("models*"))

        state = open_state(f"sqlite:///{tmp_path}/reducer/state.db", read_only=True)
        models = open_models(net.models, read_only=True)
        assert verify_trail(state, models, session).ok
        models.close()
        state.close()


def test_in_proxy_mode_they_go_through_the_reducer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with network(tmp_path, monkeypatch, proxy="true") as net:
        trained(net.federation)
        assert net.outside.down == 0


def test_combiners_that_do_not_reach_the_store_train_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with network(tmp_path, monkeypatch) as net:
        net.outside.refuse()
        trained(net.federation)
        assert net.outside.refused >= COMBINERS
        assert "for a minute models come through the reducer" in said(net.federation)


def test_a_round_waits_for_a_store_that_is_away_and_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with network(tmp_path, monkeypatch) as net:
        session = started(net.federation)
        net.federation.until(lambda: net.federation.session(session)["progress"].get("round") == 1)
        net.swift.kill("object")
        net.federation.open_gate()
        net.federation.until(
            lambda: "can't do it now" in net.federation.session(session)["progress"]["reason"]
        )
        net.swift.start("object")
        verified(net.federation, session)
        assert all(net.federation.trained(index) == [1, 2] for index in range(CLIENTS))


def test_a_reducer_waits_for_a_store_that_is_not_up_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with_keys(monkeypatch)
    with Swift(tmp_path / "swift", in_memory=True) as swift:
        swift.kill("proxy")
        models = Places(swift.url, tmp_path / "cache").url()
        sandbox = InS3(tmp_path, 0, 0, settled_port(), models=models)
        with sandbox, Reducer(sandbox.url) as reducer:
            federation = Running(sandbox, reducer)
            federation.until(lambda: "waiting for the model store" in said(federation))
            swift.start("proxy")
            assert federation.until(lambda: reducer.get("/readyz"))["status"] == "ready"
        assert f"at {swift.url} can't be reached" in said(federation)
