"""Sessions that go on for as long as the chaos does: a lane for small models, one for large ones.

A thread of its own talks to the reducer by REST, as a person would, and remembers every commit it saw.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx
from app import seed_model
from audit import connect, records
from safetensors.numpy import save

LANES = {"small": (500,), "large": (100_000, 500_000)}
"""Elements of the models: what rides along in a message, and what is streamed, one after the other."""
RAW = {"Content-Type": "application/octet-stream"}


class Lanes:
    """Use as a context manager, for the reducer at ``url``, which may have the identity in ``network``.

    ``seen``: the digest of every record that was ever shown. ``current``: each lane's session. ``trouble``:
    the last thing that the reducer could not be asked. Once ``last`` is set and the current sessions have
    finished, each lane has a last one; then ``done`` is set.
    """

    def __init__(self, url: str, network: Path | None, rounds: int, min_clients: int) -> None:
        self.rest = connect(url, network)
        self.seen: dict[tuple[str, int], str] = {}
        self.running: set[str] = set()
        self.trouble = ""
        self.last = False
        self.done = threading.Event()
        self._plan = {"rounds": rounds, "min_clients": min_clients, "seed": 1}
        self._count = dict.fromkeys(LANES, 0)
        self.current = dict.fromkeys(LANES, "")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lanes", daemon=True)

    def __enter__(self) -> Lanes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.rest.close()

    @property
    def rounds(self) -> int:
        """Commits seen so far."""
        return sum(number > 0 for _, number in self.seen.copy())

    def head(self, lane: str) -> int:
        """The newest round seen of a lane's current session."""
        return max((n for session, n in self.seen.copy() if session == self.current[lane]), default=0)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._look()
            except httpx.HTTPError as error:
                self.trouble = str(error)
            self._over.wait(0.2)

    def _look(self) -> None:
        found = self.rest.get("/sessions").json()["sessions"]
        states = {s["session"]: s["state"] for s in found}
        for session in [s for s in states if states[s] == "running" or s in self.running]:
            self._note(session)
        self.running = {s for s in states if states[s] == "running"}
        for lane in LANES:
            if not (self.last and self._count[lane] < 0):
                self._next(lane, found)
        if self.last and not self.running and all(count < 0 for count in self._count.values()):
            self.done.set()

    def _note(self, session: str) -> None:
        known = [n for s, n in self.seen if s == session]
        for item in records(self.rest, session, after=max(known, default=-1)):
            self.seen.setdefault((session, item["record"]["round"]), item["digest"])

    def _next(self, lane: str, found: list[Any]) -> None:
        """Start a session when the last one has ended; one of that name was started by a call that broke."""
        if self.current[lane] in self.running:
            return
        last, count = self.last, self._count[lane] + 1
        name = f"{lane}-{'last' if last else count}"
        twin = [s["session"] for s in found if s["name"] == name]
        if not twin:
            elements = LANES[lane][count % len(LANES[lane])]
            seed = save(seed_model(elements))
            model = self.rest.post(f"/models?name={name}", content=seed, headers=RAW).json()["digest"]
            plan = {**self._plan, "rounds": 3} if last else self._plan
            body = {"name": name, "model": model, "plan": plan}
            twin = [self.rest.post("/sessions", json=body).json()["session"]]
        self.current[lane], self._count[lane] = twin[0], -1 if last else count
        self.running.add(twin[0])
