"""A broken promise each, and the faults that bring it to light.

    python tests/chaos/mutants.py [NAME …]

Each mutation is patched into the real processes by `launch`, on its word alone. Its scenario is run without
it first, which must be green, then with it, which must be red. The exit code is 0 if all of that came true.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

CHOSEN = "client-3-"
"""Whose update is folded twice, or dropped."""

# --- mutations -------------------------------------------------------------------------------------


def fold_twice() -> None:
    from fedn.combiner.staging import PartSum

    fold = PartSum.fold

    def twice(self: PartSum, upload: Any) -> None:
        fold(self, upload)
        if upload.header.client.startswith(CHOSEN):
            fold(self, upload)

    PartSum.fold = twice  # type: ignore[method-assign]


def drop_from_the_sum() -> None:
    from fedn.combiner.staging import PartSum

    fold = PartSum.fold

    def all_but_one(self: PartSum, upload: Any) -> None:
        if not upload.header.client.startswith(CHOSEN):
            fold(self, upload)

    PartSum.fold = all_but_one  # type: ignore[method-assign]


def drop_from_the_record() -> None:
    from fedn.reducer.merging import Committer

    commit = Committer.commit

    def forgetful(self: Committer, command: Any, *rest: Any) -> Any:
        parts = tuple(
            replace(p, contributors=tuple(c for c in p.contributors if not c.client.startswith(CHOSEN)))
            for p in command.parts
        )
        return commit(self, replace(command, parts=parts), *rest)

    Committer.commit = forgetful  # type: ignore[method-assign]


def delete_before_settled() -> None:
    """A receipt is taken for a settlement."""
    from fedn.client import machine

    def careless(state: machine.State, key: machine.Key, digest: Any) -> machine.Outcome:
        return machine._ended(state, key, digest)

    machine._receipt = careless


def accept_a_fenced_part() -> None:
    """A fenced combiner that is back goes on with its part, and nobody looks who counts already."""
    from fedn.reducer import round as rd

    honest = rd.network_changed

    def trusting(round_: rd.Round, network: Any) -> rd.Outcome:
        again: tuple[rd.Command, ...] = ()
        for key, leg in round_.legs.items():
            station = network.get(key.combiner)
            if leg.phase is rd.Phase.FENCED and station and station.incarnation == key.incarnation:
                round_ = replace(round_, legs={**round_.legs, key: rd.Leg(leg.clients)})
                again += (rd.OpenPart(key, tuple(leg.clients)),)
        round_, commands = honest(round_, network)
        return round_, again + commands

    rd.network_changed = trusting
    rd.overlap = lambda *_: frozenset()


# --- scenarios -------------------------------------------------------------------------------------


def quiet(world: Any, lanes: Any, report: Any) -> None:
    """Nothing happens."""


def combiners_die_after_receipts(world: Any, lanes: Any, report: Any) -> None:
    """Twice: with one client held up the round stays open; the others are folded when their combiner dies."""
    for combiner, slow in ((world.combiners[0], world.clients[0]), (world.combiners[1], world.clients[1])):
        world.signal(slow, signal.SIGSTOP)
        _stuck(world, lanes)
        _fault(world, report, "kill", combiner)
        world.signal(slow, signal.SIGCONT)
        _moved_on(world, lanes)


def a_combiner_comes_back_late(world: Any, lanes: Any, report: Any) -> None:
    """With one client held up, its combiner is given up; it comes back when the others have moved."""
    combiner, slow = world.combiners[0], world.clients[0]
    world.signal(slow, signal.SIGSTOP)
    _stuck(world, lanes)
    world.signal(combiner, signal.SIGSTOP)
    world.until(lambda: "combiner lost" in world.log("reducer"), "the combiner to be given up")
    world.until(lambda: _attached(lanes, world.combiners[1]) >= 5, "its clients to move")
    world.signal(combiner, signal.SIGCONT)
    world.signal(slow, signal.SIGCONT)
    _moved_on(world, lanes)


def _attached(lanes: Any, combiner: str) -> int:
    return sum(c["combiner"] == combiner for c in lanes.rest.get("/clients")["clients"])


def _stuck(world: Any, lanes: Any) -> None:
    """Wait until every open round has all updates but one."""

    def received(lane: str) -> int:
        shown = lanes.rest.get(f"/sessions/{lanes.current(lane)}")["progress"]
        return shown.get("received", 0) if shown.get("state") == "running" else 0

    world.until(lambda: min(received("small"), received("large")) == 5, "all updates but one")


def _moved_on(world: Any, lanes: Any) -> None:
    rounds = lanes.rounds
    world.until(lambda: lanes.rounds >= rounds + 4, "more rounds")


def _fault(world: Any, report: Any, kind: str, victim: str) -> None:
    import time

    from run import Made
    from schedule import Fault

    fault = Fault(0.0, kind, victim, 0.0)
    report.made.append(Made(fault, time.time()))
    world.begin(fault, Random(0))
    world.end(fault)


# --- the list --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutation:
    """What is broken, and the scenario that shows it."""

    apply: Callable[[], None]
    scenario: Callable[[Any, Any, Any], None]


MUTATIONS = {
    "fold-twice": Mutation(fold_twice, quiet),
    "drop-from-the-sum": Mutation(drop_from_the_sum, quiet),
    "drop-from-the-record": Mutation(drop_from_the_record, quiet),
    "delete-before-settled": Mutation(delete_before_settled, combiners_die_after_receipts),
    "accept-a-fenced-part": Mutation(accept_a_fenced_part, a_combiner_comes_back_late),
}


def verdict(scenario: Callable[[Any, Any, Any], None], name: str = "-") -> Any:
    """What the auditor says of ``scenario`` with the mutation ``name``."""
    from run import Report, trial

    with tempfile.TemporaryDirectory(prefix="fedn-mutant-") as directory:
        return trial(Path(directory), Report(0), scenario, name, rounds=8, patience=40.0).verdict


def main(names: Sequence[str]) -> int:
    """Prints a line for every scenario and mutation."""
    chosen = {name: MUTATIONS[name] for name in names or MUTATIONS}
    good = True
    for scenario in dict.fromkeys(mutation.scenario for mutation in chosen.values()):
        clean = verdict(scenario)
        good &= clean.ok
        story = scenario.__name__.replace("_", " ")
        print(f"{story}: {'green' if clean.ok else 'RED: ' + clean.problems[0]}", flush=True)
        for name, mutation in chosen.items():
            if mutation.scenario is scenario:
                seen = verdict(scenario, name)
                good &= not seen.ok
                print(f"  {name.replace('-', ' ')}: {_shown(seen)}", flush=True)
    return 0 if good else 1


def _shown(seen: Any) -> str:
    counts = {
        "rounds lost": seen.lost, "double trainings": seen.trained_twice, "double folds": seen.folded_twice,
    }  # fmt: skip
    told = ", ".join(f"{what} {n}" for what, n in counts.items() if n) or (seen.problems or [""])[0]
    return f"red ({told})" if not seen.ok else "GREEN, and should be red"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main(sys.argv[1:]))
