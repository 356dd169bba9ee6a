"""The machines of all three tiers together, under crashes, breaks, pauses, repetitions and any order of
events.

`tiers_world.py` beside this file models the drivers and the network, and checks what the protocol
promises. When hypothesis has had its way, everything is mended, and the session must end with nothing left
over. What happened how often is told with `--hypothesis-show-statistics`.
"""

from __future__ import annotations

from collections import Counter
from typing import get_args

import tiers_world as tw
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tiers_combiners import DEADLINE, GRACE
from tiers_reducer import ORPHAN_GRACE, REDUCER
from tiers_world import CLIENTS, COMBINERS

from fedn.client import machine as cl
from fedn.combiner import events as ev
from fedn.domain.ids import ClientId, CombinerName
from fedn.reducer import machine as rm

stretches = st.sampled_from([0, 1, 2, 3, 5, 99])
stops = st.tuples(st.sampled_from(COMBINERS), stretches)
clients, combiners = st.sampled_from(CLIENTS), st.sampled_from(COMBINERS)
FAULTS = [
    "detach", "hang up", "client", "combiner", "break", "lose", "reducer", "pause process", "continue",
    "stop session", "pause session", "resume session", "stray",
]  # fmt: skip

STORIES = 500
NOT_MODELLED = {"SendReport", "StopWork", "HurryWork", "Validate", "SkipValidation", "RefuseUpdate"}
COMMANDS = {c.__name__ for tier in (cl, ev, rm) for c in get_args(tier.Command)} - NOT_MODELLED
SEEN: Counter[str] = Counter()


def noted(do):
    def note(self, *args):
        name = type(args[-1]).__name__
        SEEN[name] += 1
        event(name)
        do(self, *args)

    return note


class Noted(tw.World):
    """Notes which commands the machines have given."""

    do_client, do_combiner, do_reducer = map(
        noted, (tw.World.do_client, tw.World.do_combiner, tw.World.do_reducer)
    )


class Tiers(RuleBasedStateMachine):
    """The rules: any message, any work, any fault, at any time."""

    @initialize(rounds=st.integers(1, 2), min_clients=st.integers(1, 3),
                where=st.text("AB", min_size=3, max_size=3), small=st.booleans(),
                cut_off=st.sampled_from([*COMBINERS, *8 * [None]]))  # fmt: skip
    def begin(
        self, rounds: int, min_clients: int, where: str, small: bool, cut_off: CombinerName | None
    ) -> None:
        self.world = Noted(rounds, min_clients, where, small)
        self.heard: list[tuple[ClientId, str, object]] = []
        if cut_off:
            self.go_on(1)
            self.go_on(2)  # the parts are open
            self.stray(cut_off)

    def take(self, step: tw.Step, odd: bool = False) -> None:
        """Take a step, and note what may be said again."""
        kind, what = step
        if kind in ("down", "up"):
            link = self.world.links[what]
            message = getattr(link, kind)[0]
            if isinstance(message, tw.REPEATED):
                self.heard.append((link.client, kind, message))
        self.world.take_step(step, odd)

    @rule(pick=st.integers(0, 99), times=st.integers(1, 6), odd=st.booleans())
    def steps(self, pick: int, times: int, odd: bool) -> None:
        for _ in range(times):
            if steps := self.world.steps():
                self.take(steps[pick % len(steps)], odd)

    @rule(stretch=stretches)
    def go_on(self, stretch: int) -> None:
        """All that is said, and the first of the work, without a fault."""
        for work in self.world.work[:stretch]:
            while said := [step for step in self.world.steps() if step[0] != "work"]:
                self.take(said[0])
            if ("work", work) in self.world.steps():
                self.take(("work", work))

    @rule(seconds=st.sampled_from([1.0, GRACE, ORPHAN_GRACE, DEADLINE]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(client=clients, way=st.lists(stops, max_size=5))
    def move(self, client: ClientId, way: list[tuple[CombinerName, int]]) -> None:
        """A client goes from combiner to combiner, and some work is done at each stop."""
        for name, stretch in way:
            if {client, name} & self.world.paused:
                return
            self.world.detach(client)
            self.world.attach(client, name)
            self.go_on(stretch)

    def stray(self, name: CombinerName) -> None:
        """A combiner is cut off; its clients go to the other one until no more happens, and come back."""
        world, other = self.world, COMBINERS[name == COMBINERS[0]]
        clients = [link.client for link in world.links.values() if link.read_down and link.combiner == name]
        if not world.paused:
            self.fault("lose", None, name, "")
            for client in clients:
                self.move(client, [(other, 0)])
            world.run_down()
            for client in clients:
                self.move(client, [(name, 0)])

    @precondition(lambda self: self.heard)
    @rule(pick=st.integers(0, 99))
    def say_again(self, pick: int) -> None:
        """Something that was said before is said again, on the client's stream of now."""
        client, kind, message = self.heard[pick % len(self.heard)]
        link = self.world.people[client].link
        if link is not None:
            said = self.world.links[link]
            setattr(said, kind, (*getattr(said, kind), message))

    @precondition(lambda self: self.world.calls)
    @rule(pick=st.integers(0, 99))
    def do_again(self, pick: int) -> None:
        """A call of the reducer is done again, however late."""
        self.world.late_copy(self.world.calls[pick % len(self.world.calls)])

    @rule(fault=st.sampled_from(FAULTS), client=clients, name=combiners, who=st.sampled_from("rcp"))
    def fault(self, fault: str, client: ClientId, name: CombinerName, who: str) -> None:
        """One rule for all of them, so that work goes on most of the time."""
        world, peer = self.world, self.world.peers[name]
        match fault:
            case "detach":
                world.detach(client)
            case "hang up":
                if (link := world.people[client].link) is not None:
                    world.left(link)
            case "client":
                world.crash_client(client)
            case "combiner":
                world.crash_combiner(name)
            case "break":
                world.disconnect(name) if peer.live else world.connect(name)
            case "stray":
                self.stray(name)
            case "lose":
                world.disconnect(name)
                if not peer.lost:
                    world.give_up(name)
            case "reducer":
                world.restart_reducer()
            case "pause process":
                world.paused.add({"r": REDUCER, "c": client, "p": name}[who])
            case "continue":
                world.paused.clear()
            case "stop session":
                world.stop()
            case "pause session":
                world.pause_session()
            case "resume session":
                world.resume_session()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            event(f"{len(self.world.records)} rounds before everything is mended")
            self.world.mend()
            self.world.settle_all()
            SEEN["story"] += 1


class TestTiers(Tiers.TestCase):
    settings = settings(max_examples=STORIES, stateful_step_count=40, deadline=None)

    @classmethod
    def tearDownClass(cls) -> None:
        never = COMMANDS - SEEN.keys()
        assert SEEN["story"] < STORIES or not never, f"nothing was tested about what never happened: {never}"
