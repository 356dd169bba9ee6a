"""From a seed to the faults of a run: when, what, to whom, for how long. Pure, with chance of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from random import Random

KINDS = {"kill": 62, "stop": 13, "cut": 9, "freeze": 4, "delay": 4, "repeat": 4, "full": 4}
TIERS = {"reducer": 28, "combiner": 36, "client": 36}
AT_ONCE = 2
EVERY = 2.8
"""Seconds between two faults, on average."""


@dataclass(frozen=True, slots=True)
class Fault:
    """``at`` seconds into the run ``kind`` befalls ``victim``, and is over ``seconds`` later."""

    at: float
    kind: str
    victim: str
    seconds: float

    @property
    def until(self) -> float:
        return self.at + self.seconds

    @property
    def tier(self) -> str:
        return self.victim.partition("-")[0]

    def __str__(self) -> str:
        return f"{self.at:7.2f} s  {self.kind:6} {self.victim} for {self.seconds:.2f} s"


def draw(
    seed: int, seconds: float, combiners: Sequence[str], clients: Sequence[str],
    kills: int = 0, every: float = EVERY,
) -> list[Fault]:  # fmt: skip
    """The faults of a run of ``seconds``; it ends early with its ``kills``-th SIGKILL, if that is not 0."""
    faults: list[Fault] = []
    for fault in takewhile(lambda f: f.at < seconds, _endless(Random(seed), combiners, clients, every)):
        faults.append(fault)
        if kills and sum(f.kind == "kill" for f in faults) >= kills:
            break
    return faults


def _endless(rng: Random, combiners: Sequence[str], clients: Sequence[str], every: float) -> Iterator[Fault]:
    """Faults in order; at most two at once, never two on one victim."""
    now = 0.0
    open_: list[Fault] = []
    while True:
        now += rng.uniform(0.35, 1.65) * every
        open_ = [f for f in open_ if f.until > now]
        if len(open_) >= AT_ONCE:
            now = min(f.until for f in open_) + 0.1
            open_ = [f for f in open_ if f.until > now]
        fault = _fault(rng, now, combiners, clients)
        if fault.victim not in {f.victim for f in open_}:
            open_.append(fault)
            yield fault


def _fault(rng: Random, at: float, combiners: Sequence[str], clients: Sequence[str]) -> Fault:
    kind = _one(rng, KINDS)
    tier = _one(rng, TIERS)
    if kind in {"cut", "freeze", "delay", "repeat"} and tier == "client":
        tier = "combiner"  # a client opens no port; its links are its combiner's
    if kind == "full":  # a small disk is below the first of each tier
        combiners, clients = combiners[:1], clients[:1]
    victim = {"reducer": "reducer", "combiner": rng.choice(combiners), "client": rng.choice(clients)}[tier]
    return Fault(round(at, 3), kind, victim, round(_seconds(rng, kind, tier), 3))


def _seconds(rng: Random, kind: str, tier: str) -> float:
    """Mostly short; at times long enough that the neighbours give the victim up."""
    long = rng.random() < 0.2
    match kind, tier:
        case "kill", "combiner" if long:
            return rng.uniform(5.5, 6.5)
        case "kill", "client" if long:
            return rng.uniform(4.0, 8.0)
        case "stop", _:
            return rng.uniform(8.0, 15.0) if long else rng.uniform(0.5, 5.0)
        case (("freeze" | "delay" | "full" | "repeat"), _):
            return rng.uniform(1.0, 5.0)
        case _:
            return rng.uniform(0.0, 2.0)


def _one(rng: Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]
