"""Judges a run from what is left of it. Imports nothing of what it judges.

Reads the trail by REST, the kept updates and the clients' notes from files, and trains and averages
everything again by itself, in one process.
"""

from __future__ import annotations

import json
import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from app import examples, trained
from safetensors.numpy import load

TOLERANCE = 1e-6
ALWAYS_TOLD = ("rounds lost", "double trainings", "double folds")
Model = dict[str, Any]


def connect(url: str, network: Path | None = None) -> httpx.Client:
    """To the reducer's REST API, as the administrator of the network that ``network`` holds, if there is one.

    Its calls raise httpx.HTTPError when it does not answer, or refuses.
    """
    headers: dict[str, str] = {}
    verify: ssl.SSLContext | bool = True
    if network:
        headers["Authorization"] = f"Bearer {(network / 'admin.token').read_text().strip()}"
        verify = ssl.create_default_context(cafile=str(network / "ca.pem"))

    def complain(answer: httpx.Response) -> None:
        if answer.is_error:
            raise httpx.HTTPError(answer.read().decode(errors="replace"))

    hooks = {"response": [complain]}
    base = f"{url}/api/v1"
    return httpx.Client(
        base_url=base, headers=headers, verify=verify, timeout=5.0, trust_env=False, event_hooks=hooks
    )


def records(rest: httpx.Client, session: str, after: int = -1) -> list[Any]:
    """All records above ``after``."""
    found: list[Any] = []
    while after is not None:
        page = rest.get(f"/sessions/{session}/trail?after={after}").json()
        found, after = found + page["records"], page["next"]
    return found


def renewals(rest: httpx.Client, verdict: Verdict) -> int:
    """How many certificates were renewed, by the reducer's audit log, which must be whole."""
    if not (report := rest.get("/audit/verify").json())["ok"]:
        verdict.wrong("audit log wrong", f"the audit log is not whole: {report}")
    found, after = 0, 0
    while after is not None:
        page = rest.get(f"/audit?after={after}&limit=500").json()
        found += sum(entry["event"] == "renewed" for entry in page["entries"])
        after = page["next"]
    return found


Note = tuple[str, str, str, int]
"""(what, client, session, round). It trained or deleted, or was told: counted, uncounted or refused."""


@dataclass
class Evidence:
    """What a run left behind. ``seen``: the record's digest of every commit noticed during the run."""

    sessions: list[Any]
    trails: Mapping[str, list[Any]]
    blob: Callable[[str], bytes]
    updates: Mapping[tuple[str, int, str], Path]
    notes: list[Note]
    seen: Mapping[tuple[str, int], str]


@dataclass
class Verdict:
    """How often each promise was broken, and the story of each in a sentence."""

    problems: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ALWAYS_TOLD, 0))
    rounds: int = 0

    @property
    def ok(self) -> bool:
        return not self.problems

    def wrong(self, what: str, story: str, times: int = 1) -> None:
        self.problems.append(story)
        self.counts[what] = self.counts.get(what, 0) + times

    def __str__(self) -> str:
        return ", ".join(f"{what} {times}" for what, times in self.counts.items())


def read_notes(path: Path) -> list[Note]:
    """What `launch` wrote there."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(what, client, session, int(number)) for what, client, session, number in map(str.split, lines)]


def collect(rest: httpx.Client, directory: Path, seen: Mapping[tuple[str, int], str]) -> Evidence:
    """The evidence of a federation below ``directory``, read while its reducer still answers."""
    sessions = rest.get("/sessions").json()["sessions"]
    trails = {s["session"]: records(rest, s["session"]) for s in sessions}
    updates = {}
    for path in (directory / "clients").glob("*/kept/*.safetensors"):
        session, number, digest = path.stem.rsplit("-", 2)
        updates[session, int(number), digest] = path

    def blob(digest: str) -> bytes:
        return rest.get(f"/models/{digest}").content

    return Evidence(sessions, trails, blob, updates, read_notes(directory / "notes"), dict(seen))


def audit(evidence: Evidence, unnoted: int = 0) -> Verdict:
    """Every session finished, nothing lost, nobody trained twice, nothing counted twice, nobody misled.

    ``unnoted``: how many trainings may lack their note, for clients that were killed just before it.
    """
    verdict = Verdict()
    for session in evidence.sessions:
        _session(session, evidence, verdict)
    for (session, number), digest in evidence.seen.items():
        kept = {item["record"]["round"]: item["digest"] for item in evidence.trails.get(session, [])}
        if kept.get(number) != digest:
            verdict.wrong("rounds lost", f"{session}: round {number} was committed, and is gone or changed")
    _notes(evidence, unnoted, verdict)
    return verdict


def _notes(evidence: Evidence, unnoted: int, verdict: Verdict) -> None:
    """Who counts trained once; what clients were told is what the records say; before that they kept all."""
    trail = [item["record"] for records in evidence.trails.values() for item in records]
    counted = {(c["client"], r["session"], r["round"]) for r in trail for c in contributors(r)}
    noted, over = set(), set()
    for what, client, session, number in evidence.notes:
        update, story = (client, session, number), f"{session}: {client} {what} in round {number}, "
        match what:
            case "trained" if update in noted:
                verdict.wrong("double trainings", story + "again")
            case "trained":
                noted.add(update)
            case "deleted" if update not in over:
                verdict.wrong("deleted too early", story + "which was not over")
            case "counted" | "uncounted" if (what == "counted") != (update in counted):
                verdict.wrong("settled wrongly", story + "it was told; the record says otherwise")
        if what in {"counted", "uncounted", "refused"}:
            over.add(update)
    if len(silent := counted - noted) > unnoted:
        story = f"{len(silent)} updates count though no training was noted, such as {min(silent)}"
        verdict.wrong("trainings not noted", story, len(silent))


def _session(session: Any, evidence: Evidence, verdict: Verdict) -> None:
    id_, rounds = session["session"], session["plan"]["rounds"]
    name = f"{session['name']} ({id_})"
    trail = evidence.trails[id_]
    state = f"{name}: is {session['state']} after {len(trail) - 1} of {rounds} rounds {session['reason']}"
    if session["state"] != "finished":
        verdict.wrong("sessions not finished", state)
    made = {item["record"]["round"] for item in trail} | {n for s, n in evidence.seen if s == id_}
    if missing := set(range(rounds + 1)) - made:
        verdict.wrong("rounds missing", f"{name}: {len(missing)} rounds were never made", len(missing))
    if len(trail) > rounds + 1:
        verdict.wrong("records wrong", state)
    parent, base, replay = "0" * 64, "", None
    for number, item in enumerate(trail):
        record = json.loads(item["raw"])
        _link(name, number, item, record, parent, base, verdict)
        parent, base = item["digest"], record["model"]
        blob = evidence.blob(base)
        if sha256(blob).hexdigest() != base:
            verdict.wrong("models wrong", f"{name}: the model of round {number} is not what its digest says")
        model = load(blob)
        if replay is not None:
            verdict.rounds += 1
            kept, again = _updates(name, record, replay, evidence, verdict)
            replay = _cast(_mean(again), model)
            if not _fits(f"{name}: the model of round {number}", model, kept, replay, verdict):
                replay = model  # so that one wrong model is one problem
            for client, times in Counter(c["client"] for c in contributors(record)).items():
                if times > 1:
                    story = f"{name}: {client} counts {times} times in round {number}"
                    verdict.wrong("double folds", story, times - 1)
        else:
            replay = model


def _link(name: str, number: int, item: Any, record: Any, parent: str, base: str, verdict: Verdict) -> None:
    """One record and the one before it."""
    if sha256(item["raw"].encode()).hexdigest() != item["digest"]:
        verdict.wrong("records wrong", f"{name}: the record of round {number} is not what its digest says")
    if record != item["record"] or record["round"] != number or record["parent"] != parent:
        verdict.wrong("records wrong", f"{name}: the record of round {number} does not follow the one before")
    if number and record["base_model"] != base:
        verdict.wrong("records wrong", f"{name}: round {number} was not trained from the model before it")


def contributors(record: Any) -> list[Any]:
    return [contributor for part in record["parts"] for contributor in part["contributors"]]


Weighted = tuple[str, int, Model]
"""(client, examples, update)"""


def _updates(
    name: str, record: Any, base: Model, evidence: Evidence, verdict: Verdict
) -> tuple[list[Weighted], list[Weighted]]:
    """Every contributor's: as its client kept them, and by the app's own function from our own model."""
    kept, again, number = [], [], record["round"]
    for c in contributors(record):
        client, index = c["client"], int(c["client"].split("-")[1]) - 1
        again.append((client, examples(number, index), trained(base, number, index)))
        path = evidence.updates.get((record["session"], number, c["digest"]))
        file = path.read_bytes() if path else b""
        if c["examples"] != examples(number, index) or sha256(file).hexdigest() != c["digest"]:
            story = f"{name}: in round {number} {client} counts with another update than it kept, or none"
            verdict.wrong("updates wrong", story)
        if path:
            kept.append((client, c["examples"], load(file)))
    return kept, again


def _fits(what: str, model: Model, kept: list[Weighted], replay: Model, verdict: Verdict) -> bool:
    apart, replayed = largest_difference(model, _mean(kept)), largest_difference(model, replay)
    if apart <= TOLERANCE and replayed <= TOLERANCE:
        return True
    counter, reason = ("models wrong", "") if apart <= TOLERANCE else _explained(model, kept)
    story = f"{what} differs by {apart:.3g} from the kept updates, by {replayed:.3g} from a replay{reason}"
    verdict.wrong(counter, story)
    return False


def _explained(model: Model, kept: list[Weighted]) -> tuple[str, str]:
    """Whether one update more or less in the sum makes it this model, be its weight in the divisor or not."""
    weight = sum(n for _, n, _ in kept)
    for one in kept:
        others = [other for other in kept if other is not one]
        for counter, folded in ("double folds", [*kept, one]), ("dropped updates", others):
            if any(largest_difference(model, _mean(folded, by)) <= TOLERANCE for by in (0, weight)):
                return counter, f"; {counter}: {one[0]}"
    return "models wrong", ""


def _mean(updates: Iterable[Weighted], by: int = 0) -> Model:
    """Σ n·x / Σ n in float64, or divided by ``by``."""
    total: Model = {}
    weight = 0
    for _, n, update in updates:
        weight += n
        for key, value in update.items():
            total[key] = total.get(key, 0.0) + n * value.astype(np.float64)
    return {key: value / (by or weight) for key, value in total.items()}


def _cast(model: Model, like: Model) -> Model:
    return {key: value.astype(like[key].dtype) for key, value in model.items()}


def largest_difference(model: Model, other: Model) -> float:
    """The largest |difference| of an element; infinite where names or shapes differ."""
    if {k: v.shape for k, v in model.items()} != {k: v.shape for k, v in other.items()}:
        return float("inf")
    return max(float(np.max(np.abs(v.astype(np.float64) - other[k]), initial=0.0)) for k, v in model.items())
