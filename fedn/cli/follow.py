"""A session's story as facts, read from the REST API whenever the event stream says that something happened.

Events only wake the reader; what it tells comes from what is stored. So nothing is missed when events
are, when the reducer restarts, or when all event streams are taken: then it looks once a second.
`watch` draws the facts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fedn.cli.rest_client import Reducer
from fedn.domain.errors import FednError, Unavailable

ENDED = ("finished", "failed", "cancelled")
LOOK_SECONDS = 1.0
"""Between two looks when no event comes."""
LEAST_SECONDS = 0.1
"""Between two looks however many events come."""
LATE_ROUNDS = 8
"""Rounds that may be validated at once; one that is further behind was skipped."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something to tell: progress, waiting, round_committed, round_validated, reducer_away, session_ended."""

    event: str
    fields: dict[str, Any]


class Follower:
    """Follows one session from its first round to its end. Iterate `facts` once."""

    def __init__(self, reducer: Reducer, session: str, patience: float) -> None:
        self._reducer = reducer
        self._path = f"/sessions/{session}"
        self._session = session
        self._patience = patience
        self._away_since: float | None = None
        self._told: dict[str, Any] = {}
        self._committed = 0
        self._unvalidated: set[int] = set()
        self._ended = False

    def facts(self) -> Iterator[Fact]:
        """Facts in their order; the last is session_ended. Raises Unavailable when patience is over."""
        bell = Bell(self._reducer, self._session)
        try:
            while not self._ended:
                yield from self._look()
                if not self._ended:
                    bell.wait()
        finally:
            bell.close()

    def _look(self) -> Iterator[Fact]:
        try:
            yield from self._changes()
            self._away_since = None
        except Unavailable as error:
            now = time.monotonic()
            first = self._away_since is None
            self._away_since = self._away_since or now
            if now - self._away_since >= self._patience:
                raise
            if first:
                yield Fact("reducer_away", {"reason": error.message})

    def _changes(self) -> Iterator[Fact]:
        info = self._reducer.get(self._path)  # before rounds and metrics, which can then only be newer
        yield from self._new("session", {"state": info["state"], "rounds": info["plan"]["rounds"]})
        progress = info["progress"]
        known = {
            name: progress[name] for name in ("round", "state", "expected", "received") if name in progress
        }
        if known:
            yield from self._new("progress", known)
        if reason := (progress.get("reason") or (info["state"] not in ENDED and info["reason"])):
            yield from self._new("waiting", {"reason": reason})
        yield from self._rounds(info)
        if info["state"] in ENDED:
            self._ended = True
            words = {"state": info["state"], "reason": info["reason"]}
            yield Fact("session_ended", {"session": self._session, **words, **info["head"]})

    def _new(self, event: str, fields: dict[str, Any]) -> Iterator[Fact]:
        if self._told.get(event) != fields:
            self._told[event] = fields
            yield Fact(event, {"session": self._session, **fields})

    def _rounds(self, info: dict[str, Any]) -> Iterator[Fact]:
        """What was committed and validated since the last look, each round's metrics right behind it."""
        fresh: list[dict[str, Any]] = []
        if info["head"]["round"] > self._committed:
            fresh = list(self._reducer.pages(f"{self._path}/rounds", "rounds", self._committed))
        if info["plan"]["validate"]:
            self._unvalidated |= {item["round"] for item in fresh}
        validated = self._validated()
        for number in sorted(validated.keys() - {item["round"] for item in fresh}):
            yield self._validation(number, validated[number])
        for item in fresh:
            self._committed = item["round"]
            yield Fact("round_committed", {"session": self._session, **item})
            if item["round"] in validated:
                yield self._validation(item["round"], validated[item["round"]])
        self._unvalidated = {n for n in self._unvalidated if n > self._committed - LATE_ROUNDS}

    def _validated(self) -> dict[int, dict[str, Any]]:
        """The validations that are there by now, of rounds that still lacked theirs."""
        if not self._unvalidated:
            return {}
        items = self._reducer.pages(f"{self._path}/metrics", "rounds", min(self._unvalidated) - 1)
        return {
            item["round"]: item["validate"]
            for item in items
            if item["round"] in self._unvalidated and "validate" in item
        }

    def _validation(self, number: int, fields: dict[str, Any]) -> Fact:
        self._unvalidated.discard(number)
        return Fact("round_validated", {"session": self._session, "round": number, **fields})


class Bell:
    """Rings when the event stream tells of the session; reconnects by itself."""

    def __init__(self, reducer: Reducer, session: str) -> None:
        self._reducer = reducer
        self._session = session
        self._rung = threading.Event()
        self._closed = threading.Event()
        threading.Thread(target=self._listen, name="events", daemon=True).start()

    def wait(self) -> None:
        """Until it has rung, a second at most, and never too often."""
        self._closed.wait(LEAST_SECONDS)
        self._rung.wait(LOOK_SECONDS)
        self._rung.clear()

    def close(self) -> None:
        self._closed.set()

    def _listen(self) -> None:
        last = ""
        while not self._closed.is_set():
            try:
                for event in self._reducer.events(last):
                    last = event["id"]
                    if event["event"] == "lagged" or event["fields"].get("session") == self._session:
                        self._rung.set()
                    if self._closed.is_set():
                        return
            except (FednError, ValueError, KeyError, RuntimeError):  # RuntimeError: the client was closed
                pass
            self._closed.wait(LOOK_SECONDS)
