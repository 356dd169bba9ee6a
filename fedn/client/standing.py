"""How a client stands, for people on its own machine: a small file in its folder, written as things happen.

`fedn client status` reads it, whether or not the client runs. It is a courtesy: a full disk keeps nobody from
training.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedn.ports import Observed, Observer

SHOWN = (
    "reducer", "app", "data", "confinement", "combiner", "sessions", "allow", "hours", "cpus", "memory",
    "hyperparameters",
)  # fmt: skip
"""Settings that are shown; others are nobody's business, or secret."""
KEPT_ROUNDS = 20
MAX_BYTES = 2**20
MAX_TEXT = 500


class Standing:
    """Implements ports.Observer: writes how the client stands, and its ``settings``, to ``path``."""

    def __init__(
        self, path: Path, settings: Mapping[str, Any], clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._clock = clock
        before = read_standing(path)
        self._told: dict[str, Any] = {
            "pid": os.getpid(), "since": clock(), "settings": {name: settings[name] for name in SHOWN},
            "state": "looking",
            "combiner": "", "address": "", "reason": "", "working": None,
            "rounds": before.get("rounds", [])[:KEPT_ROUNDS],
        }  # fmt: skip
        self._write()

    def observe(self, observed: Observed) -> None:
        fields = {
            name: value for name, value in observed.fields.items() if isinstance(value, str | int | float)
        }
        match observed.event:
            case "attached":
                self._told |= {"state": "attached", "combiner": fields["combiner"], "reason": ""}
                self._told["address"] = fields.get("address", "")
            case "detached" | "back":
                self._told |= {"state": "looking", "combiner": "", "address": "", "reason": ""}
            case "away":
                self._told |= {"state": "away", "combiner": "", "address": "", "reason": fields["reason"]}
            case "leaving":
                self._told |= {"state": "leaving", "reason": fields["reason"]}
            case "waiting":
                self._told["reason"] = str(fields["reason"])[:MAX_TEXT]
            case "working":
                self._told["working"] = {**_at(fields), "kind": str(fields["kind"]), "since": self._clock()}
            case "worked":
                self._told["working"] = None
            case "settled" | "refused" | "failed":
                self._ended(observed.event, fields)
            case _:
                return
        self._write()

    def _ended(self, how: str, fields: Mapping[str, Any]) -> None:
        if fields.get("kind", "train") != "train":
            return
        counted = "counted" if fields.get("counted") else "not counted"
        outcome = {
            **_at(fields), "at": self._clock(), "outcome": counted if how == "settled" else how,
            "reason": str(fields.get("reason", ""))[:MAX_TEXT],
        }  # fmt: skip
        self._told["rounds"] = [outcome, *self._told["rounds"]][:KEPT_ROUNDS]

    def _write(self) -> None:
        aside = self._path.with_suffix(".tmp")
        with suppress(OSError):
            with open(aside, "w", opener=_for_its_owner) as file:
                json.dump(self._told, file)
            aside.replace(self._path)


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Both:
    """Implements ports.Observer: tells one observer, then the other."""

    def __init__(self, first: Observer, second: Observer) -> None:
        self._observers = (first, second)

    def observe(self, observed: Observed) -> None:
        for observer in self._observers:
            observer.observe(observed)


def _at(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"session": str(fields.get("session", "")), "round": int(fields.get("round", 0))}


def read_standing(path: Path) -> dict[str, Any]:
    """What was last written there; empty if that is nothing that can be read."""
    with suppress(OSError, ValueError, RecursionError), path.open("rb") as file:
        told = json.loads(file.read(MAX_BYTES))
        if isinstance(told, dict) and isinstance(told.get("rounds"), list):
            return told
    return {}
