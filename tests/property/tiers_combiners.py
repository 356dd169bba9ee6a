"""The drivers of combiners, modelled around their real machine; a part of `tiers_world.py`.

What is under way is data (`Work`: the name of a method and its arguments), and who is meant is said by
name, so that a world can be copied, compared and searched. Names that are fresh in the real system
are counted here: equal stories get equal names.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache

from fedn.combiner import events as ev
from fedn.combiner import machine as cb
from fedn.domain import messages as m
from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, SessionId, digest_of
from fedn.domain.part import PartHeader
from fedn.domain.round import Head, RoundSpec
from fedn.domain.update import UpdateHeader
from fedn.reducer import legs as lg
from fedn.reducer import machine as rm

S, LAYOUT = SessionId("s"), digest_of(b"layout")
DEADLINE, GRACE = 30.0, 3.0


@lru_cache
def named(*words: object) -> Digest:
    """A digest for something that has no bytes here."""
    return digest_of(" ".join(map(str, words)).encode())


def model(round_: int) -> Digest:
    return named("model", round_)


def head(round_: int) -> Head:
    return Head(round_, named("record", round_), model(round_), 100)


class Record:
    """Something that changes; a fork of it changes by itself."""

    def fork(self):
        twin = copy(self)
        for name, value in vars(twin).items():
            setattr(twin, name, forked(value))
        return twin


def forked(value):
    match value:
        case Record():
            return value.fork()
        case dict():
            return {key: forked(item) for key, item in value.items()}
        case set() | list():
            return copy(value)
        case _:
            return value


@dataclass(frozen=True, slots=True)
class Work:
    """Something under way in the memory of ``owner``, with whom it dies. It says whether it is through.

    Its method's last argument, ``odd``, asks for the odder course: it broke, or the answer was lost.
    """

    owner: str
    kind: str
    args: tuple


@dataclass
class Run(Record):
    """A part at a combiner. ``grants`` counts, so that each has a name of its own."""

    state: cb.State
    uploads: dict[ClientId, str] = field(default_factory=dict)
    grants: int = 0
    sealed: PartHeader | None = None


@dataclass
class Process(Record):
    """A combiner's process. ``watch`` is None while the reducer is not connected.

    ``over`` and ``aborted`` (in which term) say which parts a RunRound that comes late must not open.
    """

    name: CombinerName
    incarnation: Incarnation
    term: int = 0
    runs: dict[tuple[int, int], Run] = field(default_factory=dict)
    links: dict[ClientId, str] = field(default_factory=dict)
    parked: dict[tuple[ClientId, int], UpdateHeader] = field(default_factory=dict)
    watch: tuple[m.CombinerEvent, ...] | None = None
    over: int = 0
    aborted: dict[tuple[int, int], int] = field(default_factory=dict)

    def publish(self, event: m.CombinerEvent) -> None:
        if self.watch is not None:
            self.watch += (event,)

    def park(self, header: UpdateHeader) -> None:
        self.parked[header.client, header.round] = header
        self.publish(m.ReleaseRequested(header))

    def parts(self, number: int) -> dict[int, Run]:
        return {part: run for (of, part), run in self.runs.items() if of == number}

    @property
    def held(self) -> tuple[m.RoundHeld, ...]:
        return tuple(m.RoundHeld(S, *at, cb.listed(run.state)) for at, run in self.runs.items())


class CombinerTier:
    """Every combiner. An incarnation is the name and a count of lives."""

    now: float
    work: list[Work]
    processes: dict[CombinerName, Process]
    folds: dict[tuple[int, lg.PartKey], frozenset[tuple[ClientId, Digest]]]
    small: bool
    """Updates ride along with their offers; else they are granted and sent."""

    def decide(self, p: Process, run: Run, event: ev.Event) -> tuple[ev.Command, ...]:
        return self.apply(p, run, cb.step(run.state, event))

    def apply(self, p: Process, run: Run, outcome: cb.Outcome) -> tuple[ev.Command, ...]:
        run.state, commands = outcome
        for command in commands:
            self.do_combiner(p, run, command)
        return commands

    def do_combiner(self, p: Process, run: Run, command: ev.Command) -> None:
        spec = run.state.ledger.spec
        at, part = (S, spec.round), (p.name, spec.round, spec.part)
        match command:
            case ev.SendTask(client):
                self.send(p, client, m.Task(*at, m.TaskKind.TRAIN, spec.model, 100, "{}", 0))
            case ev.CancelTask(client, reason):
                self.send(p, client, m.TaskCancelled(*at, m.TaskKind.TRAIN, reason))
            case ev.GrantUpload(header):
                self.grant(p, run, header)
            case ev.DropUpload(client):
                run.uploads.pop(client, None)
            case ev.RefuseUpdate(_, refused):
                raise AssertionError(f"refused, and every update is right: {refused}")
            case ev.FoldUpdate(header):
                self.begin(p.incarnation, "fold", *part, header)
            case ev.SendReceipt(header):
                receipt = m.Receipt(*at, header.client, header.digest, p.name, p.incarnation, spec.part)
                self.send(p, header.client, receipt)
            case ev.RequestRelease(header):
                p.park(header)
            case ev.HashSum():
                self.begin(p.incarnation, "hash_sum", *part)
            case ev.AnnounceSeal(digest, size):
                ledger = run.state.ledger
                run.sealed = PartHeader(
                    *at, p.name, p.incarnation, spec.part, digest, size, ledger.contributors,
                    ledger.absences(cb.Standing.REFUSED), ledger.absences(cb.Standing.LOST),
                )  # fmt: skip
            case ev.SettleClient(client, counted, reason):
                self.settle(p, client, spec.round, counted, reason)
            case ev.AskReoffer(client):
                self.send(p, client, m.Reoffer(*at))
            case ev.AnswerRelease() | ev.AnnounceAbort():
                pass  # the first is said by `release`; nobody follows what is aborted any more

    def grant(self, p: Process, run: Run, header: UpdateHeader) -> None:
        spec = run.state.ledger.spec
        if header.client not in run.uploads:
            run.grants += 1
            run.uploads[header.client] = f"{p.incarnation}.{spec.round}.{spec.part}.{run.grants}"
        grant = run.uploads[header.client]
        if self.small:
            self.begin(p.incarnation, "take", p.name, grant, header)
        else:
            self.send(p, header.client, m.Granted(S, spec.round, header.digest, grant, 0))

    def take(self, name: CombinerName, grant: str, header: UpdateHeader, odd: bool) -> bool:
        """All bytes of an upload are here and right, unless it was dropped meanwhile."""
        p = self.processes[name]
        for run in p.parts(header.round).values():
            if run.uploads.get(header.client) == grant:
                self.decide(p, run, ev.UpdateVerified(header.client, header.digest))
        return True

    def fold(self, name: CombinerName, number: int, part: int, header: UpdateHeader, odd: bool) -> bool:
        p = self.processes[name]
        run = p.runs.get((number, part))
        if run and run.uploads.pop(header.client, None):
            key, update = lg.PartKey(name, p.incarnation, part), (header.client, header.digest)
            assert update not in self.folds[number, key], f"{update} is folded twice"
            self.folds[number, key] |= {update}
            self.decide(p, run, ev.UpdateFolded(*update))
        return True

    def hash_sum(self, name: CombinerName, number: int, part: int, odd: bool) -> bool:
        p = self.processes[name]
        run = p.runs.get((number, part))
        if run:
            self.decide(p, run, ev.SumHashed(named("sum", p.incarnation, number, part), 8))
        return True

    def settle(self, p: Process, client: ClientId, round_: int, counted: bool, reason: str) -> None:
        p.parked.pop((client, round_), None)
        self.send(p, client, m.Settled(S, round_, counted, reason))

    def open(self, p: Process, number: int, part: int, clients: tuple[ClientId, ...]) -> Run:
        """RunRound: the part as it is, or a new one."""
        if (number, part) not in p.runs:
            spec = RoundSpec(
                1, S, number, part, model(number - 1), 100, LAYOUT, clients,
                "{}", 0, DEADLINE, "mean", p.incarnation,
            )  # fmt: skip
            for client in clients:
                p.parked.pop((client, number), None)
            self.folds[number, lg.PartKey(p.name, p.incarnation, part)] = frozenset()
            state, commands = cb.open_part(spec, frozenset(p.links), self.now, GRACE, 2**20)
            run = p.runs[number, part] = Run(state)
            self.apply(p, run, (state, commands))
        return p.runs[number, part]

    def hear(self, p: Process, client: ClientId, message: UpdateHeader | m.TaskFailed) -> None:
        if isinstance(message, m.TaskFailed):
            for run in p.parts(message.round).values():
                self.decide(p, run, ev.TrainingFailed(client, message.reason))
        else:
            self.offered(p, message)

    def offered(self, p: Process, header: UpdateHeader) -> None:
        runs = list(p.parts(header.round).values())
        holding = [run for run in runs if header.client in run.state.ledger.entries]
        if runs:
            self.decide(p, (holding or runs)[-1], ev.OfferMade(header))
        else:
            p.park(header)

    # --- unary calls of the reducer: the process, then what was said -------------------------------

    def run_late(self, p: Process, number: int, part: int, clients: tuple[ClientId, ...], term: int) -> None:
        """A RunRound that nobody listens to any more."""
        if number > p.over and p.aborted.get((number, part), 0) < term:
            self.open(p, number, part, clients)

    def abort(self, p: Process, number: int, key: lg.PartKey, reason: str, reoffer: bool) -> None:
        p.aborted[number, key.part] = p.term
        if run := p.runs.pop((number, key.part), None):
            self.decide(p, run, ev.AbortAsked(reason, reoffer))

    def ack(self, p: Process, number: int, counted: tuple[int, ...]) -> None:
        parts = p.parts(number)
        p.over = max(p.over, number)
        for part, run in parts.items():
            del p.runs[number, part]
            later = frozenset(c for n, other in parts.items() if n > part for c in other.state.ledger.entries)
            self.decide(p, run, ev.RoundAcked(part in counted, later))

    def release(self, p: Process, number: int, client: ClientId) -> rm.Event:
        said = ev.AnswerRelease(client, True)
        folded = any(said in self.decide(p, r, ev.ClientReleased(client)) for r in p.parts(number).values())
        return rm.ReleaseAnswered(number, client, folded)

    def admit(self, p: Process, number: int, key: lg.PartKey, client: ClientId) -> rm.Event:
        run = p.runs.get((number, key.part))
        if run is None or not cb.admits(run.state):
            return rm.AdmitAnswered(number, key, client, False)
        p.parked.pop((client, number), None)
        self.decide(p, run, ev.ClientAdmitted(client, client in p.links, self.now))
        return rm.AdmitAnswered(number, key, client, True)

    def fetch(self, p: Process, number: int, key: lg.PartKey, header: PartHeader) -> rm.Event:
        run = p.runs.get((number, key.part))
        if run and isinstance(run.state, cb.Sealed) and run.state.digest == header.digest:
            return rm.PartFetched(number, key)
        return rm.PartAborted(number, key, self.now)
