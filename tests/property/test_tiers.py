"""The machines of all three tiers together, under crashes, breaks, repetitions and any order of events.

`tiers_world.py` beside this file models the drivers and checks that a client counts once, that a record
names what was folded, that nobody trains twice and that what a client is told is what the record says.
When hypothesis has had its way, everything is mended and the session must end with nothing left over.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from fedn.domain.ids import ClientId, CombinerName


def beside(name: str):
    """A module of this folder, which is not a package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


tw = beside("tiers_world")
CLIENTS, COMBINERS = tw.CLIENTS, tw.COMBINERS
stretches = st.sampled_from([0, 1, 2, 3, 5, 99])
stops = st.tuples(st.sampled_from(COMBINERS), stretches)


class Tiers(RuleBasedStateMachine):
    """The rules: any message, any work, any fault, at any time."""

    @initialize(
        rounds=st.integers(1, 2), min_clients=st.integers(1, 3), where=st.tuples(*[st.sampled_from("AB")] * 3)
    )
    def begin(self, rounds: int, min_clients: int, where: tuple[str, ...]) -> None:
        self.world = tw.World(rounds, min_clients)
        for client, name in zip(CLIENTS, where, strict=True):
            self.world.attach(client, CombinerName(name))

    @precondition(lambda self: self.world.queues)
    @rule(pick=st.integers(0, 99), times=st.integers(1, 6))
    def deliver(self, pick: int, times: int) -> None:
        for _ in range(times):
            if queues := self.world.queues:
                self.world.deliver(pick % len(queues))

    @precondition(lambda self: self.world.work)
    @rule(pick=st.integers(0, 99), odd=st.booleans())
    def carry_out(self, pick: int, odd: bool) -> None:
        self.world.carry_out(pick % len(self.world.work), odd)

    @rule(stretch=stretches)
    def go_on(self, stretch: int) -> None:
        """All that is said, and the first of the work, without a fault."""
        for work in self.world.work[:stretch]:
            while self.world.queues:
                self.world.deliver(0)
            if work in self.world.work:
                self.world.carry_out(self.world.work.index(work), False)

    @rule(seconds=st.sampled_from([1.0, tw.GRACE, tw.ORPHAN_GRACE, tw.DEADLINE]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(client=st.sampled_from(CLIENTS), way=st.lists(stops, max_size=5))
    def move(self, client: ClientId, way: list[tuple[CombinerName, int]]) -> None:
        """A client goes from combiner to combiner, and some work is done at each stop."""
        for name, stretch in way:
            self.world.detach(client)
            self.world.attach(client, name)
            self.go_on(stretch)

    @rule(fault=st.sampled_from(["detach", "client", "combiner", "break", "lose", "reducer"]),
          client=st.sampled_from(CLIENTS), name=st.sampled_from(COMBINERS))  # fmt: skip
    def fault(self, fault: str, client: ClientId, name: CombinerName) -> None:
        """One rule for all of them, so that work goes on most of the time."""
        world, peer = self.world, self.world.peers[name]
        match fault:
            case "detach":
                world.detach(client)
            case "client":
                world.crash_client(client)
            case "combiner":
                world.crash_combiner(name)
            case "break":
                world.disconnect(name) if peer.live else world.connect(name)
            case "lose":
                world.disconnect(name)
                if not peer.lost:
                    world.give_up(name)
            case "reducer":
                world.restart_reducer()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.mend()
        world.run_down()
        assert not any(p.runs for p in world.processes.values()), "a combiner still holds a part"
        for client in CLIENTS:  # a client that missed its settlement asks on its next attach
            world.detach(client)
            world.attach(client, COMBINERS[0])
        world.run_down()
        assert not any(person.journal for person in world.people.values()), "an update is never settled"


Tiers.TestCase.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)
TestTiers = Tiers.TestCase
