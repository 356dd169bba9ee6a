"""A federation in which one exact instant goes wrong, for ``test_promises.py``.

client-1 and client-2 are at combiner-1, client-3 at combiner-2. ``trip.py`` holds the instants.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federations import APP, Running, names
from ports import settled_port
from trip import Trip, done

from fedn.cli.rest_client import Reducer
from fedn.domain.errors import Unavailable
from fedn.helpers.files import seed_file
from fedn.sandbox.processes import Process, Sandbox

HOMES = ("combiner-1", "combiner-1", "combiner-2")
CLIENTS = ["client-1", "client-2", "client-3"]
FLAGS = {"reducer": ("--combiner-grace=0.5", "--client-grace=2")}
SMALL, LARGE = 8, 300_000
"""Elements of the model: one rides along everywhere, the other takes three chunks."""


@dataclass
class TrippedSandbox(Sandbox):
    """A sandbox in which some processes carry a trip, with short graces."""

    trips: Mapping[str, Trip] = field(default_factory=dict)
    homes: list[str] = field(default_factory=list)
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def program(self, name: str) -> list[str]:
        if name not in self.trips:
            return super().program(name)
        armed = replace(self.trips[name], marker=str(self.marker(name)))
        return [sys.executable, str(Path(__file__).with_name("trip.py")), armed.as_argument()]

    def marker(self, name: str) -> Path:
        return self.directory / f"trip-{name}"

    def start_reducer(self, *flags: str) -> Process:
        return super().start_reducer(*self.flags_of("reducer"), *flags)

    def start_combiner(self, name: str, *flags: str) -> Process:
        return super().start_combiner(name, *self.flags_of(name), *flags)

    def start_client(self, index: int, *flags: str) -> Process:
        where = (f"--combiner={self.homes[index]}", *self.flags_of(f"client-{index + 1}"))
        return super().start_client(index, *where, *flags)

    def flags_of(self, name: str) -> tuple[str, ...]:
        """A process's own flags come after those of its tier."""
        return FLAGS.get(name.partition("-")[0], ()) + self.more.get(name, ())

    def start(self, name: str) -> None:
        """Start a process again, by name."""
        tier, _, number = name.partition("-")
        match tier:
            case "reducer":
                self.start_reducer()
            case "combiner":
                self.start_combiner(name)
            case _:
                self.start_client(int(number) - 1)


class Promised(Running):
    """The federation at work, with words for what goes wrong and what is waited for."""

    sandbox: TrippedSandbox

    def start(self, elements: int = SMALL, **plan: Any) -> str:
        """Start a session; '' if the reducer dies over it: ask `only_session` when it is back."""
        seed = seed_file({"w": np.zeros(elements), "b": np.zeros((2, 2), dtype=np.float32)})
        model = self.reducer.upload("/models", iter([seed]), len(seed), name="zeros")
        plan = {"round_deadline": 60.0, "min_clients": 3, "check": False, **plan}
        body = {"model": model["digest"], "plan": plan}
        try:
            return str(self.reducer.post("/sessions", body)["session"])
        except Unavailable:
            return ""

    def only_session(self) -> str:
        return str(self.until(lambda: self.reducer.get("/sessions")["sessions"])[0]["session"])

    def tripped(self, name: str) -> None:
        """Wait for the instant in which ``name`` trips."""
        self.until(self.sandbox.marker(name).exists)

    def caught_up(self, name: str) -> None:
        """Wait until ``name`` has done what it does twice, or late."""
        self.until(done(self.sandbox.marker(name)).exists)

    def pause(self, name: str) -> None:
        os.kill(self.sandbox.processes[name].popen.pid, signal.SIGSTOP)

    def wake(self, name: str) -> None:
        os.kill(self.sandbox.processes[name].popen.pid, signal.SIGCONT)

    def committed(self, session: str, round_: int = 1) -> bool:
        return len(self.records(session)) > round_

    def left(self, client: str) -> bool:
        return client not in self.clients_at("combiner-1") | self.clients_at("combiner-2")

    def live(self, combiner: str) -> bool:
        combiners = self.reducer.get("/combiners")["combiners"]
        return any(c["combiner"] == combiner and c["live"] for c in combiners)

    def moved(self) -> bool:
        """Everybody is at combiner-2 now."""
        return self.clients_at("combiner-2") == set(CLIENTS)

    def at_work(self, name: str) -> bool:
        """It is back among the others, after it was away."""
        if name.startswith("client"):
            return not self.left(name)
        if name.startswith("combiner"):
            return self.live(name)
        return self.live("combiner-1") and self.live("combiner-2") and not any(map(self.left, CLIENTS))

    def journals(self) -> list[Path]:
        """Updates that clients still hold."""
        return list(self.sandbox.directory.glob("clients/**/*.update"))

    def kept_promise(
        self, session: str, trained: Mapping[int, list[int]], contributors: list[list[str]]
    ) -> None:
        """The audit after everything: nothing lost, nothing twice, nothing left behind."""
        self.finished(session)
        records = self.records(session)[1:]
        assert [names(record) for record in records] == contributors
        assert [(record["refused"], absent(record)) for record in records] == [
            ([], sorted(set(CLIENTS) - set(counted))) for counted in contributors
        ]
        assert self.audit(session) < 1e-6 * len(contributors)  # values grow by the round, and float32's steps
        expected = {index: list(range(1, len(contributors) + 1)) for index in range(3)} | trained
        assert {index: self.trained(index) for index in range(3)} == expected
        self.until(lambda: not self.journals())


def absent(record: Any) -> list[str]:
    """Who is lost in a record, by client name."""
    return sorted(lost["client"].rpartition("-")[0] for lost in record["lost"])


@contextmanager
def promised(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    trips: Mapping[str, Trip] = {},
    gates: tuple[int, ...] = (0, 1, 2),
    port: int = 0,
    more: Mapping[str, tuple[str, ...]] = {},
    homes: tuple[str, ...] = HOMES,
    tls: bool = False,
) -> Iterator[Promised]:
    """Everybody is attached where they belong; the clients of ``gates`` train without waiting.

    With ``tls`` all of it is a secured network, which everybody has joined by a token.
    """
    monkeypatch.setenv("FEDN_TEST_DIR", str(directory))
    combiners = len(set(homes))
    sandbox = TrippedSandbox(
        directory, combiners, 0, port or settled_port(), APP, tls, trips=trips, more=more, homes=list(homes)
    )
    with sandbox, Reducer(sandbox.url, sandbox.token) as reducer:
        sandbox.clients = len(HOMES)
        federation = Promised(sandbox, reducer)
        for index in gates:
            federation.open_gate(index)
        federation.until(lambda: sum(c["live"] for c in reducer.get("/combiners")["combiners"]) == combiners)
        for index in range(len(HOMES)):
            sandbox.start_client(index)
        federation.attached(len(HOMES))
        for client, home in zip(CLIENTS, homes, strict=True):
            assert client in federation.clients_at(home)
        yield federation
