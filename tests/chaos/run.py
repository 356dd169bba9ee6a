"""Chaos: a federation of real processes under random faults, and a verdict on what came out of it.

    python tests/chaos/run.py --seconds 60 --seed 1

The seed alone decides which faults come when; the same seed brings them again. While it runs, every fault is
a line on stderr. The last line of stdout is the summary; the exit code is 0 only if every session finished,
no committed round was lost, nobody trained a round twice, nothing counted twice, and nothing was left behind.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from random import Random

from audit import Evidence, Verdict, audit, collect, renewals
from lanes import Lanes
from schedule import EVERY, TIERS, Fault, draw
from world import World

COMBINERS, CLIENTS, ROUNDS, MIN_CLIENTS = 2, 6, 20, 4
PATIENCE = 120.0


@dataclass
class Made:
    """A fault that was made, and when by the wall clock.

    ``recovery``: seconds until every session that was running then had committed again, or ended; infinite if
    one never did, None if none was running. ``alone``: no other fault was there meanwhile.
    """

    fault: Fault
    wall: float
    recovery: float | None = None
    alone: bool = True


@dataclass
class Report:
    """What a run did, and the verdict on it."""

    seed: int
    tls: bool = False
    seconds: float = 0.0
    made: list[Made] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    sessions: int = 0
    renewals: int = 0
    no_disks: str = ""

    def recovery(self, percent: int, kind: str, tier: str = "", alone: bool = False) -> str:
        """By nearest rank."""
        chosen = [m for m in self.made if m.fault.kind == kind and m.fault.tier.startswith(tier)]
        known = sorted(m.recovery for m in chosen if m.recovery is not None and (m.alone or not alone))
        if not known:
            return "–"
        seconds = known[max(0, -(-len(known) * percent // 100) - 1)]
        return "never" if seconds == inf else f"{seconds:.1f} s"

    def recoveries(self, kind: str) -> str:
        p50, p95, longest = (self.recovery(percent, kind) for percent in (50, 95, 100))
        return f"recovery after {kind} p50 {p50}, p95 {p95}, longest {longest}"

    def summary(self) -> str:
        made = Counter(m.fault.kind for m in self.made)
        kills = [m for m in self.made if m.fault.kind == "kill"]
        tiers = Counter(m.fault.tier for m in kills)
        killed = ", ".join(f"{tiers[tier]} {tier}" for tier in TIERS)
        by_tier = ", ".join(f"{tier} {self.recovery(95, 'kill', tier)}" for tier in TIERS)
        disks = f"no full disks ({self.no_disks})" if self.no_disks else f"{made['full']} full disks"
        network = f"TLS ({self.renewals} certificates renewed), " if self.tls else ""
        return (
            f"chaos {'passed' if self.verdict.ok else 'FAILED'}: "
            f"seed {self.seed}, {network}{self.seconds:.0f} s, {made['kill']} kills ({killed}), "
            f"{made['stop']} stops, {made['cut']} cuts, {made['freeze']} freezes, {made['delay']} delays, "
            f"{made['repeat']} repeats, {disks}; {self.verdict.rounds} rounds in {self.sessions} sessions; "
            f"{self.verdict}; {self.recoveries('kill')}; p95 by tier {by_tier}; "
            f"p95 {self.recovery(95, 'kill', alone=True)} after the {sum(m.alone for m in kills)} kills "
            f"that no other fault met"
        )

    def json(self) -> str:
        """Every fault that was made, and the rest."""
        told = asdict(self)
        for made in told["made"]:
            made["recovery"] = "never" if made["recovery"] == inf else made["recovery"]
        return json.dumps(told, default=str)


Script = Callable[[World, Lanes], None]


def trial(
    directory: Path, report: Report, script: Script, mutation: str = "-", homes: bool = False,
    rounds: int = ROUNDS, patience: float = PATIENCE,
) -> Report:  # fmt: skip
    """Start a federation, let ``script`` break it, let it finish, judge what is left."""
    began = time.monotonic()
    wrong: list[tuple[str, str]] = []
    with (
        World(directory, COMBINERS, CLIENTS, mutation, homes, patience, report.tls) as world,
        Lanes(world.sandbox.url, world.network, rounds, MIN_CLIENTS) as lanes,
    ):
        report.no_disks = world.no_disks
        try:
            _live_through(world, lanes, script)
        except TimeoutError as error:
            wrong.append(("waits in vain", f"{error}; {lanes.trouble}"))
        evidence = collect(lanes.rest, directory, lanes.seen)
        report.verdict = audit(evidence, unnoted=world.clients_killed)
        if world.network:
            report.renewals = renewals(lanes.rest, report.verdict)
        left = world.staged()
        world.sandbox.stop()
        left += world.temporary() + world.processes_left()
    left += [line for line in Path("/proc/mounts").read_text().splitlines() if str(directory) in line]
    wrong += [("deaths", story) for story in world.deaths]
    wrong += [("left behind", f"left behind: {what}") for what in left]
    for what, story in wrong:
        report.verdict.wrong(what, story)
    report.sessions, report.seconds = len(evidence.sessions), time.monotonic() - began
    measure(report.made, evidence)
    return report


def _live_through(world: World, lanes: Lanes, script: Script) -> None:
    world.until(lambda: lanes.head("small") and lanes.head("large"), "the first rounds")
    script(world, lanes)
    world.recover()
    lanes.last = True
    world.until(lanes.done.is_set, "the sessions to finish")
    world.until(world.journals_empty, "the journals to be settled")


def measure(made: Sequence[Made], evidence: Evidence) -> None:
    """A session that has finished ran until its last commit; any other still does."""
    spans = []
    for session in evidence.sessions:
        times = sorted(item["record"]["committed_at"] for item in evidence.trails[session["session"]])
        spans.append((times, times[-1] if session["state"] == "finished" else inf))
    for m in made:
        running = [times for times, end in spans if times[0] <= m.wall < end]
        nexts = [min((t for t in times if t > m.wall), default=inf) - m.wall for times in running]
        m.recovery = max(nexts, default=None)
        end = m.wall + (m.recovery or 0.0)
        m.alone = not any(o.wall < end and m.wall < o.wall + o.fault.seconds for o in made if o is not m)


def chaos(report: Report, seconds: float, kills: int, every: float, world: World, lanes: Lanes) -> None:
    """Makes the seed's faults at their times, and reports them."""
    faults = draw(report.seed, seconds, world.combiners, world.clients, kills, every)
    rng, start = Random(f"{report.seed} links"), time.monotonic()
    ends: list[tuple[float, Callable[[], object]]] = []
    while faults or ends:
        now = time.monotonic() - start
        for due in [due for due in ends if due[0] <= now]:
            due[1]()
            ends.remove(due)
        if faults and faults[0].at <= now:
            fault, wall = faults.pop(0), time.time()
            if end := world.begin(fault, rng):
                report.made.append(Made(fault, wall))
                ends.append((fault.until, end))
                print(f"{fault}   {lanes.rounds} rounds", file=sys.stderr, flush=True)
        world.supervise()
        time.sleep(0.02)


def main(given: Sequence[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--seconds", type=float, help="how long faults are made (default 60; with --kills 3600)")
    add("--seed", type=int, default=1, help="which faults (default 1)")
    add("--kills", type=int, default=0, help="stop after so many SIGKILLs (default: go on)")
    add("--every", type=float, default=EVERY, help=f"seconds between faults on average (default {EVERY})")
    add("--tls", action="store_true", help="a secured network, whose certificates last a minute")
    add("--json", action="store_true", help="print the whole report as JSON before the summary")
    add("--keep", type=Path, help="keep logs, trail and updates in this new directory")
    asked = parser.parse_args(given)
    asked.seconds = asked.seconds or (3600.0 if asked.kills else 60.0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that processes and mounts go, too
    directory = asked.keep or Path(tempfile.mkdtemp(prefix="fedn-chaos-"))
    directory.mkdir(parents=True, exist_ok=not asked.keep)
    report = Report(asked.seed, asked.tls)
    trial(directory, report, partial(chaos, report, asked.seconds, asked.kills, asked.every))
    if asked.json:
        print(report.json())
    kinds = sorted({m.fault.kind for m in report.made})
    print(*map(report.recoveries, kinds), *report.verdict.problems, sep="\n")
    if report.verdict.ok and not asked.keep:
        shutil.rmtree(directory)
    else:
        print(f"logs, trail and updates: {directory}")
    print(report.summary())
    return 0 if report.verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
