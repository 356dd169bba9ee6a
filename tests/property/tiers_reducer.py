"""The driver of the reducer, modelled around its real machine; a part of `tiers_world.py`."""

from __future__ import annotations

from dataclasses import dataclass, field

from tiers_combiners import Process, Record, S, Work, head

from fedn.domain import messages as m
from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation
from fedn.domain.part import PartHeader
from fedn.domain.plan import Plan
from fedn.domain.round import MergedPart
from fedn.domain.update import UpdateHeader
from fedn.reducer import legs as lg
from fedn.reducer import machine as rm
from fedn.reducer.network import Network, Station

ORPHAN_GRACE = 5.0
REDUCER = "reducer"
Call = tuple[int, Incarnation, str, tuple]
"""Term, process, method and its arguments."""


@dataclass
class Peer(Record):
    """What the reducer knows of a combiner."""

    incarnation: str = ""
    live: bool = False
    lost: bool = False
    clients: set[ClientId] = field(default_factory=set)
    held: tuple[m.RoundHeld, ...] = ()


class ReducerTier:
    """The one reducer. ``records`` and ``stored`` are on disk, ``head`` and the session in its memory.

    ``session`` is None in a reducer that came up when the session had ended.
    """

    plan: Plan
    now: float
    work: list[Work]
    paused: set[str]
    processes: dict[CombinerName, Process]
    peers: dict[CombinerName, Peer]
    records: dict[int, tuple[MergedPart, ...]]
    folds: dict[tuple[int, lg.PartKey], frozenset[tuple[ClientId, Digest]]]
    term: int = 0
    session: rm.State | None = None
    calls: list[Call]
    """All that was asked of combiners, for `late_copy`."""
    stored: str = "running"
    """The session's state on disk: running, paused, or how it ended."""

    @property
    def over(self) -> bool:
        return self.stored not in ("running", "paused")

    @property
    def ended(self) -> bool:
        return self.session is None or isinstance(self.session.phase, rm.Ended)

    @property
    def network(self) -> Network:
        return {name: Station(peer.incarnation, frozenset(peer.clients), peer.held)
                for name, peer in self.peers.items() if peer.live}  # fmt: skip

    def start_reducer(self) -> None:
        """Take the next term, find the combiners that answer, go on with the session."""
        self.term += 1
        self.head, self.session = head(len(self.records)), None
        self.merged: dict[lg.PartKey, PartHeader] = {}
        self.opened: set[lg.PartKey] = set()
        self.peers = {name: Peer(lost=True) for name in self.processes}
        for name in self.processes:
            self.connect(name)
        if not self.over:
            pause = "paused" if self.stored == "paused" else ""
            self.take_over(self.begin_session(pause))

    def begin_session(self, pause: str) -> rm.Outcome:
        return rm.start(S, self.plan, self.head, self.network, ORPHAN_GRACE, pause)

    def restart_reducer(self) -> None:
        self.work = [work for work in self.work if work.owner != REDUCER]
        for p in self.processes.values():
            p.watch = None
        self.start_reducer()

    def step(self, event: rm.Event) -> None:
        if self.session is not None:
            self.take_over(rm.step(self.session, event))

    def take_over(self, outcome: rm.Outcome) -> None:
        self.session, commands = outcome
        self.check_parts()
        for command in commands:
            self.do_reducer(self.head.round + 1, command)

    def check_parts(self) -> None:
        """Nobody is in two accepted parts."""
        phase = self.session.phase
        if isinstance(phase, rm.Running | rm.Committing):
            legs = [leg for leg in phase.round.legs.values() if leg.phase in lg.ACTIVE | {lg.Phase.MERGED}]
            names = [c.client for leg in legs if leg.header for c in leg.header.contributors]
            assert len(names) == len(set(names)), f"accepted twice: {names}"

    # --- combiners come and go -----------------------------------------------------------------------

    def connect(self, name: CombinerName) -> None:
        """Watch begins with a snapshot; what is parked is asked again. Nothing answers while it is paused."""
        if name in self.paused or self.term < self.processes[name].term:
            return
        p, before = self.processes[name], self.peers[name]
        p.term = self.term
        self.peers[name] = Peer(p.incarnation, True, False, set(p.links), p.held)
        p.watch = tuple(m.ReleaseRequested(header) for header in p.parked.values())
        if before.incarnation and before.incarnation != p.incarnation and not before.lost:
            self.step(rm.CombinerLost(name, before.incarnation, self.now))
        if self.session is not None:
            self.step(rm.NetworkChanged(self.network))
        elif self.over:
            for number in {held.round for held in p.held}:
                self.ack_from_record(name, p.incarnation, number)

    def disconnect(self, name: CombinerName) -> None:
        """The Watch stream broke. Whatever was on its way is lost: the reducer may read on before it does."""
        self.processes[name].watch = None
        was_live, self.peers[name].live = self.peers[name].live, False
        if was_live:
            self.step(rm.NetworkChanged(self.network))

    def give_up(self, name: CombinerName) -> None:
        """It was out of reach for too long."""
        peer = self.peers[name]
        peer.lost = True
        self.step(rm.CombinerLost(name, peer.incarnation, self.now))
        self.step(rm.NetworkChanged(self.network))

    def watched(self, name: CombinerName, event: m.CombinerEvent) -> None:
        clients = self.peers[name].clients
        match event:
            case m.ClientAttached(info):
                clients.add(info.client)
                self.step(rm.NetworkChanged(self.network))
            case m.ClientDetached(client):
                clients.discard(client)
                self.step(rm.NetworkChanged(self.network))
            case m.ReleaseRequested(header) if self.session is None:
                self.settle_from_record(name, header)
            case m.ReleaseRequested(header):
                self.step(rm.ReleaseRequested(name, header))

    # --- commands ------------------------------------------------------------------------------------

    def do_reducer(self, number: int, command: rm.Command) -> None:
        match command:
            case lg.OpenPart(key, clients):
                self.begin(REDUCER, "follow", number, key, clients)
            case lg.FetchPart(key, header):
                self.ask(key.combiner, key.incarnation, "fetch", number, key, header)
            case lg.MergePart(key):
                leg = self.session.phase.round.legs[key]
                assert key not in self.merged
                assert leg.header
                self.merged[key] = leg.header
            case lg.AbortPart(key, reason, reoffer):  # nobody follows it any more, so that it stays dropped
                self.work = [w for w in self.work if w.kind != "follow" or w.args[:2] != (number, key)]
                self.ask(key.combiner, key.incarnation, "abort", number, key, reason, reoffer)
            case lg.AskRelease(name, client):
                self.ask(name, self.peers[name].incarnation, "release", number, client)
            case lg.Admit(key, client):
                self.ask(key.combiner, key.incarnation, "admit", number, key, client)
            case lg.Settle(name, client, of, counted, reason):
                self.ask(name, self.peers[name].incarnation, "settle", client, of, counted, reason)
            case rm.SelectClients(_, clients):
                self.begin(REDUCER, "tell_session", rm.ClientsSelected(clients))
            case rm.CommitRound():
                self.begin(REDUCER, "commit", command)
            case rm.AckRound(name, of, counted):
                self.ask(name, self.peers[name].incarnation, "ack", of, counted)
            case rm.AckFromRecord(name, incarnation, of):
                self.ack_from_record(name, incarnation, of)
            case rm.SettleFromRecord(name, header):
                self.settle_from_record(name, header)
            case rm.DropSums():
                self.merged, self.opened = {}, set()
            case rm.Announce(rm.Ended(outcome)):
                self.begin(REDUCER, "close_books", outcome)
            case rm.Announce() | rm.Validate() | rm.SkipValidation():
                pass

    def ask(self, name: CombinerName, incarnation: Incarnation, what: str, *args: object) -> None:
        """Call this very process until it answers or is lost."""
        self.begin(REDUCER, "call", self.term, name, incarnation, what, args)

    def call(self, term: int, name: CombinerName, incarnation: Incarnation, what: str, args: tuple,
             odd: bool) -> bool:  # fmt: skip
        """Odd: it does as asked and the answer is lost, so it is asked again."""
        peer = self.peers[name]
        if peer.incarnation != incarnation or peer.lost:
            if what == "fetch":
                self.begin(REDUCER, "tell_session", rm.PartAborted(*args[:2], self.now))
            return True
        too_early = self.ended and not self.over and what in ("abort", "ack", "settle")
        if not peer.live or name in self.paused or too_early or self.overtakes(name, what):
            return False
        self.calls.append((term, incarnation, what, args))
        answer = getattr(self, what)(self.processes[name], *args)
        if answer is not None and not odd:
            self.begin(REDUCER, "tell_session", answer)
        return not odd

    def overtakes(self, name: CombinerName, what: str) -> bool:
        """A release or an admission waits for the parts that it asks about to be open."""
        if what not in ("release", "admit"):
            return False
        keys = [work.args[1] for work in self.work if work.kind == "follow"]
        return any(key.combiner == name and key not in self.opened for key in keys)

    def late_copy(self, call: Call) -> None:
        """What a paused process finds in a connection that was given up, and answered on another.

        It knows an older term when it has heard of the next one.
        """
        term, incarnation, what, args = call
        for p in self.processes.values():
            if p.incarnation == incarnation and term >= p.term and p.name not in self.paused:
                getattr(self, what)(p, *args)

    def ack_from_record(self, name: CombinerName, incarnation: Incarnation, number: int) -> None:
        process = (name, incarnation)
        parts = [p.part for p in self.records.get(number, ()) if (p.combiner, p.incarnation) == process]
        self.ask(name, incarnation, "ack", number, tuple(parts))

    def settle_from_record(self, name: CombinerName, header: UpdateHeader) -> None:
        self.begin(REDUCER, "tell_from_record", name, header)

    def tell_from_record(self, name: CombinerName, header: UpdateHeader, odd: bool) -> bool:
        if self.ended and not self.over:
            return False
        counted = (header.client, header.digest) in self.recorded(header.round)
        self.ask(name, self.peers[name].incarnation, "settle", header.client, header.round, counted, "")
        return True

    def recorded(self, number: int) -> set[tuple[ClientId, Digest]]:
        return {(c.client, c.digest) for part in self.records.get(number, ()) for c in part.contributors}

    # --- work ------------------------------------------------------------------------------------------

    def tell_session(self, event: rm.Event, odd: bool) -> bool:
        self.step(event)
        return True

    def follow(self, number: int, key: lg.PartKey, clients: tuple[ClientId, ...], odd: bool) -> bool:
        """RunRound. Odd: the stream breaks behind what it said and is called again."""
        phase, peer = self.session.phase, self.peers[key.combiner]
        open_ = isinstance(phase, rm.Running) and phase.round.number == number
        if not open_ or phase.round.legs[key].phase is not lg.Phase.RUNNING:
            return True
        assert peer.incarnation == key.incarnation, "a part of a process that is gone is still followed"
        assert not peer.lost, "a fenced part is still followed"
        if not peer.live or key.combiner in self.paused:
            return False
        self.calls.append((self.term, key.incarnation, "run_late", (number, key.part, clients, self.term)))
        p = self.processes[key.combiner]
        part = (number, key.part)
        assert part in p.runs or (number > p.over and p.aborted.get(part, 0) < self.term), "opened again"
        sealed = self.open(p, number, key.part, clients).sealed
        self.opened.add(key)
        if sealed:
            self.step(rm.PartSealed(number, key, sealed, self.now))
        return sealed is not None and not odd

    def commit(self, command: rm.CommitRound, odd: bool) -> bool:
        """Blob first, record second: the record is what makes it so. The session hears of it later."""
        contributors = [(c.client, c.digest) for part in command.parts for c in part.contributors]
        assert len({client for client, _ in contributors}) == len(contributors) >= self.plan.min_clients
        assert command.round == len(self.records) + 1
        keys = {lg.PartKey(p.combiner, p.incarnation, p.part): p for p in command.parts}
        filled = {key for key, header in self.merged.items() if header.contributors}
        assert filled <= set(keys) <= set(self.merged), "recorded is not what was merged"
        for key, part in keys.items():
            named_in = {(c.client, c.digest) for c in part.contributors}
            assert self.folds[command.round, key] == named_in, "recorded is not what was folded"
        self.records[command.round] = command.parts
        self.begin(REDUCER, "announce", command.round)
        return True

    def announce(self, number: int, odd: bool) -> bool:
        self.head = head(number)
        self.step(rm.RoundCommitted(self.head))
        return True

    def close_books(self, outcome: str, odd: bool) -> bool:
        self.stored = outcome
        return True

    # --- asked by people -------------------------------------------------------------------------------

    def stop(self) -> None:
        self.step(rm.StopAsked("stopped by request"))

    def pause_session(self) -> None:
        if not self.ended:
            self.stored = "paused"
            self.step(rm.PauseAsked("paused"))

    def resume_session(self) -> None:
        if not self.ended:
            self.stored = "running"
            self.step(rm.ResumeAsked())
