"""`fedn store copy` and `fedn trail prune` killed in the middle: nothing looks lost or whole that is not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fedn.domain.ids import SessionId
from fedn.stores.copying import COPYING
from fedn.stores.files import FileModels
from fedn.stores.sqlite import SqliteState
from fedn.stores.trail import TrailReport, verify_trail
from fedn.testing.contracts.samples import build_trail

MNIST = SessionId("mnist")
ROUNDS = 400
PATIENCE = 60.0


class Place:
    """Embedded stores in a folder, and how commands are told of them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def at(self, side: str = "") -> tuple[str, ...]:
        state, models = f"sqlite:///{self.root}/state.db", f"file://{self.root}/models"
        return f"--{side}state", state, f"--{side}models", models

    def blobs(self) -> int:
        return len(list(self.root.glob("models/??/*")))

    def verify(self) -> TrailReport:
        with closing(SqliteState(self.root / "state.db")) as state:
            return verify_trail(state, FileModels(self.root / "models"), MNIST)

    def state(self) -> str:
        with closing(SqliteState(self.root / "state.db", read_only=True)) as state:
            return state.session(MNIST).state


@pytest.fixture
def kept(tmp_path: Path) -> Place:
    place = Place(tmp_path / "kept")
    with closing(SqliteState(place.root / "state.db")) as state:
        build_trail(state, FileModels(place.root / "models", durable=False), rounds=ROUNDS)
        state.set_session_state(MNIST, "finished", "", state.newest_term())
    return place


def fedn(*args: str) -> list[str]:
    return [sys.executable, "-m", "fedn", *args, "--json"]


def killed(command: list[str], when: Callable[[], bool]) -> None:
    """Run it until then, or to its end where this machine was too busy to see it in time."""
    ends = time.monotonic() + PATIENCE
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            while not when() and process.poll() is None:
                assert time.monotonic() < ends
        finally:
            process.kill()


def done(command: list[str]) -> dict[str, object]:
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    answer = json.loads(finished.stdout)
    assert isinstance(answer, dict)
    return answer


def test_a_copy_that_was_killed_goes_on(kept: Place, tmp_path: Path) -> None:
    there = Place(tmp_path / "there")
    command = fedn("store", "copy", *kept.at("from-"), *there.at("to-"))
    killed(command, lambda: there.blobs() > ROUNDS // 4)
    before = there.blobs()
    assert before > ROUNDS // 4
    assert there.state() == COPYING or before == ROUNDS + 1
    report = done(command)
    assert report["ok"]
    copied = report["copied"]
    assert isinstance(copied, dict)
    assert (copied["there"], copied["blobs"]) == (before, ROUNDS + 1 - before)
    assert there.verify() == kept.verify()
    assert there.state() == "finished"


def test_a_pruning_that_was_killed_lost_nothing(kept: Place) -> None:
    command = fedn("trail", "prune", "--keep-last", "5", "--grace", "0", *kept.at())
    killed(command, lambda: kept.blobs() < ROUNDS)
    report = kept.verify()
    assert (report.ok, report.rounds) == (True, ROUNDS + 1)
    assert report.pruned == ROUNDS + 1 - report.models > 0
    done(command)
    report = kept.verify()
    assert (report.ok, report.models, report.pruned) == (True, 5, ROUNDS - 4)
    assert kept.blobs() == 5
