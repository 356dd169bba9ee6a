"""Every course that one round can take, within a budget of faults: `python tests/property/search.py`.

Two combiners and a few clients around the real machines, as `tiers_world.py` models them. From each
state every step is taken that may come next, and every fault that is still allowed; states that were
met before are not entered again. Each state is checked on the way, and each state where nothing is left
to do is mended: the session must then end with nothing left over. A violation is told as the course
that leads to it.

States are remembered as 64-bit hashes of all they consist of. Their order is forgotten where no machine
looks at it: work under way, and who is in a mapping.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial

from tiers_combiners import DEADLINE, GRACE, Record
from tiers_reducer import ORPHAN_GRACE
from tiers_world import COMBINERS, Step, World

from fedn.reducer import machine as rm

CRASHES = ("restart_reducer", "crash_combiner", "crash_client")
CUTS = ("detach", "left", "disconnect", "answer_lost")
FAULTS = CRASHES + CUTS


@dataclass(frozen=True)
class Budget:
    """How many faults are still to come: processes that crash, streams and calls that break, time that
    passes; and which kinds of them may.
    """

    crashes: int = 0
    cuts: int = 0
    waits: int = 0
    kinds: tuple[str, ...] = FAULTS

    def __post_init__(self) -> None:
        if unknown := set(self.kinds) - set(FAULTS):
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}")

    def __bool__(self) -> bool:
        return bool(self.crashes or self.cuts or self.waits)

    def __str__(self) -> str:
        words = [("crash", self.crashes), ("cut", self.cuts), ("wait", self.waits)]
        kinds = "" if self.kinds == FAULTS else f" ({', '.join(self.kinds)})"
        return ", ".join(f"≤ {n} {word}{kinds}" for word, n in words if n) or "no fault"


class Violation(AssertionError):
    """What was broken, and the course that broke it."""


@dataclass
class Found:
    """What a search saw; ``faults`` counts them by kind."""

    what: str = ""
    states: int = 0
    transitions: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    ends: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"searched {self.states:,} states, {self.transitions:,} transitions: {self.what}; "
            f"{self.faults.total():,} faults, {self.ends:,} ends, 0 violations ({self.seconds:.0f} s)"
        )


Move = tuple[str, tuple]
"""A step, or a fault: the method of the world and its arguments."""


def moves(world: World, budget: Budget) -> Iterator[tuple[Move, Budget]]:
    """Everything that may come next, and what is left of the budget then."""
    if (step := commuting(world, budget)) is not None:
        yield ("take_step", (step,)), budget
        return
    if world.over and not budget:
        return
    for step in world.steps():
        yield ("take_step", (step,)), budget
    for client, person in world.people.items():
        if person.link is None:
            for name in COMBINERS:
                yield ("attach", (client, name)), budget
    for name, peer in world.peers.items():
        if not peer.live:
            yield ("connect", (name,)), budget
            if not peer.lost:
                yield ("give_up", (name,)), budget
    if world.over:
        return
    if budget.crashes:
        left = replace(budget, crashes=budget.crashes - 1)
        yield from ((move, left) for move in crashes(world) if move[0] in budget.kinds)
    if budget.cuts:
        left = replace(budget, cuts=budget.cuts - 1)
        yield from ((move, left) for move in cuts(world) if move[0] in budget.kinds)
    if budget.waits:
        left = replace(budget, waits=budget.waits - 1)
        yield from ((("wait", (seconds,)), left) for seconds in (GRACE, ORPHAN_GRACE, DEADLINE))


def crashes(world: World) -> Iterator[Move]:
    yield "restart_reducer", ()
    for name in COMBINERS:
        yield "crash_combiner", (name,)
    for client in world.people:
        yield "crash_client", (client,)


def commuting(world: World, budget: Budget) -> Step | None:
    """A step that need not be tried in any other order, so that it is taken at once, alone.

    A fold and the hash of a sum stay within one part, which gives everybody the same answers before
    and after (and nothing durable: a crash undoes them). The selector answers at once.
    """
    for work in world.work:
        if work.kind in ("fold", "hash_sum") or isinstance(work.args[0], rm.ClientsSelected):
            return "work", work
    return None if budget else settled_in(world)


def settled_in(world: World) -> Step | None:
    """When no fault is to come any more, and the round needs everybody: what nobody else can tell apart.

    A client reads and trains: nobody sees whether it has, what it says queues up behind what it said
    before, and the round can't end without it. Bytes that are here are judged: only a release would
    make a difference, and none can come for a client that has one stream and is asked about nowhere.
    """
    strays = {client for p in world.processes.values() for client, _ in p.parked}
    strays |= {work.args[4][1] for work in world.work if work.kind == "call" and work.args[3] == "release"}
    streams = Counter(link.client for link in world.links.values())
    for work in world.work:
        if work.kind == "train" or (
            work.kind == "take" and work.args[2].client not in strays and streams[work.args[2].client] == 1
        ):
            return "work", work
    busy = {work.owner for work in world.work}
    for number, link in world.links.items():
        if link.down and link.client not in busy and link.read_down and world.serving(number):
            return "down", number
    return None


def cuts(world: World) -> Iterator[Move]:
    """A stream breaks, noticed at either end first, or a call does."""
    for client, person in world.people.items():
        if person.link is not None:
            yield "detach", (client,)
            if world.serving(person.link):
                yield "left", (person.link,)
    for name, peer in world.peers.items():
        if peer.live:
            yield "disconnect", (name,)
    for kind, work in world.steps():
        if kind == "work" and work.kind in ("call", "follow", "train", "submit"):
            yield "answer_lost", (work,)


class Search:
    """One search. ``run`` raises Violation."""

    def __init__(self) -> None:
        self.found = Found()
        self._seen: set[int] = set()
        self._numbers: dict[int, int] = {}
        self._machines: dict[object, tuple[int, object]] = {}

    def run(self, world: World, budget: Budget) -> Found:
        began = time.monotonic()
        self.found.what = f"one round, {len(COMBINERS)} combiners, {len(world.people)} clients, {budget}"
        world.calls, world.once = Forgotten(), True
        stack = [(world, budget, None, self._state(world, budget))]
        self._seen.add(stack[0][-1])
        while stack:
            world, budget, course, here = stack.pop()
            last = True
            for move, left in moves(world, budget):
                then, path = world.fork(), (move, course)
                self._do(partial(getattr(then, move[0]), *move[1]), path)
                there = self._state(then, left)
                if there == here:
                    continue  # it waits for something else
                self.found.transitions += 1
                if left is not budget:
                    self.found.faults[move[0]] += 1
                else:
                    last = False
                if there not in self._seen:
                    self._seen.add(there)
                    stack.append((then, left, path, there))
                    self._count(len(stack))
            if last:
                self._end(world.fork(), course)
        self.found.states = len(self._seen)
        self.found.seconds = time.monotonic() - began
        return self.found

    def _count(self, ahead: int) -> None:
        if len(self._seen) % 50_000 == 0:
            print(f"… {len(self._seen):,} states, {ahead:,} of them still to be left", flush=True)

    def _end(self, world: World, course: object) -> None:
        self.found.ends += 1
        self._do(world.mend, (("mend", ()), course))
        self._do(world.settle_all, (("settle_all", ()), course))

    def _do(self, act: partial, course: object) -> None:
        try:
            act()
        except Exception as error:
            raise Violation(f"{error}\n" + "\n".join(f"  {line}" for line in told(course))) from error

    def _state(self, world: World, budget: Budget) -> int:
        return hash((self.key(world), budget))

    # --- what makes two states the same --------------------------------------------------------------

    def key(self, world: World) -> tuple:
        """All that a world consists of; on the way equal machines become one object."""
        for person in world.people.values():
            person.state = self._one(person.state)
        for p in world.processes.values():
            for run in p.runs.values():
                run.state = self._one(run.state)
        world.session = self._one(world.session)
        return (
            frozenset(Counter(world.work).items()),
            *(frozen(value, self._numbers) for name, value in vars(world).items() if name not in APART),
        )

    def _one(self, machine: object) -> object:
        if id(machine) in self._numbers:
            return machine
        number = len(self._machines)
        number, machine = self._machines.setdefault(frozen(machine, {}), (number, machine))
        self._numbers[id(machine)] = number
        return machine


APART = {"work", "calls", "plan", "small", "once"}


class Forgotten(list):
    """Calls are not noted: none is done late here."""

    def append(self, _: object) -> None:
        pass


def frozen(value: object, numbers: Mapping[int, int]) -> object:
    """A hashable twin; machines that have a number are their number."""
    if id(value) in numbers:
        return numbers[id(value)]
    match value:
        case str() | int() | float() | None:
            return value
        case tuple() | list():
            return tuple([frozen(item, numbers) for item in value])
        case dict():
            return frozenset([(key, frozen(item, numbers)) for key, item in value.items()])
        case set() | frozenset():
            return frozenset(value)
        case Record():
            return tuple([frozen(item, numbers) for item in vars(value).values()])
        case _ if is_dataclass(value):
            return (type(value), *[frozen(getattr(value, f.name), numbers) for f in fields(value)])
        case _:
            return value


def told(course: tuple | None) -> list[str]:
    lines: list[str] = []
    while course is not None:
        (name, arguments), course = course
        lines.append(f"{name} {arguments}")
    return lines[::-1]


def search(where: str, budget: Budget, small: bool = True) -> Found:
    """Search one round with clients at these combiners, all of them needed."""
    return Search().run(World(1, len(where), where, small, len(where)), budget)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--full", action="store_true", help="one crash of anything and one cut of anything")
    parser.add_argument("--where", default="AAB", help="the combiner of each client, such as AAB")
    parser.add_argument("--granted", action="store_true", help="updates are granted and sent, not sent along")
    parser.add_argument("--kinds", nargs="+", default=FAULTS, choices=FAULTS)
    for fault in ("crashes", "cuts", "waits"):
        parser.add_argument(f"--{fault}", type=int, default=0)
    asked = parser.parse_args()
    budget = Budget(asked.crashes, asked.cuts, asked.waits, tuple(asked.kinds))
    if asked.full:
        budget = replace(budget, crashes=1, cuts=1)
    one = (asked.where, budget, not asked.granted)
    for what in [one] if budget else [short[:3] for short in SHORT]:
        print(search(*what), flush=True)


SHORT = [
    ("AAB", Budget(), True, 208),
    ("AAB", Budget(), False, 450),
    ("AAB", Budget(crashes=1, kinds=("restart_reducer",)), True, 2_980),
    ("AAB", Budget(cuts=1, kinds=("answer_lost",)), True, 2_426),
    ("AB", Budget(cuts=1, kinds=("left",)), True, 7_327),
    ("AB", Budget(cuts=1, kinds=("disconnect",)), True, 10_236),
]
"""What fits into a minute, and how many states it has: three clients where a fault leaves few courses, two
where it leaves many.
"""


if __name__ == "__main__":
    main()
