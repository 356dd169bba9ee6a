"""The open round as bars: where each of its clients stands, and for how long. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from fedn.domain.messages import STAGES
from fedn.reducer.timing import AT_WORK

LANES_SHOWN = 30
WORDS = {
    "waiting": "waiting",
    "training": "training",
    "uploading": "uploading",
    "folded": "done",
    "refused": "refused",
    "failed": "failed",
    "lost": "lost",
}
"""What people are told of `STAGES`."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One client's bar: ``start`` to ``end``, in per cent of the time since the round was opened."""

    client: str
    name: str
    combiner: str
    state: str
    since: float
    seconds: float
    start: float
    end: float
    late: bool

    @property
    def at_work(self) -> bool:
        return self.state in AT_WORK


@dataclass(frozen=True, slots=True)
class OpenRound:
    """``counts`` are all clients by state, ``others`` those without a lane of their own.

    ``usual`` is after how many seconds half of those updates came in that are in; None before there are two.
    """

    number: int
    opened_at: float
    now: float
    part: str
    lanes: tuple[Lane, ...]
    counts: Mapping[str, int]
    others: Mapping[str, int]
    usual: float | None


def open_round(progress: Mapping[str, Any], names: Mapping[str, str], now: float) -> OpenRound | None:
    """From `Front.round_progress`; None while no round is open."""
    clients: Mapping[str, Mapping[str, Any]] = progress.get("clients", {})
    if not clients:
        return None
    opened_at = min(float(progress.get("opened_at", now)), now)
    late = frozenset(progress.get("stragglers", {}).get("clients", ()))
    span = max(now - opened_at, 1.0)
    lanes = [_lane(client, at, names, opened_at, span, now, client in late) for client, at in clients.items()]
    shown = sorted(lanes, key=_slowest)[:LANES_SHOWN]
    if len(lanes) <= LANES_SHOWN:  # all have a place, and keep it
        shown.sort(key=lambda lane: (lane.name, lane.client))
    hidden = {lane.client for lane in lanes} - {lane.client for lane in shown}
    done = [max(0.0, lane.since - opened_at) for lane in lanes if lane.state == "folded"]
    return OpenRound(
        number=progress.get("round", 0),
        opened_at=opened_at,
        now=now,
        part=_part(progress, lanes),
        lanes=tuple(shown),
        counts=_counts(lane.state for lane in lanes),
        others=_counts(lane.state for lane in lanes if lane.client in hidden),
        usual=median(done) if len(done) > 1 else None,
    )


def _lane(
    client: str, at: Mapping[str, Any], names: Mapping[str, str], opened: float, span: float, now: float,
    late: bool,
) -> Lane:  # fmt: skip
    state, since = str(at.get("state", "waiting")), min(max(float(at.get("since", now)), opened), now)
    start = 100 * (since - opened) / span
    working = state in AT_WORK
    return Lane(
        client=client,
        name=names.get(client) or client,
        combiner=str(at.get("combiner", "")),
        state=state,
        since=since,
        seconds=now - since if working else since - opened,
        start=start if working else 0.0,
        end=100 * (now - opened) / span if working else start,
        late=late,
    )


def _slowest(lane: Lane) -> tuple[bool, bool, bool, float, str]:
    """Who holds up the round comes first, then who did not make it, then who was last."""
    return not lane.late, not lane.at_work, lane.state == "folded", -lane.since, lane.client


def _part(progress: Mapping[str, Any], lanes: list[Lane]) -> str:
    if progress.get("state") == "committing":
        return "committing"
    return "clients" if any(lane.at_work for lane in lanes) or _missing(progress) else "reducing"


def _missing(progress: Mapping[str, Any]) -> bool:
    """Whether updates are still to come: for more clients, or of one whose combiner is away."""
    settled = progress.get("received", 0) + len({**progress.get("refused", {}), **progress.get("lost", {})})
    return bool(progress.get("waits")) or settled < progress.get("expected", 0)


def _counts(states: Any) -> dict[str, int]:
    counted = Counter(states)
    return {state: counted[state] for state in STAGES if counted[state]}
