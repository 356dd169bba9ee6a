"""A broken promise each, and the faults that bring it to light.

    python tests/chaos/mutants.py [NAME …]

Each mutation is patched into the real processes by `launch`, on its word alone. Its scenario is run without
it first, which must be green, then with it, which must be red for the reason that the mutation names. The
exit code is 0 if all of that came true.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fedn.client import machine
from fedn.combiner.staging import PartSum
from fedn.reducer import legs as lg
from fedn.reducer import round as rd
from fedn.reducer.merging import Committer

CHOSEN = "client-3-"
"""Whose update is folded twice, or dropped."""
Patch = Callable[[Any, str, Any], object]
"""Like `setattr`."""

# --- mutations -------------------------------------------------------------------------------------


def fold_chosen(times: int, patch: Patch) -> None:
    fold = PartSum.fold

    def mutated(self: PartSum, upload: Any) -> None:
        for _ in range(times if upload.header.client.startswith(CHOSEN) else 1):
            fold(self, upload)

    patch(PartSum, "fold", mutated)


def record_without_chosen(patch: Patch, from_sum_too: bool = False) -> None:
    commit = Committer.commit

    def weight(parts: Any) -> int:
        return sum(c.examples for part in parts for c in part.contributors)

    def forgetful(self: Committer, command: Any, head: Any, layout: Any, mean: Any, now: float) -> Any:
        parts = tuple(
            replace(p, contributors=tuple(c for c in p.contributors if not c.client.startswith(CHOSEN)))
            for p in command.parts
        )
        if from_sum_too:
            mean = mean * (weight(command.parts) / weight(parts))
        return commit(self, replace(command, parts=parts), head, layout, mean, now)

    patch(Committer, "commit", forgetful)


def lose_a_counted_update(patch: Patch) -> None:
    """Sum and record agree, and its client is told that it counts."""
    fold_chosen(0, patch)
    record_without_chosen(patch, from_sum_too=True)


def delete_before_settled(patch: Patch) -> None:
    """A receipt is taken for a settlement."""
    patch(machine, "_receipt", machine._ended)


def accept_a_fenced_part(patch: Patch) -> None:
    """A fenced combiner that is back goes on with its part, and nobody looks who counts already."""
    honest, fenced, leg_of, open_part = rd.network_changed, lg.Phase.FENCED, lg.Leg, lg.OpenPart

    def trusting(round_: lg.Round, network: Any) -> rd.Outcome:
        again: tuple[lg.Command, ...] = ()
        for key, leg in round_.legs.items():
            station = network.get(key.combiner)
            if leg.phase is fenced and station and station.incarnation == key.incarnation:
                round_ = replace(round_, legs={**round_.legs, key: leg_of(leg.clients)})
                again += (open_part(key, tuple(leg.clients)),)
        round_, commands = honest(round_, network)
        return round_, again + commands

    patch(rd, "network_changed", trusting)
    patch(rd, "overlap", lambda *_: frozenset())


ATTEMPTS, STUCK_SECONDS = 5, 6.0
TRIALS = 3
"""A fault that hits a moment between processes may miss it; so a mutation may be tried so often."""

# --- scenarios -------------------------------------------------------------------------------------


def quiet(world: Any, lanes: Any) -> None:
    """Nothing happens."""


def combiners_die_after_receipts(world: Any, lanes: Any) -> None:
    """Twice: with one client held up the round stays open; the others are folded when their combiner dies."""
    for combiner, slow in ((world.combiners[0], world.clients[0]), (world.combiners[1], world.clients[1])):
        _held_up(world, lanes, slow)
        world.kill(combiner)
        world.start(combiner)
        world.signal(slow, signal.SIGCONT)
        _moved_on(world, lanes)


def a_combiner_comes_back_late(world: Any, lanes: Any) -> None:
    """With one client held up, its combiner is given up; it comes back when the others have moved."""
    combiner, slow = world.combiners[0], world.clients[0]
    _held_up(world, lanes, slow)
    world.signal(combiner, signal.SIGSTOP)
    world.until(lambda: "combiner lost" in world.log("reducer"), "the combiner to be given up")
    world.until(lambda: _attached(lanes, world.combiners[1]) >= 5, "its clients to move")
    world.signal(combiner, signal.SIGCONT)
    world.signal(slow, signal.SIGCONT)
    _moved_on(world, lanes)


def _attached(lanes: Any, combiner: str) -> int:
    return sum(c["combiner"] == combiner for c in lanes.rest.get("/clients").json()["clients"])


def _held_up(world: Any, lanes: Any, slow: str) -> None:
    """Stop ``slow``, and wait until every open round has all updates but its own.

    It is given up 7 s later, and then no round waits for it: if that was too short, it is stopped anew.
    """

    def received(lane: str) -> int:
        shown = lanes.rest.get(f"/sessions/{lanes.current[lane]}").json()["progress"]
        return shown.get("received", 0) if shown.get("state") == "running" else 0

    def stuck() -> bool:
        return min(received("small"), received("large")) == len(world.clients) - 1

    for _ in range(ATTEMPTS):
        world.signal(slow, signal.SIGSTOP)
        with suppress(TimeoutError):
            world.until(stuck, "all updates but one", STUCK_SECONDS)
            return
        world.signal(slow, signal.SIGCONT)
        _moved_on(world, lanes)
    raise TimeoutError(f"no round ever had all updates but that of {slow}")


def _moved_on(world: Any, lanes: Any) -> None:
    rounds = lanes.rounds
    world.until(lambda: lanes.rounds >= rounds + 4, "more rounds")


# --- the list --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutation:
    """What is broken, the scenario that shows it, and which counter of the verdict does."""

    apply: Callable[[Patch], None]
    scenario: Callable[[Any, Any], None]
    shows: str


MUTATIONS = {
    "fold-twice": Mutation(partial(fold_chosen, 2), quiet, "double folds"),
    "drop-from-the-sum": Mutation(partial(fold_chosen, 0), quiet, "dropped updates"),
    "drop-from-the-record": Mutation(record_without_chosen, quiet, "models wrong"),
    "lose-a-counted-update": Mutation(lose_a_counted_update, quiet, "settled wrongly"),
    "delete-before-settled": Mutation(
        delete_before_settled, combiners_die_after_receipts, "deleted too early"
    ),
    "accept-a-fenced-part": Mutation(accept_a_fenced_part, a_combiner_comes_back_late, "double folds"),
}


def verdict(scenario: Callable[[Any, Any], None], name: str = "-") -> Any:
    """What the auditor says of ``scenario`` with the mutation ``name``."""
    from run import Report, trial

    with tempfile.TemporaryDirectory(prefix="fedn-mutant-") as directory:
        report = Report(0)
        return trial(Path(directory), report, scenario, name, homes=True, rounds=8, patience=40.0).verdict


def main(names: Sequence[str]) -> int:
    """Prints a line for every scenario and mutation."""
    chosen = {name: MUTATIONS[name] for name in names or MUTATIONS}
    good = True
    for scenario in dict.fromkeys(mutation.scenario for mutation in chosen.values()):
        clean = verdict(scenario)
        good &= clean.ok
        story = scenario.__name__.replace("_", " ")
        print(f"{story}: {'green' if clean.ok else 'RED: ' + clean.problems[0]}", flush=True)
        for name in [name for name, mutation in chosen.items() if mutation.scenario is scenario]:
            shows = chosen[name].shows
            for _ in range(TRIALS):
                seen = verdict(scenario, name)
                if caught := seen.counts.get(shows, 0) > 0:
                    break
            good &= caught
            told = "red" if caught else f"NOT CAUGHT, no {shows}"
            print(f"  {name.replace('-', ' ')}: {told} ({seen})", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
