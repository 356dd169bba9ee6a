"""A session's story as facts, read from the REST API whenever the event stream says that something happened.

Events only wake the reader; what it tells comes from what is stored. So nothing is missed when events
are, when the reducer restarts, or when all event streams are taken: then it looks once a second.
`drawing` draws the facts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from fedn.domain.errors import FednError, Unavailable
from fedn.sdk.facts import ENDED, LATE_ROUNDS, Fact
from fedn.sdk.http import Reducer

LOOK_SECONDS = 1.0
"""Between two looks when no event comes."""
LEAST_SECONDS = 0.1
"""Between two looks however many events come."""


class Follower:
    """Follows one session from its first round to its end. Iterate `facts` once."""

    def __init__(self, reducer: Reducer, session: str, patience: float, seconds: float | None = None) -> None:
        """``patience``: seconds without a reducer; ``seconds``: in all, None for no limit."""
        self._reducer = reducer
        self._seconds = seconds
        self._path = f"/sessions/{session}"
        self._session = session
        self._patience = patience
        self._away_since: float | None = None
        self._told: dict[str, Any] = {}
        self._committed = 0
        self._unvalidated: set[int] = set()
        self._said: set[tuple[Any, ...]] = set()
        self._straggled = 0
        self._ended = False

    def facts(self) -> Iterator[Fact]:
        """Facts in their order; the last is session_ended. Raises Unavailable when patience or time is up."""
        bell = Bell(self._reducer, self._session)
        until = None if self._seconds is None else time.monotonic() + self._seconds
        try:
            while not self._ended:
                yield from self._look()
                if not self._ended:
                    if until is not None and time.monotonic() > until:
                        raise self._late()
                    bell.wait()
        finally:
            bell.close()

    def _late(self) -> Unavailable:
        told = self._told.get("session", {})
        known = f": it is {told['state']}, round {self._committed} of {told['rounds']}" if told else ""
        return Unavailable(f"session {self._session} has not ended after {self._seconds:g} s{known}")

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
        yield from self._stragglers(progress)
        if reason := (progress.get("reason") or (info["state"] not in ENDED and info["reason"])):
            yield from self._new("waiting", {"reason": reason})
        yield from self._clients(progress)
        yield from self._rounds(info)
        if info["state"] in ENDED:
            self._ended = True
            yield from self._missed()
            words = {"state": info["state"], "reason": info["reason"]}
            yield Fact("session_ended", {"session": self._session, **words, **info["head"]})

    def _new(self, event: str, fields: dict[str, Any]) -> Iterator[Fact]:
        if self._told.get(event) != fields:
            self._told[event] = fields
            yield Fact(event, {"session": self._session, **fields})

    def _stragglers(self, progress: dict[str, Any]) -> Iterator[Fact]:
        """Whom a round has been waiting for too long; told once of each round."""
        late = progress.get("stragglers")
        if late and progress["round"] != self._straggled:
            self._straggled = progress["round"]
            yield Fact("stragglers", {"session": self._session, "round": progress["round"], **late})

    def _clients(self, progress: dict[str, Any]) -> Iterator[Fact]:
        """Who can't take part, and whose validation failed, with the reason; each is told once."""
        for client, reason in progress.get("unfit", {}).items():
            yield from self._once("client_unfit", {"client": client, "reason": reason})
        failed = progress.get("failed", {})
        for client, reason in failed.get("clients", {}).items():
            yield from self._once(
                "client_failed", {"round": failed["round"], "client": client, "reason": reason}
            )

    def _missed(self) -> Iterator[Fact]:
        """What the last events say of clients: a session that ends shows it no longer."""
        known = {"client_unfit": ("client", "reason"), "client_failed": ("round", "client", "reason")}
        told = self._reducer.get("/events", session=self._session, event=list(known), newest=1)
        for event in told["events"]:
            fields = event["fields"]
            if "inquiry" not in fields:
                yield from self._once(event["event"], {name: fields[name] for name in known[event["event"]]})

    def _once(self, event: str, fields: dict[str, Any]) -> Iterator[Fact]:
        said = (event, *fields.values())
        if said not in self._said:
            self._said.add(said)
            yield Fact(event, {"session": self._session, **fields})

    def _rounds(self, info: dict[str, Any]) -> Iterator[Fact]:
        """What was committed and validated since the last look, each round's metrics right behind it."""
        fresh: list[dict[str, Any]] = []
        if info["head"]["round"] > self._committed:
            fresh = list(self._reducer.pages(f"{self._path}/rounds", "rounds", self._committed))
        if info["plan"]["validate"]:
            self._unvalidated |= {item["round"] for item in fresh}
        means = self._means({item["round"] for item in fresh})
        validated = {n: means[n]["validate"] for n in self._unvalidated if "validate" in means.get(n, {})}
        for number in sorted(validated.keys() - {item["round"] for item in fresh}):
            yield self._validation(number, validated[number])
        for item in fresh:
            self._committed = item["round"]
            train = means.get(item["round"], {}).get("train", {})
            yield Fact("round_committed", {"session": self._session, **item, "train": train})
            if item["round"] in validated:
                yield self._validation(item["round"], validated[item["round"]])
        self._unvalidated = {n for n in self._unvalidated if n > self._committed - LATE_ROUNDS}

    def _means(self, fresh: set[int]) -> dict[int, dict[str, Any]]:
        """The mean metrics that are there by now, of fresh rounds and those that still lacked theirs."""
        if not (wanted := fresh | self._unvalidated):
            return {}
        items = self._reducer.pages(f"{self._path}/metrics", "rounds", min(wanted) - 1)
        return {item["round"]: item for item in items if item["round"] in wanted}

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
                    last = str(event["number"])
                    if event["event"] == "lagged" or event["fields"].get("session") == self._session:
                        self._rung.set()
                    if self._closed.is_set():
                        return
            except (FednError, ValueError, KeyError, RuntimeError):  # RuntimeError: the client was closed
                pass
            self._closed.wait(LOOK_SECONDS)
