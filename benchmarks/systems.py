"""The three things that are measured, each as a handful of processes with the same life: start, rounds, stop.

All have the same layout: one process on top, two in the middle, two with the clients in them.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Protocol

import httpx
import numpy as np

from benchmarks.sampling import anonymous_bytes
from fedn.domain.identity import Role
from fedn.helpers.files import read_file, seed_file
from fedn.running import STOP_WITH_STDIN
from fedn.sandbox.processes import Sandbox, free_port
from fedn.wire.security import https_context

COMBINERS = 2
CLIENT_PROCESSES = 2
START_SECONDS = 60.0
ROUND_SECONDS = 120.0
LOOK_SECONDS = 0.3
STOP_SECONDS = 5.0


class System(Protocol):
    """Something that can do rounds."""

    name: str
    middle: list[int]
    idle: dict[int, int]

    def pids(self) -> list[int]:
        """All its processes."""

    def rounds(self, count: int) -> list[float]:
        """Do ``count`` rounds more; the seconds of all but the first, which warms the caches."""

    def stop(self) -> None: ...


def growth(clients: int) -> float:
    """By how much one round multiplies the first number of the model."""
    weights = np.arange(1, clients + 1)
    return float((weights * (1 + (weights - 1) / 10_000)).sum() / weights.sum())


def check_growth(system: str, seen: float, clients: int, rounds: int) -> None:
    """A benchmark of a wrong result is worth nothing."""
    wanted = growth(clients) ** rounds
    if not math.isclose(seen, wanted, rel_tol=1e-5):
        raise RuntimeError(f"{system} computed {seen}, not {wanted}")


def numbers_of(clients: int) -> list[list[int]]:
    """Which clients live in which process."""
    return [list(range(index, clients, CLIENT_PROCESSES)) for index in range(CLIENT_PROCESSES)]


def start(command: list[str], log: Path, **pipes: Any) -> subprocess.Popen[str]:
    """A process that ends with this one: it goes when its standard input closes."""
    environment = os.environ | {STOP_WITH_STDIN: "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with log.open("a") as errors:
        return subprocess.Popen([sys.executable, "-m", *command], stdin=subprocess.PIPE, stderr=errors,
                                text=True, env=environment, start_new_session=True, **pipes)  # fmt: skip


def pipe(stream: IO[str] | None) -> IO[str]:
    """A pipe that `start` was asked for."""
    assert stream is not None
    return stream


def end(processes: list[subprocess.Popen[str]]) -> None:
    """Close their standard input, wait a little, insist."""
    for process in processes:
        with suppress(OSError):
            pipe(process.stdin).close()
    for process in processes:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass
class Ours:
    """The system as people start it, except that clients share two processes and do not train.

    As ``tls`` with certificates everywhere, as beyond loopback.
    """

    directory: Path
    model_bytes: int
    clients: int
    name: str = "ours"
    middle: list[int] = field(default_factory=list)
    idle: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir()
        self.sandbox = Sandbox(self.directory, COMBINERS, 0, free_port(0), tls=self.name == "tls")
        self.sandbox.__enter__()
        self._clients: list[subprocess.Popen[str]] = []
        try:
            self._begin()
        except BaseException:
            self.stop()
            raise

    def _begin(self) -> None:
        self._http = httpx.Client(base_url=f"{self.sandbox.url}/api/v1", timeout=60, trust_env=False,
                                  **self._access())  # fmt: skip
        # Before any client asks where to go, or all would go to the combiner that was quicker.
        self._wait("combiners", lambda: self._live() == COMBINERS)
        home = str(self.directory / "clients")
        self._clients = [
            start(["benchmarks.noop_clients", self.sandbox.url, home, *map(str, numbers)],
                  self.directory / "clients.log")
            for numbers in numbers_of(self.clients)
        ]  # fmt: skip
        self._wait("clients", lambda: len(self._get("/clients")["clients"]) == self.clients)
        self.seed = np.random.default_rng(0).standard_normal(self.model_bytes // 4, np.float32)
        file = seed_file({"model": self.seed})
        self._model = self._post("/models?name=bench", content=file)["digest"]
        self.middle = [p.popen.pid for n, p in self.sandbox.processes.items() if n.startswith("combiner")]
        top = self.sandbox.processes["reducer"].popen.pid
        self.idle = {pid: anonymous_bytes(pid) for pid in [*self.middle, top]}

    def _access(self) -> dict[str, Any]:
        """How the reducer is asked; where it asks back, every client gets a token to join by."""
        if not self.sandbox.tls:
            return {}
        for number in range(self.clients):
            self.sandbox.secured.join_file(Role.CLIENT, f"noop-{number}")
        authority = (self.sandbox.secured.network / "ca.pem").read_bytes()
        headers = {"Authorization": f"Bearer {self.sandbox.token}"}
        return {"headers": headers, "verify": https_context(authority, None)}

    def rounds(self, count: int) -> list[float]:
        plan = {"rounds": count, "min_clients": self.clients, "validate": False}
        session = self._post("/sessions", json={"name": "bench", "model": self._model, "plan": plan})[
            "session"
        ]
        self._wait("the session", lambda: self._get(f"/sessions/{session}")["state"] != "running", count)
        records = self._get(f"/sessions/{session}/rounds?limit=1000")["rounds"]
        committed = [record for record in records if record["round"] > 0]
        self._check(committed, count)
        times = [record["committed_at"] for record in committed]
        return [later - earlier for earlier, later in pairwise(times)]

    def pids(self) -> list[int]:
        return [p.popen.pid for p in self.sandbox.processes.values()] + [p.pid for p in self._clients]

    def _check(self, records: list[dict[str, Any]], count: int) -> None:
        everyone = all(record["contributors"] == self.clients for record in records)
        if len(records) != count or not everyone:
            raise RuntimeError(f"only {len(records)} of {count} rounds, or not everybody took part")
        raw = self._http.get(f"/models/{records[-1]['model']}").raise_for_status().content
        tensors = read_file(memoryview(raw))
        check_growth(self.name, float(tensors["model"][0] / self.seed[0]), self.clients, count)

    def stop(self) -> None:
        end(self._clients)
        self.sandbox.stop()

    def _live(self) -> int:
        return sum(combiner["live"] for combiner in self._get("/combiners")["combiners"])

    def _get(self, path: str) -> Any:
        return self._http.get(path).raise_for_status().json()

    def _post(self, path: str, **body: Any) -> Any:
        return self._http.post(path, **body).raise_for_status().json()

    def _wait(self, what: str, there: Any, rounds: int = 0) -> None:
        until = time.monotonic() + START_SECONDS + rounds * ROUND_SECONDS
        while True:
            with suppress(httpx.TransportError):
                if there():
                    return
            if time.monotonic() > until:
                raise TimeoutError(f"waited too long for {what}; see {self.directory}")
            self.sandbox.check()
            self._check_clients()
            time.sleep(LOOK_SECONDS)

    def _check_clients(self) -> None:
        """The directory is gone when the benchmark has failed, so the log has to come with the error."""
        for process in self._clients:
            if process.poll() is not None:
                lines = (self.directory / "clients.log").read_text().splitlines()[-5:]
                raise RuntimeError("\n".join(["a process of clients has stopped:", *lines]))


@dataclass
class Floor:
    """`benchmarks.floor`, bare or checked."""

    directory: Path
    model_bytes: int
    clients: int
    name: str = "bare"
    middle: list[int] = field(default_factory=list)
    idle: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir()
        self._processes: list[subprocess.Popen[str]] = []
        try:
            self._begin()
        except BaseException:
            self.stop()
            raise

    def _begin(self) -> None:
        checked = {"directory": str(self.directory), "checked": self.name == "checked"}
        servers = [
            self._start("server", size=self.model_bytes, clients=share, **checked)
            for share in (len(range(index, self.clients, COMBINERS)) for index in range(COMBINERS))
        ]
        ports = [int(read(server)) for server in servers]
        for numbers in numbers_of(self.clients):
            self._start("clients", ports=ports, numbers=numbers, **checked)
        self._top = self._start("coordinator", size=self.model_bytes, clients=self.clients, ports=ports)
        read(self._top)
        self.middle = [server.pid for server in servers]
        self.idle = {pid: anonymous_bytes(pid) for pid in [*self.middle, self._top.pid]}

    def rounds(self, count: int) -> list[float]:
        pipe(self._top.stdin).write(f"{count}\n")
        pipe(self._top.stdin).flush()
        answer = json.loads(read(self._top))
        check_growth(self.name, answer["grown"], self.clients, count)
        return list(answer["seconds"][1:])

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes]

    def stop(self) -> None:
        end(self._processes[::-1])

    def _start(self, role: str, **options: Any) -> subprocess.Popen[str]:
        command = ["benchmarks.floor", role, json.dumps(options)]
        process = start(command, self.directory / f"{role}.log", stdout=subprocess.PIPE)
        self._processes.append(process)
        return process


def read(process: subprocess.Popen[str]) -> str:
    line = pipe(process.stdout).readline()
    if not line:
        raise RuntimeError(f"a process of the floor ended: {process.args!r}")
    return line.strip()


def start_all(directory: Path, model_bytes: int, clients: int, others: Sequence[str]) -> list[System]:
    """Ours and what it is compared with ("bare", "checked", "tls"), idle beside each other."""
    started: list[System] = []
    try:
        started.append(Ours(directory / "ours", model_bytes, clients))
        for name in others:
            kind = Ours if name == "tls" else Floor
            started.append(kind(directory / name, model_bytes, clients, name))
    except BaseException:
        for system in started:
            system.stop()
        raise
    return started
