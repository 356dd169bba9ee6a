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
from pathlib import Path
from random import Random

from audit import Evidence, Verdict, audit, collect
from lanes import Lanes
from schedule import EVERY, Fault, draw
from world import World, names

COMBINERS, CLIENTS, ROUNDS = 2, 6, 20
MIN_CLIENTS = 4
PATIENCE = 120.0


@dataclass
class Made:
    """A fault that was made, and when by the wall clock.

    ``pause``: seconds until the next commit of any session that ran then; ``slowest``: until each of them had
    committed again; None where nothing was left to commit. ``alone``: no other fault was there meanwhile.
    """

    fault: Fault
    wall: float
    pause: float | None = None
    slowest: float | None = None
    alone: bool = True


@dataclass
class Report:
    """What a run did, and the verdict on it."""

    seed: int
    seconds: float = 0.0
    made: list[Made] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    sessions: int = 0
    no_disks: str = ""

    def pauses(self, kind: str, which: str = "pause", alone: bool = False) -> list[float]:
        made = [m for m in self.made if m.fault.kind == kind and (m.alone or not alone)]
        return sorted(pause for m in made if (pause := getattr(m, which)) is not None)

    def summary(self) -> str:
        made, verdict = Counter(m.fault.kind for m in self.made), self.verdict
        tiers = Counter(m.fault.tier for m in self.made if m.fault.kind == "kill")
        kills = ", ".join(f"{tiers[tier]} {tier}" for tier in ("reducer", "combiner", "client"))
        pauses, alone = self.pauses("kill"), self.pauses("kill", alone=True)
        disks = f"no full disks ({self.no_disks})" if self.no_disks else f"{made['full']} full disks"
        return (
            f"chaos: seed {self.seed}, {self.seconds:.0f} s, {made['kill']} kills ({kills}), "
            f"{made['stop']} stops, {made['cut']} cuts, {made['freeze']} freezes, {made['delay']} delays, "
            f"{made['repeat']} repeats, {disks}; {verdict.rounds} rounds in {self.sessions} sessions; "
            f"rounds lost {verdict.lost}, double trainings {verdict.trained_twice}, "
            f"double folds {verdict.folded_twice}; pause p50 {_percentile(pauses, 50)}, "
            f"p95 {_percentile(pauses, 95)} ({_percentile(alone, 95)} after the {len(alone)} kills that "
            f"no other fault met), longest {_percentile(pauses, 100)}"
        )


Script = Callable[[World, Lanes, Report], None]


def trial(
    directory: Path, report: Report, script: Script, mutation: str = "-",
    rounds: int = ROUNDS, patience: float = PATIENCE,
) -> Report:  # fmt: skip
    """Start a federation, let ``script`` break it, let it finish, judge what is left."""
    began = time.monotonic()
    homes = script.__name__ != "chaos"
    with (
        World(directory, COMBINERS, CLIENTS, mutation, homes, patience) as world,
        Lanes(world.sandbox.url, rounds, MIN_CLIENTS) as lanes,
    ):
        report.no_disks = world.no_disks
        wrong: list[str] = []
        try:
            _live_through(world, lanes, report, script)
        except TimeoutError as error:
            wrong.append(f"{error}; {lanes.trouble}")
        evidence = collect(lanes.rest, directory, lanes.seen)
        report.verdict = audit(evidence, unnoted=sum(m.fault.tier == "client" for m in report.made))
        wrong += world.staged()
        world.sandbox.stop()
        wrong += _leftovers(world)
    wrong += [f"still mounted: {line}" for line in _mounts() if str(directory) in line]
    report.verdict.problems += wrong
    report.sessions, report.seconds = len(evidence.sessions), time.monotonic() - began
    _measure(report.made, evidence)
    return report


def _live_through(world: World, lanes: Lanes, report: Report, script: Script) -> None:
    world.until(lambda: lanes.head("small") and lanes.head("large"), "the first rounds")
    script(world, lanes, report)
    world.recover()
    lanes.finish()
    world.until(lambda: lanes.finished, "the sessions to finish")
    world.until(world.journals_empty, "the journals to be settled")


def _mounts() -> list[str]:
    return Path("/proc/mounts").read_text().splitlines()


def _leftovers(world: World) -> list[str]:
    """What there should not be once all have been stopped."""
    deaths = [d for d in world.deaths if not d.excused]
    return [
        *(f"{d.name} ended by itself with exit code {d.code}:\n{d.tail}" for d in deaths),
        *(f"left behind: {path}" for path in world.temporary()),
        *world.processes_left(),
    ]


def _measure(made: Sequence[Made], evidence: Evidence) -> None:
    commits = [
        sorted(item["record"]["committed_at"] for item in records) for records in evidence.trails.values()
    ]
    for m in made:
        running = [times for times in commits if times[0] <= m.wall < times[-1]]
        nexts = [next(t for t in times if t > m.wall) - m.wall for times in running]
        m.pause, m.slowest = min(nexts, default=None), max(nexts, default=None)
        end = m.wall + (m.slowest or 0.0)
        m.alone = not any(o.wall < end and m.wall < o.wall + o.fault.seconds for o in made if o is not m)


def chaos(seed: int, seconds: float, kills: int = 0, every: float = EVERY) -> Script:
    """Makes the seed's faults at their times."""

    def chaos(world: World, lanes: Lanes, report: Report) -> None:
        faults = draw(seed, seconds, world.combiners, world.clients, kills, every)
        rng, start = Random(f"{seed} links"), time.monotonic()
        ends: list[Fault] = []
        while faults or ends:
            now = time.monotonic() - start
            for fault in [f for f in ends if f.until <= now]:
                world.end(fault)
                ends.remove(fault)
            if faults and faults[0].at <= now:
                fault = faults.pop(0)
                wall = time.time()
                if world.begin(fault, rng):
                    report.made.append(Made(fault, wall))
                    ends.append(fault)
                    print(f"{fault}   {lanes.rounds} rounds", file=sys.stderr, flush=True)
            world.supervise()
            time.sleep(0.02)

    return chaos


def _percentile(values: Sequence[float], percent: int) -> str:
    """By nearest rank."""
    if not values:
        return "–"
    return f"{values[max(0, -(-len(values) * percent // 100) - 1)]:.1f} s"


def details(report: Report) -> str:
    """Pauses by kind of fault, and what went wrong."""
    kinds = sorted({m.fault.kind for m in report.made})
    lines = [
        f"pause after {kind:6} p50 {_percentile(report.pauses(kind), 50)}, "
        f"p95 {_percentile(report.pauses(kind), 95)}, longest {_percentile(report.pauses(kind), 100)}; "
        f"until every session went on: p95 {_percentile(report.pauses(kind, 'slowest'), 95)}; "
        f"no other fault meanwhile: p95 {_percentile(report.pauses(kind, alone=True), 95)}"
        for kind in kinds
    ]
    return "\n".join([*lines, *report.verdict.problems])


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, help="how long faults are made (default 60; with --kills 3600)"
    )
    parser.add_argument("--seed", type=int, default=1, help="which faults (default 1)")
    parser.add_argument("--kills", type=int, default=0, help="stop after so many SIGKILLs (default: go on)")
    parser.add_argument(
        "--every", type=float, default=EVERY, help=f"seconds between faults on average (default {EVERY})"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of a session (default {ROUNDS})")
    parser.add_argument(
        "--json", action="store_true", help="print the whole report as JSON before the summary"
    )
    parser.add_argument("--keep", type=Path, help="keep logs, trail and updates in this new directory")
    parser.add_argument("--show", action="store_true", help="print the seed's faults and do nothing else")
    return parser


def main(given: Sequence[str] | None = None) -> int:
    asked = arguments().parse_args(given)
    asked.seconds = asked.seconds or (3600.0 if asked.kills else 60.0)
    if asked.show:
        combiners, clients = names("combiner", COMBINERS), names("client", CLIENTS)
        print(*draw(asked.seed, asked.seconds, combiners, clients, asked.kills, asked.every), sep="\n")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that processes and mounts go, too
    directory = asked.keep or Path(tempfile.mkdtemp(prefix="fedn-chaos-"))
    directory.mkdir(parents=True, exist_ok=not asked.keep)
    script = chaos(asked.seed, asked.seconds, asked.kills, asked.every)
    report = trial(directory, Report(asked.seed), script, rounds=asked.rounds)
    if asked.json:
        print(json.dumps(asdict(report), default=str))
    print(details(report))
    if report.verdict.ok and not asked.keep:
        shutil.rmtree(directory)
    else:
        print(f"logs, trail and updates: {directory}")
    print(report.summary())
    return 0 if report.verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
