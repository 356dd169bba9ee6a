"""Sessions whose aggregator's parts don't merge, in the world of `test_tiers.py` and with all its faults.

Whatever happens, what is committed came in one part; and the session ends, with nothing left over.
"""

from __future__ import annotations

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize
from test_tiers import Noted, Tiers
from tiers_combiners import S
from tiers_reducer import ORPHAN_GRACE
from tiers_world import COMBINERS

from fedn.domain.ids import CombinerName
from fedn.reducer import legs as lg
from fedn.reducer import machine as rm
from fedn.reducer.homing import home_of, homed
from fedn.reducer.network import Network

STORIES = 300


class WholeWorld(Noted):
    """The driver shows the session the network of one combiner."""

    home = ""

    @property
    def network(self) -> Network:
        shown = super().network
        self.home = home_of(shown, S, self.home)
        return homed(shown, self.home)

    def start_reducer(self) -> None:
        self.home = ""
        super().start_reducer()

    def begin_session(self, pause: str) -> rm.Outcome:
        return rm.start(S, self.plan, self.head, self.network, ORPHAN_GRACE, pause, whole=True)

    def do_reducer(self, number: int, command: rm.Command) -> None:
        if isinstance(command, lg.MergePart) and isinstance(self.session.phase, rm.Planning):
            event("in pieces")
            return  # the sums that it would go to are dropped with the very next command
        super().do_reducer(number, command)

    def commit(self, command: rm.CommitRound, odd: bool) -> bool:
        parts = [part for part in command.parts if part.contributors]
        assert len(parts) == 1, f"{len(parts)} parts would have been merged"
        return super().commit(command, odd)

    def mend(self) -> None:
        """Everybody comes to one combiner: elsewhere they could not take part."""
        self.paused = set()
        for client in self.people:
            self.detach(client)
            self.attach(client, COMBINERS[0])
        super().mend()


class WholeTiers(Tiers):
    @initialize(rounds=st.integers(1, 2), min_clients=st.integers(1, 3),
                where=st.text("AB", min_size=3, max_size=3), small=st.booleans(),
                cut_off=st.sampled_from([*COMBINERS, *8 * [None]]))  # fmt: skip
    def begin(
        self, rounds: int, min_clients: int, where: str, small: bool, cut_off: CombinerName | None
    ) -> None:
        self.world = WholeWorld(rounds, min_clients, where, small)
        self.heard = []
        if cut_off:
            self.go_on(1)
            self.go_on(2)
            self.stray(cut_off)


class TestWholeTiers(WholeTiers.TestCase):
    settings = settings(max_examples=STORIES, stateful_step_count=40, deadline=None)
