"""Judges a run from what is left of it. Imports nothing of what it judges.

Reads the trail by REST, the kept updates and the notes of trainings from files, and trains and averages
everything again by itself, in one process.
"""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
from app import examples, trained
from safetensors.numpy import load

TOLERANCE = 1e-6
Model = dict[str, Any]
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Rest:
    """The reducer's REST API. Raises OSError when it does not answer."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/api/v1"

    def get(self, path: str) -> Any:
        return json.loads(self.bytes(path))

    def post(self, path: str, body: Any) -> Any:
        raw = isinstance(body, bytes)
        kind = "application/octet-stream" if raw else "application/json"
        return json.loads(
            self.bytes(path, body if raw else json.dumps(body).encode(), {"Content-Type": kind})
        )

    def records(self, session: str, after: int = -1) -> list[Any]:
        """All records above ``after``."""
        found: list[Any] = []
        while after is not None:
            page = self.get(f"/sessions/{session}/trail?after={after}")
            found, after = found + page["records"], page["next"]
        return found

    def bytes(self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
        request = urllib.request.Request(self._url + path, body, dict(headers or {}))
        try:
            with _direct.open(request, timeout=5.0) as answer:
                whole: bytes = answer.read()
                return whole
        except HTTPError as error:
            with error:
                raise ConnectionError(f"{path}: {error.read().decode(errors='replace')}") from None
        except HTTPException as error:  # an answer that was cut off
            raise ConnectionError(f"{path}: {error}") from error


@dataclass
class Evidence:
    """What a run left behind. ``seen``: the record's digest of every commit noticed during the run."""

    sessions: list[Any]
    trails: Mapping[str, list[Any]]
    blob: Callable[[str], bytes]
    updates: Mapping[tuple[str, int, str], Path]
    trainings: list[tuple[str, str, int]]
    seen: Mapping[tuple[str, int], str]


@dataclass
class Verdict:
    """How often each promise was broken, and the story of each in a sentence."""

    problems: list[str] = field(default_factory=list)
    lost: int = 0
    trained_twice: int = 0
    folded_twice: int = 0
    rounds: int = 0
    largest: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.problems

    def wrong(self, what: str, lost: int = 0, trained: int = 0, folded: int = 0) -> None:
        self.problems.append(what)
        self.lost, self.trained_twice = self.lost + lost, self.trained_twice + trained
        self.folded_twice += folded


def kept_updates(clients: Path) -> dict[tuple[str, int, str], Path]:
    """Every settled update that clients keep below ``clients``, by (session, round, digest)."""
    found = {}
    for path in clients.glob("*/kept/*.safetensors"):
        session, number, digest = path.stem.rsplit("-", 2)
        found[session, int(number), digest] = path
    return found


def noted_trainings(notes: Path) -> list[tuple[str, str, int]]:
    """(client, session, round) of every training that reached its journal."""
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [(client, session, int(number)) for _, client, session, number, _ in map(str.split, lines)]


def collect(rest: Rest, directory: Path, seen: Mapping[tuple[str, int], str]) -> Evidence:
    """The evidence of a federation below ``directory``, read while its reducer still answers."""
    sessions = rest.get("/sessions")["sessions"]
    return Evidence(
        sessions,
        {s["session"]: rest.records(s["session"]) for s in sessions},
        lambda digest: rest.bytes(f"/models/{digest}"),
        kept_updates(directory / "clients"),
        noted_trainings(directory / "trainings"),
        dict(seen),
    )


def audit(evidence: Evidence, unnoted: int = 0) -> Verdict:
    """Every session finished, nothing lost, nobody trained twice, nothing counted twice.

    ``unnoted``: how many trainings may lack their note, for clients that were killed just before it.
    """
    verdict = Verdict()
    for session in evidence.sessions:
        _session(session, evidence, verdict)
    for (session, number), digest in evidence.seen.items():
        kept = {item["record"]["round"]: item["digest"] for item in evidence.trails.get(session, [])}
        if kept.get(number) != digest:
            verdict.wrong(f"{session}: round {number} was committed, and is gone or changed", lost=1)
    for (client, session, number), times in Counter(evidence.trainings).items():
        if times > 1:
            verdict.wrong(f"{session}: {client} trained round {number} {times} times", trained=times - 1)
    records = [item["record"] for trail in evidence.trails.values() for item in trail]
    counted = {
        (c["client"], record["session"], record["round"]) for record in records for c in contributors(record)
    }
    silent = counted - set(evidence.trainings)
    if len(silent) > unnoted:
        verdict.wrong(f"{len(silent)} updates count though no training was noted, such as {min(silent)}")
    return verdict


def _session(session: Any, evidence: Evidence, verdict: Verdict) -> None:
    name = f"{session['name']} ({session['session']})"
    records = evidence.trails[session["session"]]
    if session["state"] != "finished" or len(records) != session["plan"]["rounds"] + 1:
        state = f"is {session['state']} after {len(records) - 1} rounds {session['reason']}"
        verdict.wrong(f"{name}: {state}", lost=session["plan"]["rounds"] + 1 - len(records))
    parent, base, replay = "0" * 64, "", None
    for number, item in enumerate(records):
        record = json.loads(item["raw"])
        _link(name, number, item, record, parent, base, verdict)
        parent, base = item["digest"], record["model"]
        blob = evidence.blob(base)
        if sha256(blob).hexdigest() != base:
            verdict.wrong(f"{name}: the model of round {number} is not what its digest says")
        model = load(blob)
        if replay is None:
            replay = model
            continue
        verdict.rounds += 1
        kept = _mean(_kept(name, record, evidence, verdict))
        replay = _cast(_mean(_trained_again(name, record, replay, verdict)), model)
        for how, expected in (("the kept updates", kept), ("a replay", replay)):
            difference = largest_difference(model, expected)
            verdict.largest = max(verdict.largest, difference)
            if not difference <= TOLERANCE:
                story = f"{name}: the model of round {number} differs by {difference:.3g} from {how}"
                verdict.wrong(story, folded=how == "the kept updates")
        _once(name, record, verdict)


def _link(name: str, number: int, item: Any, record: Any, parent: str, base: str, verdict: Verdict) -> None:
    """One record and the one before it."""
    if sha256(item["raw"].encode()).hexdigest() != item["digest"]:
        verdict.wrong(f"{name}: the record of round {number} is not what its digest says")
    if record != item["record"] or record["round"] != number or record["parent"] != parent:
        verdict.wrong(f"{name}: the record of round {number} does not follow the one before")
    if number and record["base_model"] != base:
        verdict.wrong(f"{name}: round {number} was not trained from the model before it")


def contributors(record: Any) -> list[Any]:
    return [contributor for part in record["parts"] for contributor in part["contributors"]]


def _once(name: str, record: Any, verdict: Verdict) -> None:
    for client, times in Counter(c["client"] for c in contributors(record)).items():
        if times > 1:
            verdict.wrong(
                f"{name}: {client} counts {times} times in round {record['round']}", folded=times - 1
            )


Weighted = Iterable[tuple[int, Model]]


def _kept(name: str, record: Any, evidence: Evidence, verdict: Verdict) -> Weighted:
    """(examples, update) of every contributor, as its client kept it."""
    for c in contributors(record):
        path = evidence.updates.get((record["session"], record["round"], c["digest"]))
        if path is None:
            verdict.wrong(f"{name}: {c['client']} has not kept its update of round {record['round']}")
            continue
        file = path.read_bytes()
        if sha256(file).hexdigest() != c["digest"]:
            verdict.wrong(f"{name}: {path.name} is not what its digest says")
        yield c["examples"], load(file)


def _trained_again(name: str, record: Any, base: Model, verdict: Verdict) -> Weighted:
    """(examples, update) of every contributor, from the app's own function and our own model."""
    number = record["round"]
    for c in contributors(record):
        index = int(c["client"].split("-")[1]) - 1
        if c["examples"] != examples(number, index):
            verdict.wrong(f"{name}: {c['client']} counts with {c['examples']} examples in round {number}")
        yield examples(number, index), trained(base, number, index)


def _mean(updates: Weighted) -> Model:
    """Σ n·x / Σ n in float64."""
    total: Model = {}
    weight = 0
    for n, update in updates:
        weight += n
        for key, value in update.items():
            total[key] = total.get(key, 0.0) + n * value.astype(np.float64)
    return {key: value / weight for key, value in total.items()}


def _cast(model: Model, like: Model) -> Model:
    return {key: value.astype(like[key].dtype) for key, value in model.items()}


def largest_difference(model: Model, other: Model) -> float:
    """The largest |difference| of an element; infinite where names or shapes differ."""
    if {k: v.shape for k, v in model.items()} != {k: v.shape for k, v in other.items()}:
        return float("inf")
    return max(float(np.max(np.abs(v.astype(np.float64) - other[k]), initial=0.0)) for k, v in model.items())
