"""Packages with a few lines of code in them, the tasks that run them, and a trainer to do it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import package_files
import pytest
import yaml

from fedn.client.ledger import Ledger
from fedn.client.output import tail
from fedn.client.packages import PackageTrainer, Places, Rules
from fedn.client.unseen import Unseen
from fedn.domain.errors import InvalidInput
from fedn.domain.ids import ClientId, SessionId, digest_of
from fedn.domain.messages import Task, TaskKind
from fedn.helpers.files import read_file, seed_file
from fedn.ports import Observed, Trained

MODEL = memoryview(seed_file({"w": np.arange(3, dtype=np.float32), "steps": np.array([7])}))
ME = ClientId("me")
PATIENCE = 60.0


@dataclass(frozen=True)
class Small:
    """An archive, as it comes with a task."""

    archive: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.archive)

    def task(self, kind: TaskKind = TaskKind.TRAIN, round: int = 1, **config: Any) -> Task:
        """Of this package, for `MODEL`."""
        return Task(
            SessionId("s"), round, kind, digest_of(MODEL), len(MODEL), json.dumps(config), 5,
            package=self.digest, package_size=len(self.archive),
        )  # fmt: skip


def python(code: str, /, *names: str, files: Mapping[str, str] | None = None, **manifest: Any) -> Small:
    """A package with ``code`` as its module ``app``, and the functions in it that are entry points."""
    points = {name: {"python": f"app:{name}"} for name in names or ("train", "validate")}
    return package(points, {"app.py": code, **(files or {})}, **manifest)


def command(
    files: Mapping[str, str | bytes] | None = None, timeout: float | None = None, **commands: str
) -> Small:
    """A package of commands."""
    manifest = {} if timeout is None else {"timeout": timeout}
    return package(commands, files or {}, **manifest)


def package(points: Mapping[str, Any], files: Mapping[str, str | bytes], **manifest: Any) -> Small:
    text = yaml.safe_dump({"name": "small", "entry_points": dict(points), **manifest})
    return Small(package_files.archive({"fedn.yaml": text, **files}))


GOOD = """
import os
print("imported")

def startup(data):
    print("started with", data)
    return {"text": data, "tasks": 0}

def train(model, data, config):
    data["tasks"] += 1
    model["w"] += config["step"]
    return model, 10, {"pid": os.getpid(), "tasks": data["tasks"], "seed": config["seed"] > 0}

def validate(model, data):
    return len(data["text"]), {"mean": model["w"].mean()}

def check(model, data):
    return None

def predict(model, data, output):
    (output / "predicted.txt").write_text(str(model["w"].tolist()))
    return 3
"""
EVERY = ("startup", "train", "validate", "check", "predict")


def good() -> Small:
    """Does all that a package can."""
    return python(GOOD, *EVERY, hyperparameters={"step": 1.0})


@dataclass
class Told:
    """An Observer that remembers."""

    events: list[Observed] = field(default_factory=list)

    def observe(self, observed: Observed) -> None:
        self.events.append(observed)

    def named(self, event: str) -> list[Mapping[str, Any]]:
        return [seen.fields for seen in self.events if seen.event == event]


class Runner:
    """A trainer in folders of its own, what it tells, and short ways to ask it."""

    def __init__(self, home: Path, rules: Rules) -> None:
        self.home = home
        self.told = Told()
        places = Places(home / "client", home / "environments", home / "predictions", (home / "identity",))
        self.ledger = Ledger(home / "ledger")
        self.trainer = PackageTrainer(ME, places, rules, self.told, Unseen(self.ledger))

    def train(self, small: Small, round: int = 1, **config: Any) -> Trained:
        return self.trainer.train(MODEL, small.task(round=round, **config), memoryview(small.archive))

    def report(self, small: Small, kind: TaskKind, **config: Any) -> tuple[int, Mapping[str, float]]:
        return self.trainer.report(MODEL, small.task(kind, **config), memoryview(small.archive))

    def output(self, small: Small) -> str:
        """What the package printed, without our own lines between."""
        lines = tail(self.trainer.log(small.digest), 2**20).splitlines()
        return "\n".join(line for line in lines if not line.startswith("--- "))

    @property
    def workers(self) -> list[int]:
        """The workers that were started, as process ids, in their order."""
        return [int(fields["pid"]) for fields in self.told.named("worker_started")]


@contextmanager
def running(home: Path, data: str = "the data", **rules: Any) -> Iterator[Runner]:
    runner = Runner(home, Rules(data, **rules))
    try:
        yield runner
    finally:
        runner.trainer.close()
        runner.ledger.close()


def until(ready: Callable[[], Any]) -> Any:
    """Wait for what happens in another process; a bound on patience, not a measurement."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if result := ready():
            return result
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def weights(file: bytes) -> list[float]:
    """The weights of an update of `MODEL`, or another one like it."""
    values: list[float] = read_file(memoryview(file))["w"].tolist()
    return values


def refused(ask: Callable[[], Any]) -> str:
    """What is said of bad input."""
    with pytest.raises(InvalidInput) as caught:
        ask()
    return caught.value.message


def gone(pid: int) -> bool:
    """Whether there is no such process any more."""
    return not Path(f"/proc/{pid}").exists()
