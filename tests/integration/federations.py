"""Support for tests that run a federation of real processes with the gated app."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ports import settled_port

from fedn.cli.rest_client import Reducer
from fedn.domain.errors import Unavailable
from fedn.helpers.files import seed_file
from fedn.sandbox.flat import largest_difference
from fedn.sandbox.processes import Sandbox

APP = f"{Path(__file__).with_name('gated_app.py')}:app"
PATIENCE = 120.0


class Running:
    """A sandbox with its REST API and the gated app's files."""

    def __init__(self, sandbox: Sandbox, reducer: Reducer) -> None:
        self.sandbox = sandbox
        self.reducer = reducer

    def until(self, ready: Callable[[], Any]) -> Any:
        """Wait for ``ready`` to be true; a bound on patience, not a measurement."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if result := ready():
                    return result
            except Unavailable:
                pass
            time.sleep(0.05)
        raise AssertionError(
            "waited in vain; logs:\n" + "\n".join(p.tail() for p in self.sandbox.processes.values())
        )

    def clients_at(self, combiner: str) -> set[str]:
        return {c["name"] for c in self.reducer.get("/clients")["clients"] if c["combiner"] == combiner}

    def attached(self, count: int) -> None:
        self.until(lambda: len(self.reducer.get("/clients")["clients"]) >= count)

    def start(self, **plan: Any) -> str:
        seed = seed_file({"w": np.zeros(8), "b": np.zeros((2, 2), dtype=np.float32)})
        model = self.reducer.upload("/models", iter([seed]), len(seed), name="zeros")
        plan = {"round_deadline": 60.0, "check": False, **plan}
        body = {"name": "test", "model": model["digest"], "plan": plan}
        return str(self.reducer.post("/sessions", body)["session"])

    def session(self, session: str) -> Any:
        return self.reducer.get(f"/sessions/{session}")

    def received(self, session: str, count: int) -> None:
        """Wait until the open round has this many updates."""
        self.until(lambda: self.session(session)["progress"].get("received", 0) >= count)

    def finished(self, session: str) -> Any:
        return self.until(lambda: (s := self.session(session))["state"] == "finished" and s)

    def open_gate(self, which: object = "all") -> None:
        (self.sandbox.directory / f"gate-{which}").touch()

    def trained(self, index: int) -> list[int]:
        log = self.sandbox.directory / f"trained-{index}"
        return [int(line) for line in log.read_text().split()] if log.exists() else []

    def records(self, session: str) -> list[Any]:
        return [item["record"] for item in self.reducer.pages(f"/sessions/{session}/trail", "records")]

    def audit(self, session: str) -> float:
        """The trail verifies; returns its largest difference from flat averaging of the kept updates."""
        assert self.reducer.get(f"/sessions/{session}/trail/verify")["ok"]
        records, updates = self.records(session), {}
        for record in records:
            for contributor in (c for part in record["parts"] for c in part["contributors"]):
                name = f"{record['session']}-{record['round']}-{contributor['digest']}.safetensors"
                kept = self.sandbox.kept(contributor["client"].rpartition("-")[0]) / name
                self.until(kept.exists)
                updates[contributor["digest"]] = kept
        difference = largest_difference(records, updates, self._model)
        assert difference is not None
        return difference

    def _model(self, digest: str) -> bytes:
        with self.reducer.stream(f"/models/{digest}", {}) as answer:
            return answer.read()


def names(record: Any) -> list[str]:
    """The contributors of a record, by client name, sorted; one counted twice would stand twice."""
    return sorted(c["client"].rpartition("-")[0] for part in record["parts"] for c in part["contributors"])


@contextmanager
def running(
    directory: Path, monkeypatch: pytest.MonkeyPatch, combiners: int, clients: int
) -> Iterator[Running]:
    """A reducer and ``combiners``; start the clients with ``sandbox.start_client``."""
    monkeypatch.setenv("FEDN_TEST_DIR", str(directory))
    sandbox = Sandbox(directory, combiners, 0, settled_port(), app=APP)
    with sandbox, Reducer(sandbox.url) as reducer:
        sandbox.clients = clients
        federation = Running(sandbox, reducer)
        federation.until(lambda: sum(c["live"] for c in reducer.get("/combiners")["combiners"]) == combiners)
        yield federation
