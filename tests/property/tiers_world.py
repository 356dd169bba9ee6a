"""A small model of the three drivers around the real machines, for `test_tiers.py` beside this file.

It turns commands into messages, calls and work that a test carries out in any order. An attachment is
a pair of ordered queues; calls of the reducer are unordered and may be carried out twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fedn.client import machine as cl
from fedn.combiner import events as ev
from fedn.combiner import machine as cb
from fedn.domain import messages as m
from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, SessionId, digest_of
from fedn.domain.part import PartHeader
from fedn.domain.plan import plan_from
from fedn.domain.round import Head, MergedPart, RoundSpec
from fedn.domain.update import UpdateHeader
from fedn.reducer import machine as rm
from fedn.reducer import round as rd
from fedn.reducer.network import Network, Station

S, LAYOUT = SessionId("s"), digest_of(b"layout")
COMBINERS = [CombinerName("A"), CombinerName("B")]
CLIENTS = [ClientId(name) for name in ("ann", "bob", "cat")]
DEADLINE, GRACE, ORPHAN_GRACE = 30.0, 3.0, 5.0


def model(round_: int) -> Digest:
    return digest_of(b"model %d" % round_)


@dataclass(eq=False)
class Link:
    """One Attach stream. The two ends may learn of its end at different times."""

    client: ClientId
    process: Process
    up: deque[UpdateHeader] = field(default_factory=deque)
    down: deque[m.CombinerMessage] = field(default_factory=deque)


@dataclass(eq=False)
class Run:
    state: cb.State
    uploads: dict[ClientId, str] = field(default_factory=dict)
    ending: PartHeader | str | None = None


@dataclass(eq=False)
class Process:
    """A combiner's process; ``watch`` is None while the reducer is not connected."""

    name: CombinerName
    incarnation: Incarnation
    alive: bool = True
    runs: dict[tuple[int, int], Run] = field(default_factory=dict)
    links: dict[ClientId, Link] = field(default_factory=dict)
    parked: dict[tuple[ClientId, int], UpdateHeader] = field(default_factory=dict)
    grants: dict[str, tuple[Run, UpdateHeader]] = field(default_factory=dict)
    watch: deque[m.CombinerEvent] | None = None

    def send(self, client: ClientId, message: m.CombinerMessage) -> None:
        if client in self.links:
            self.links[client].down.append(message)

    def settle(self, client: ClientId, round_: int, counted: bool, reason: str) -> None:
        self.parked.pop((client, round_), None)
        self.send(client, m.Settled(S, round_, counted, reason))

    def publish(self, event: m.CombinerEvent) -> None:
        if self.watch is not None:
            self.watch.append(event)

    def park(self, header: UpdateHeader) -> None:
        self.parked[header.client, header.round] = header
        self.publish(m.ReleaseRequested(header))


@dataclass(eq=False)
class Person:
    """A client: its machine, its journal, which survives, and its end of the link."""

    state: cl.State = field(default_factory=cl.State)
    journal: dict[int, UpdateHeader] = field(default_factory=dict)
    link: Link | None = None
    life: int = 0


@dataclass
class Peer:
    """What the reducer knows of a combiner."""

    incarnation: Incarnation
    live: bool = False
    lost: bool = False
    clients: set[ClientId] = field(default_factory=set)
    held: tuple[m.RoundHeld, ...] = ()


@dataclass(eq=False)
class Work:
    """Something under way. ``act(odd)`` says whether it is through; ``odd`` asks for the odder course."""

    owner: str
    act: Callable[[bool], bool]


class World:
    """Everything there is."""

    def __init__(self, rounds: int, min_clients: int) -> None:
        self.now, self.serial = 0.0, 0
        self.plan = plan_from({
            "rounds": rounds, "min_clients": min_clients, "validate": False, "round_deadline": DEADLINE,
        })  # fmt: skip
        self.head = Head(0, digest_of(b"record 0"), model(0), 100)
        self.records: dict[int, tuple[MergedPart, ...]] = {}
        self.folds: dict[tuple[int, rd.PartKey], set[tuple[ClientId, Digest]]] = {}
        self.merged: dict[rd.PartKey, PartHeader] = {}
        self.work: list[Work] = []
        self.processes = {name: self.process(name) for name in COMBINERS}
        self.peers = {name: Peer(Incarnation("")) for name in COMBINERS}
        self.people = {client: Person() for client in CLIENTS}
        self.session: rm.State
        for name in COMBINERS:
            self.connect(name)
        self.start_session()

    def fresh(self, word: str) -> str:
        self.serial += 1
        return f"{word}{self.serial}"

    # --- combiners ---------------------------------------------------------------------------------

    def process(self, name: CombinerName) -> Process:
        return Process(name, Incarnation(self.fresh(name)))

    def decide(self, p: Process, run: Run, event: ev.Event) -> tuple[ev.Command, ...]:
        return self.apply(p, run, cb.step(run.state, event))

    def apply(self, p: Process, run: Run, outcome: cb.Outcome) -> tuple[ev.Command, ...]:
        run.state, commands = outcome
        for command in commands:
            self.do_combiner(p, run, command)
        return commands

    def do_combiner(self, p: Process, run: Run, command: ev.Command) -> None:
        spec = run.state.ledger.spec
        match command:
            case ev.SendTask(client):
                p.send(client, m.Task(S, spec.round, m.TaskKind.TRAIN, spec.model, 100, "{}", 0))
            case ev.CancelTask(client, reason):
                p.send(client, m.TaskCancelled(S, spec.round, m.TaskKind.TRAIN, reason))
            case ev.GrantUpload(header):
                grant = run.uploads.setdefault(header.client, self.fresh("grant"))
                p.grants[grant] = (run, header)
                p.send(header.client, m.Granted(S, spec.round, header.digest, grant, 0))
            case ev.DropUpload(client):
                p.grants.pop(run.uploads.pop(client, ""), None)
            case ev.RefuseUpdate(header, refused):
                told = m.UpdateRefused(S, spec.round, header.digest, refused.code, refused.reason)
                p.send(header.client, told)
            case ev.FoldUpdate(header):
                self.work.append(Work("combiner", lambda _: self.fold(p, run, header)))
            case ev.SendReceipt(header):
                receipt = m.Receipt(
                    S, spec.round, header.client, header.digest, p.name, p.incarnation, spec.part
                )
                p.send(header.client, receipt)
            case ev.RequestRelease(header):
                p.park(header)
            case ev.HashSum():
                self.work.append(Work("combiner", lambda _: self.hash(p, run)))
            case ev.AnnounceSeal(digest, size):
                ledger = run.state.ledger
                run.ending = PartHeader(
                    S, spec.round, p.name, p.incarnation, spec.part, digest, size, ledger.contributors,
                    ledger.absences(cb.Standing.REFUSED), ledger.absences(cb.Standing.LOST),
                )  # fmt: skip
            case ev.AnnounceAbort(reason):
                run.ending = reason
            case ev.SettleClient(client, counted, reason):
                p.settle(client, spec.round, counted, reason)
            case ev.AskReoffer(client):
                p.send(client, m.Reoffer(S, spec.round))
            case ev.AnswerRelease():
                pass

    def fold(self, p: Process, run: Run, header: UpdateHeader) -> bool:
        if p.alive and header.client in run.uploads:
            p.grants.pop(run.uploads.pop(header.client), None)
            spec = run.state.ledger.spec
            key = rd.PartKey(p.name, p.incarnation, spec.part)
            folded = self.folds[spec.round, key]
            assert (header.client, header.digest) not in folded
            folded.add((header.client, header.digest))
            self.decide(p, run, ev.UpdateFolded(header.client, header.digest))
        return True

    def hash(self, p: Process, run: Run) -> bool:
        if p.alive and isinstance(run.state, cb.Closing):
            self.decide(p, run, ev.SumHashed(digest_of(self.fresh("sum").encode()), 8))
        return True

    def open(self, p: Process, number: int, part: int, clients: tuple[ClientId, ...]) -> Run:
        if (number, part) not in p.runs:
            spec = RoundSpec(
                1, S, number, part, model(number - 1), 100, LAYOUT, clients, "{}", 0, DEADLINE, "mean"
            )
            for client in clients:
                p.parked.pop((client, number), None)
            self.folds[number, rd.PartKey(p.name, p.incarnation, part)] = set()
            state, commands = cb.open_part(spec, frozenset(p.links), self.now, GRACE, 2**20)
            run = p.runs[number, part] = Run(state)
            self.apply(p, run, (state, commands))
        return p.runs[number, part]

    def offered(self, p: Process, header: UpdateHeader) -> None:
        runs = [run for (number, _), run in p.runs.items() if number == header.round]
        holding = [run for run in runs if header.client in run.state.ledger.entries]
        if runs:
            self.decide(p, (holding or runs)[-1], ev.OfferMade(header))
        else:
            p.park(header)

    def left(self, link: Link) -> None:
        """The combiner notices that a stream has ended."""
        p = link.process
        if p.links.get(link.client) is not link:
            return
        del p.links[link.client]
        p.parked = {at: header for at, header in p.parked.items() if at[0] != link.client}
        for run in list(p.runs.values()):
            self.decide(p, run, ev.ClientLeft(link.client, self.now))
        p.publish(m.ClientDetached(link.client))

    def crash_combiner(self, name: CombinerName) -> None:
        self.processes[name].alive = False
        self.processes[name] = self.process(name)
        self.disconnect(name)

    # --- clients -----------------------------------------------------------------------------------

    def tell(self, client: ClientId, event: cl.Event) -> None:
        person = self.people[client]
        person.state, commands = cl.step(person.state, event)
        for command in commands:
            self.do_client(client, person, command)

    def do_client(self, client: ClientId, person: Person, command: cl.Command) -> None:
        match command:
            case cl.DoTask(task):
                held = person.journal.get(task.round)
                assert held is None or held.base_model != task.model, "a kept update is trained again"
                link, life = person.link, person.life
                self.work.append(Work("client", lambda odd: self.train(client, task, link, life, odd)))
            case cl.SendOffer(header, _):
                if person.link:
                    person.link.up.append(header)
            case cl.SendUpload(header, grant, _):
                link, life = person.link, person.life
                self.work.append(Work("client", lambda _: self.submit(client, header, grant, link, life)))
            case cl.ForgetUpdate(header):
                person.journal.pop(header.round, None)
            case cl.SendReport() | cl.SendFailure():
                raise AssertionError(command)

    def train(self, client: ClientId, task: m.Task, link: Link | None, life: int, odd: bool) -> bool:
        person = self.people[client]
        if person.life != life:
            return True
        if odd and person.link is not link:  # the model was still coming when the link broke
            key = cl.Key(S, task.round, task.kind)
            self.tell(client, cl.WorkFailed(key, "link broken", final=False))
            return True
        digest = digest_of(self.fresh("update").encode())
        header = UpdateHeader(S, task.round, client, task.model, 10, 100, digest, LAYOUT)
        person.journal[task.round] = header
        self.tell(client, cl.UpdateKept(header))
        return True

    def submit(
        self, client: ClientId, header: UpdateHeader, grant: str, link: Link | None, life: int
    ) -> bool:
        person = self.people[client]
        if person.life != life:
            return True
        p = link.process if link else None
        if p is None or not p.alive or person.link is not link or grant not in p.grants:
            self.tell(client, cl.UploadBroke(header, grant))
        else:
            self.decide(p, p.grants[grant][0], ev.UpdateVerified(client, header.digest))
        return True

    def receive(self, client: ClientId, message: m.CombinerMessage) -> None:
        match message:
            case m.Task():
                self.tell(client, cl.TaskReceived(message))
            case m.TaskCancelled(session, number, kind):
                self.tell(client, cl.TaskDropped(cl.Key(session, number, kind)))
            case m.Granted(session, number, digest, grant, offset):
                self.tell(client, cl.UploadGranted(session, number, digest, grant, offset))
            case m.UpdateRefused(session, number, digest):
                self.tell(client, cl.UpdateEnded(session, number, digest))
            case m.Receipt(session, number, _, digest):
                self.tell(client, cl.ReceiptArrived(session, number, digest))
            case m.Settled(session, number, counted):
                self.check_settled(client, number, counted)
                self.tell(client, cl.UpdateEnded(session, number, ""))
            case m.Reoffer(session, number):
                self.tell(client, cl.ReofferAsked(session, number))
            case _:
                raise AssertionError(message)

    def check_settled(self, client: ClientId, number: int, counted: bool) -> None:
        """What a client is told of an update that it holds is what the record says."""
        held = self.people[client].journal.get(number)
        if held is not None:
            names = {(c.client, c.digest) for part in self.records.get(number, ()) for c in part.contributors}
            assert counted == ((client, held.digest) in names), (
                f"{client} is told {counted} of round {number}"
            )

    def attach(self, client: ClientId, name: CombinerName) -> None:
        person, p = self.people[client], self.processes[name]
        link = person.link = p.links[client] = Link(client, p)
        self.tell(client, cl.Attached())
        p.publish(m.ClientAttached(m.ClientInfo(client, client)))
        for run in list(p.runs.values()):
            self.decide(p, run, ev.ClientArrived(client))
        assert person.link is link

    def detach(self, client: ClientId) -> None:
        """The client notices that its stream has ended; the combiner will later."""
        link, self.people[client].link = self.people[client].link, None
        if link:
            self.tell(client, cl.Detached())
            self.work.append(Work("combiner", lambda _: self.left(link) is None))

    def crash_client(self, client: ClientId) -> None:
        self.detach(client)
        person = self.people[client]
        person.state, person.life = cl.State(), person.life + 1
        for header in person.journal.values():
            self.tell(client, cl.UpdateKept(header))

    # --- the reducer -------------------------------------------------------------------------------

    @property
    def network(self) -> Network:
        return {name: Station(peer.incarnation, frozenset(peer.clients), peer.held)
                for name, peer in self.peers.items() if peer.live}  # fmt: skip

    def start_session(self) -> None:
        self.take(rm.start(S, self.plan, self.head, self.network, ORPHAN_GRACE))

    def step(self, event: rm.Event) -> None:
        self.take(rm.step(self.session, event))

    def take(self, outcome: rm.Outcome) -> None:
        self.session, commands = outcome
        for command in commands:
            self.do_reducer(self.head.round + 1, command)

    def restart_reducer(self) -> None:
        self.work = [work for work in self.work if work.owner != "reducer"]
        self.merged = {}
        for name in COMBINERS:
            self.disconnect(name, told=False)
            self.peers[name] = Peer(Incarnation(""))
            self.connect(name, told=False)
        self.start_session()

    def connect(self, name: CombinerName, told: bool = True) -> None:
        p, peer = self.processes[name], self.peers[name]
        before, was_lost = peer.incarnation, peer.lost
        kept = {at: run for at, run in p.runs.items() if not isinstance(run.state, cb.Aborted)}
        held = tuple(m.RoundHeld(S, *at, tuple(run.state.ledger.entries)) for at, run in kept.items())
        self.peers[name] = Peer(p.incarnation, True, False, set(p.links), held)
        p.watch = deque(m.ReleaseRequested(header) for header in p.parked.values())
        if told and hasattr(self, "session"):
            if before and before != p.incarnation and not was_lost:
                self.step(rm.CombinerLost(name, before, self.now))
            self.step(rm.NetworkChanged(self.network))

    def disconnect(self, name: CombinerName, told: bool = True) -> None:
        self.processes[name].watch = None
        was_live, self.peers[name].live = self.peers[name].live, False
        if was_live and told:
            self.step(rm.NetworkChanged(self.network))

    def give_up(self, name: CombinerName) -> None:
        peer = self.peers[name]
        peer.lost = True
        self.step(rm.CombinerLost(name, peer.incarnation, self.now))

    def watched(self, name: CombinerName, event: m.CombinerEvent) -> None:
        clients = self.peers[name].clients
        match event:
            case m.ClientAttached(info):
                clients.add(info.client)
                self.step(rm.NetworkChanged(self.network))
            case m.ClientDetached(client):
                clients.discard(client)
                self.step(rm.NetworkChanged(self.network))
            case m.ReleaseRequested(header):
                self.step(rm.ReleaseRequested(name, header))
            case _:
                raise AssertionError(event)

    def call(
        self, name: CombinerName, incarnation: Incarnation, ask: Callable[[Process], rm.Event | None]
    ) -> None:
        """Ask this very process until it answers or is lost. Odd: it does as asked, the answer is lost."""

        def act(odd: bool) -> bool:
            peer = self.peers[name]
            if peer.incarnation != incarnation or peer.lost:
                return True
            if not peer.live:
                return False
            answer = ask(self.processes[name])
            if answer is not None and not odd:
                self.later(answer)
            return not odd

        self.work.append(Work("reducer", act))

    def later(self, event: rm.Event) -> None:
        self.work.append(Work("reducer", lambda _: self.step(event) is None))

    def do_reducer(self, number: int, command: rm.Command) -> None:
        match command:
            case rd.OpenPart(key, clients):
                self.work.append(Work("reducer", lambda odd: self.follow(number, key, clients, odd)))
            case rd.FetchPart(key, header):
                self.call(key.combiner, key.incarnation, lambda p: self.fetch(p, number, key, header))
            case rd.MergePart(key):
                phase = self.session.phase
                assert isinstance(phase, rm.Running | rm.Committing)
                header = phase.round.legs[key].header
                assert key not in self.merged
                assert header
                self.merged[key] = header
            case rd.AbortPart(key, reason, reoffer):
                self.call(
                    key.combiner, key.incarnation, lambda p: self.abort(p, number, key, reason, reoffer)
                )
            case rd.AskRelease(name, client):
                self.call(name, self.peers[name].incarnation, lambda p: self.release(p, number, client))
            case rd.Admit(key, client):
                self.call(key.combiner, key.incarnation, lambda p: self.admit(p, number, key, client))
            case rd.Settle(name, client, of, counted, reason):
                self.call(name, self.peers[name].incarnation, lambda p: p.settle(client, of, counted, reason))
            case rm.SelectClients(_, clients):
                self.later(rm.ClientsSelected(clients))
            case rm.CommitRound():
                self.work.append(Work("reducer", lambda _: self.commit(command)))
            case rm.AckRound(name, of, counted):
                self.call(name, self.peers[name].incarnation, lambda p: self.ack(p, of, frozenset(counted)))
            case rm.AckFromRecord(name, incarnation, of):
                parts = self.records.get(of, ())
                numbers = frozenset(
                    p.part for p in parts if (p.combiner, p.incarnation) == (name, incarnation)
                )
                self.call(name, incarnation, lambda p: self.ack(p, of, numbers))
            case rm.SettleFromRecord(name, header):
                names = {(c.client, c.digest) for p in self.records[header.round] for c in p.contributors}
                told = (header.client, header.digest) in names
                self.call(name, self.peers[name].incarnation,
                          lambda p: p.settle(header.client, header.round, told, ""))  # fmt: skip
            case rm.DropSums():
                self.merged = {}
            case rm.Announce() | rm.Validate():
                pass

    def follow(self, number: int, key: rd.PartKey, clients: tuple[ClientId, ...], odd: bool) -> bool:
        phase, peer = self.session.phase, self.peers[key.combiner]
        open_ = isinstance(phase, rm.Running) and phase.round.number == number
        if not open_ or phase.round.legs[key].phase is not rd.Phase.RUNNING:
            return True
        if peer.incarnation != key.incarnation or peer.lost:
            return True
        if not peer.live:
            return False
        ending = self.open(self.processes[key.combiner], number, key.part, clients).ending
        if isinstance(ending, PartHeader):
            self.step(rm.PartSealed(number, key, ending, self.now))
        elif ending is not None:
            self.step(rm.PartAborted(number, key, self.now))
        return ending is not None and not odd

    def fetch(self, p: Process, number: int, key: rd.PartKey, header: PartHeader) -> rm.Event:
        run = p.runs.get((number, key.part))
        if run and isinstance(run.state, cb.Sealed) and run.state.digest == header.digest:
            return rm.PartFetched(number, key)
        return rm.PartAborted(number, key, self.now)

    def abort(self, p: Process, number: int, key: rd.PartKey, reason: str, reoffer: bool) -> None:
        if run := p.runs.pop((number, key.part), None):
            self.decide(p, run, ev.AbortAsked(reason, reoffer))

    def release(self, p: Process, number: int, client: ClientId) -> rm.Event:
        for (of, _), run in list(p.runs.items()):
            if of == number and ev.AnswerRelease(client, True) in self.decide(
                p, run, ev.ClientReleased(client)
            ):
                return rm.ReleaseAnswered(number, client, True)
        return rm.ReleaseAnswered(number, client, False)

    def admit(self, p: Process, number: int, key: rd.PartKey, client: ClientId) -> rm.Event:
        run = p.runs.get((number, key.part))
        if run is None or not isinstance(run.state, cb.Open):
            return rm.AdmitAnswered(number, key, client, False)
        p.parked.pop((client, number), None)
        self.decide(p, run, ev.ClientAdmitted(client, client in p.links, self.now))
        return rm.AdmitAnswered(number, key, client, True)

    def ack(self, p: Process, number: int, counted: frozenset[int]) -> None:
        runs = sorted((part, run) for (of, part), run in p.runs.items() if of == number)
        for part, run in runs:
            del p.runs[number, part]
            if not isinstance(run.state, cb.Sealed):
                self.decide(p, run, ev.AbortAsked("the round was committed without this part", reoffer=True))
            self.decide(p, run, ev.RoundAcked(part in counted))

    def commit(self, command: rm.CommitRound) -> bool:
        names = [c.client for part in command.parts for c in part.contributors]
        assert len(names) == len(set(names)) >= self.plan.min_clients
        assert command.round == self.head.round + 1
        assert {rd.PartKey(p.combiner, p.incarnation, p.part) for p in command.parts} == set(self.merged)
        for part in command.parts:
            key = rd.PartKey(part.combiner, part.incarnation, part.part)
            folded = self.folds[command.round, key]
            assert folded == {(c.client, c.digest) for c in part.contributors}
        self.records[command.round] = command.parts
        self.head = Head(command.round, digest_of(b"record %d" % command.round), model(command.round), 100)
        self.step(rm.RoundCommitted(self.head))
        return True

    # --- time --------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for p in self.processes.values():
            for run in list(p.runs.values()):
                if (due := cb.next_wake(run.state)) is not None and self.now >= due:
                    self.decide(p, run, ev.Tick(self.now))
        if (due := rm.next_wake(self.session)) is not None and self.now >= due:
            self.step(rm.Tick(self.now))

    # --- everything that may happen next -----------------------------------------------------------

    @property
    def queues(self) -> list[tuple[deque, Callable[[object], None]]]:
        """Messages on their way, and who takes them."""
        found: list[tuple[deque, Callable]] = []
        for client, person in self.people.items():
            if person.link and person.link.down:
                found.append((person.link.down, lambda message, to=client: self.receive(to, message)))
        for p in self.processes.values():
            for link in p.links.values():
                if link.up:
                    found.append((link.up, lambda header, at=p: self.offered(at, header)))
            if p.watch:
                found.append((p.watch, lambda event, name=p.name: self.watched(name, event)))
        return found

    def deliver(self, index: int) -> None:
        queue, take = self.queues[index]
        take(queue.popleft())

    def carry_out(self, index: int, odd: bool) -> bool:
        work = self.work[index]
        through = work.act(odd)
        if through and work in self.work:
            self.work.remove(work)
        return through

    @property
    def over(self) -> bool:
        return isinstance(self.session.phase, rm.Ended)

    def run_down(self) -> None:
        """Let everything that is under way take its course, without haste and without time passing."""
        for _ in range(500):
            while self.queues:
                self.deliver(0)
            done = [self.carry_out(self.work.index(w), False) for w in list(self.work) if w in self.work]
            if not any(done) and not self.queues:
                return
        raise AssertionError("it never comes to rest")

    def mend(self) -> None:
        """No more faults: everyone is attached and connected; time passes until the session ends."""
        for name, peer in self.peers.items():
            if not peer.live:
                self.connect(name)
        for number, (client, person) in enumerate(self.people.items()):
            if person.link is None or not person.link.process.alive:
                self.detach(client)
                self.attach(client, COMBINERS[number % 2])
        for _ in range(20):
            self.run_down()
            if self.over:
                return
            self.wait(DEADLINE)
        raise AssertionError(f"the session does not end: {self.session.phase}")
