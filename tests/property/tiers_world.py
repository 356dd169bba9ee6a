"""All three tiers and the network between them, for `test_tiers.py` and `search.py` beside this file.

The machines are the real ones; their drivers are modelled here (clients), in `tiers_combiners.py` and in
`tiers_reducer.py`. The world says what may happen next (`steps`), a test or a search chooses, and every
choice is checked.

What the network may do. A stream is ordered: a break loses what its reader has not read, and as each
end notices the break by itself, after reading as much as it likes, any tail is lost in either
direction. Neither loses, repeats or reorders a message in the middle: HTTP/2 does not. But both ends
repeat themselves, so offers and answers are repeated, too, and also late (`REPEATED`). A task is not:
the only one who could send it behind the end of its round is a combiner that does not know of that
end, and such a part is modelled. Calls overtake one another, are lost, done twice, and done late.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tiers_combiners import DEADLINE, LAYOUT, CombinerTier, Process, Record, S, Work, forked, named
from tiers_reducer import REDUCER, ReducerTier

from fedn.client import machine as cl
from fedn.combiner import events as ev
from fedn.combiner import machine as cb
from fedn.domain import messages as m
from fedn.domain.ids import ClientId, CombinerName, Incarnation
from fedn.domain.plan import plan_from
from fedn.domain.update import UpdateHeader
from fedn.reducer import machine as rm

COMBINERS = [CombinerName("A"), CombinerName("B")]
CLIENTS = [ClientId(name) for name in ("ann", "bob", "cat")]
REPEATED = m.Granted | m.Receipt | m.Settled | m.Reoffer | UpdateHeader

Step = tuple[str, object]
"""A queue to take the next message of ('down', 'up' or 'watch', and whose), or ('work', what)."""


@dataclass
class Link(Record):
    """One Attach stream. Each end learns of its end by itself."""

    client: ClientId
    combiner: CombinerName
    incarnation: Incarnation
    up: tuple[UpdateHeader | m.TaskFailed, ...] = ()
    down: tuple[m.CombinerMessage, ...] = ()
    read_up: bool = True
    read_down: bool = True


@dataclass
class Person(Record):
    """A client: its machine, its journal, which survives, and its end of the link.

    ``past`` is in the journal, too: the last round that was settled. ``trained`` and ``told`` are ours:
    what it has done and heard, in all its lives.
    """

    state: cl.State = field(default_factory=cl.State)
    journal: dict[int, UpdateHeader] = field(default_factory=dict)
    past: int = 0
    link: str | None = None
    links: int = 0
    trained: set[int] = field(default_factory=set)
    told: dict[int, bool] = field(default_factory=dict)


class ClientTier:
    """Every client."""

    people: dict[ClientId, Person]
    links: dict[str, Link]

    def tell(self, client: ClientId, event: cl.Event) -> None:
        person = self.people[client]
        person.state, commands = cl.step(person.state, event)
        for command in commands:
            self.do_client(client, person, command)

    def do_client(self, client: ClientId, person: Person, command: cl.Command) -> None:
        match command:
            case cl.DoTask(task):
                assert task.round not in person.journal, "a kept update is trained again"
                self.begin(client, "train", client, task, person.link)
            case cl.SendOffer(header, _):
                if person.link is not None:
                    self.links[person.link].up += (header,)
            case cl.SendUpload(header, grant, _):
                self.begin(client, "submit", client, header, grant, person.link)
            case cl.ForgetUpdate(header):
                self.check_settled(person, header)
                person.past = max(person.past, header.round)
                del person.journal[header.round]
            case cl.SendFailure(key, reason):
                if person.link is not None:
                    self.links[person.link].up += (m.TaskFailed(*key, reason),)
            case cl.StopWork() | cl.HurryWork():
                pass  # as with an app, which can't be stopped: it goes on to its end
            case cl.SendReport():
                raise AssertionError(command)

    def train(self, client: ClientId, task: m.Task, link: str | None, odd: bool) -> bool:
        """Odd: the model was still coming when the link broke."""
        person = self.people[client]
        if odd and (link is None or person.link != link):
            self.tell(client, cl.WorkFailed(cl.key_of(task), "link broken", final=False))
            return True
        assert task.round not in person.trained, f"{client} trains round {task.round} again"
        person.trained.add(task.round)
        header = person.journal[task.round] = update(client, task)
        self.tell(client, cl.UpdateKept(header))
        return True

    def submit(self, client: ClientId, header: UpdateHeader, grant: str, link: str | None, odd: bool) -> bool:
        """Odd: the stream breaks behind the last byte, and both are through."""
        p = self.serving(link) if self.people[client].link == link else None
        granted = p is not None and any(grant in run.uploads.values() for run in p.runs.values())
        if granted:
            self.take(p.name, grant, header, False)
        if odd or not granted:
            self.tell(client, cl.UploadBroke(header, grant))
        return True

    def receive(self, client: ClientId, message: m.CombinerMessage) -> None:
        match message:
            case m.Task():
                self.tell(client, cl.TaskReceived(message))
            case m.TaskCancelled(session, number, kind):
                self.tell(client, cl.TaskDropped(cl.Key(session, number, kind)))
            case m.Granted(session, number, digest, grant, offset):
                self.tell(client, cl.UploadGranted(session, number, digest, grant, offset))
            case m.Receipt(session, number, _, digest):
                self.tell(client, cl.ReceiptArrived(session, number, digest))
            case m.Settled(session, number, counted):
                self.people[client].told[number] = counted
                self.tell(client, cl.UpdateEnded(session, number, ""))
            case m.Reoffer(session, number):
                self.tell(client, cl.ReofferAsked(session, number))

    def check_settled(self, person: Person, header: UpdateHeader) -> None:
        """Nobody deletes an update before it was told its end; that is what the record says, and durable."""
        client, number = header.client, header.round
        assert number in person.told, f"{client} deletes what is not settled"
        assert number in self.records or self.over, f"{client} deletes its update of a round that is open"
        counted = (client, header.digest) in self.recorded(number)
        assert person.told[number] == counted, f"{client} is told {not counted} of round {number}"

    def attach(self, client: ClientId, name: CombinerName) -> None:
        """A new stream; an older one at the same combiner is ended there."""
        p, person = self.processes[name], self.people[client]
        person.links += 1
        person.link = f"{client}{person.links}"
        if client in p.links:
            self.links[p.links[client]].read_up = False
        self.links[person.link] = Link(client, name, p.incarnation)
        p.links[client] = person.link
        self.tell(client, cl.Attached())
        p.publish(m.ClientAttached(m.ClientInfo(client, client)))
        for run in list(p.runs.values()):
            self.decide(p, run, ev.ClientArrived(client))
        self.forget_links()

    def detach(self, client: ClientId) -> None:
        """The client notices that its stream has ended, or ends it; what it has not read is lost."""
        if (link := self.people[client].link) is not None:
            self.links[link].read_down, self.people[client].link = False, None
            self.tell(client, cl.Detached())
            self.forget_links()

    def left(self, link: str) -> None:
        """The combiner notices that a stream has ended; what it has not read is lost."""
        client, p = self.links[link].client, self.serving(link)
        self.links[link].read_up = False
        if p and p.links.get(client) == link:
            del p.links[client]
            p.parked = {at: header for at, header in p.parked.items() if at[0] != client}
            for run in list(p.runs.values()):
                self.decide(p, run, ev.ClientLeft(client, self.now))
            p.publish(m.ClientDetached(client))
        self.forget_links()

    def send(self, p: Process, client: ClientId, message: m.CombinerMessage) -> None:
        if client in p.links and self.links[p.links[client]].read_down:
            self.links[p.links[client]].down += (message,)

    def serving(self, link: str | None) -> Process | None:
        """The process at the other end of a stream, if it still reads it."""
        if link not in self.links or not self.links[link].read_up:
            return None
        p = self.processes[self.links[link].combiner]
        return p if p.incarnation == self.links[link].incarnation else None

    def forget_links(self) -> None:
        self.links = {n: at for n, at in self.links.items() if at.read_down or self.serving(n)}

    def crash_client(self, client: ClientId) -> None:
        self.detach(client)
        self.work = [work for work in self.work if work.owner != client]
        self.people[client].state = cl.State(over={S: self.people[client].past})
        for header in self.people[client].journal.values():
            self.tell(client, cl.UpdateKept(header))


def update(client: ClientId, task: m.Task) -> UpdateHeader:
    digest = named("update", client, task.round)
    return UpdateHeader(S, task.round, client, task.model, 10, 100, digest, LAYOUT, ())


class World(CombinerTier, ClientTier, ReducerTier):
    """Everything there is. Clients are ``where`` from the start, all combiners are connected.

    ``once``: what is under way already is not begun a second time.
    """

    def __init__(
        self, rounds: int, min_clients: int, where: str = "", small: bool = False, clients: int = 3
    ) -> None:
        self.now, self.small, self.once = 0.0, small, False
        self.plan = plan_from({
            "rounds": rounds, "min_clients": min_clients, "validate": False, "round_deadline": DEADLINE,
        })  # fmt: skip
        self.records, self.folds, self.work, self.links = {}, {}, [], {}
        self.paused: set[str] = set()
        self.calls = []
        self.lives: Counter[CombinerName] = Counter()
        self.processes = {name: self.process(name) for name in COMBINERS}
        self.people = {client: Person() for client in CLIENTS[:clients]}
        for client, name in zip(self.people, where, strict=False):
            self.attach(client, CombinerName(name))
        self.start_reducer()

    def process(self, name: CombinerName) -> Process:
        self.lives[name] += 1
        return Process(name, Incarnation(f"{name}{self.lives[name]}"))

    def crash_combiner(self, name: CombinerName) -> None:
        """It dies and starts again under the same name; everybody else notices later."""
        old, self.processes[name] = self.processes[name], self.process(name)
        self.paused.discard(name)
        self.work = [work for work in self.work if work.owner != old.incarnation]
        self.forget_links()
        self.disconnect(name)

    def begin(self, owner: str, kind: str, *args: object) -> None:
        work = Work(owner, kind, args)
        if not (self.once and work in self.work):
            self.work.append(work)

    def fork(self) -> World:
        twin = object.__new__(World)
        twin.__dict__.update({name: forked(value) for name, value in vars(self).items()})
        return twin

    # --- everything that may happen next -----------------------------------------------------------

    def steps(self) -> list[Step]:
        """Every message that may be taken, by whoever is not paused, every end to notice, all work."""
        found: list[Step] = []
        for number, link in self.links.items():
            if link.read_down and link.client not in self.paused:
                found += [("down", number)] if link.down else []
                found += [] if self.serving(number) else [("detach", link.client)]
            elif link.read_down is False and link.combiner not in self.paused:
                found.append(("left", number))
            if link.up and link.combiner not in self.paused and self.serving(number):
                found.append(("up", number))
        if REDUCER not in self.paused:
            found += [("watch", name) for name, p in self.processes.items() if p.watch]
        return found + [("work", work) for work in self.work if not self.rests(work)]

    def rests(self, work: Work) -> bool:
        return work.owner in self.paused or work.owner.rstrip("0123456789") in self.paused

    def take_step(self, step: Step, odd: bool = False) -> bool:
        """Do it; whether it is through."""
        kind, what = step
        match kind:
            case "down":
                link = self.links[what]
                message, link.down = link.down[0], link.down[1:]
                self.receive(link.client, message)
            case "up":
                link = self.links[what]
                message, link.up = link.up[0], link.up[1:]
                self.hear(self.processes[link.combiner], link.client, message)
            case "watch":
                p = self.processes[what]
                event, p.watch = p.watch[0], p.watch[1:]
                self.watched(what, event)
            case "detach":
                self.detach(what)
            case "left":
                self.left(what)
            case "work":
                return self.carry_out(what, odd)
        return True

    def carry_out(self, work: Work, odd: bool) -> bool:
        self.work.remove(work)
        through = getattr(self, work.kind)(*work.args, odd)
        if not through:
            self.work.append(work)
        return through

    def answer_lost(self, work: Work) -> None:
        """A call or an upload breaks behind what it said, or a download in the middle."""
        self.carry_out(work, True)

    def wait(self, seconds: float) -> None:
        """Time passes. Whoever is paused does not notice."""
        self.now += seconds
        for p in self.processes.values():
            for run in list(p.runs.values()):
                due = cb.next_wake(run.state)
                if due is not None and self.now >= due and p.name not in self.paused:
                    self.decide(p, run, ev.Tick(self.now))
        due = rm.next_wake(self.session) if self.session else None
        if due is not None and self.now >= due and REDUCER not in self.paused:
            self.step(rm.Tick(self.now))

    # --- the end -------------------------------------------------------------------------------------

    def run_down(self) -> None:
        """Let everything that is under way take its course, without haste and without time passing."""
        for _ in range(500):
            through = [self.take_step(step) for step in self.steps() if step in self.steps()]
            if not any(through) and all(kind == "work" for kind, _ in self.steps()):
                return
        raise AssertionError("it never comes to rest")

    def mend(self) -> None:
        """No more faults: all go on, are attached and connected; time passes until the session ends."""
        self.paused = set()
        for name in COMBINERS:
            if not self.peers[name].live or self.processes[name].watch is None:
                self.connect(name)
        self.run_down()
        for number, (client, person) in enumerate(self.people.items()):
            if person.link is None:
                self.attach(client, COMBINERS[number % 2])
        self.resume_session()
        for _ in range(20):
            self.run_down()
            if self.over:
                return
            self.check_reason()
            self.wait(DEADLINE)
        raise AssertionError(f"the session does not end: {self.session.phase}")

    def check_reason(self) -> None:
        """A session at rest waits for clients or for time, and says so."""
        phase = self.session.phase
        waits_for_parts = isinstance(phase, rm.Running) and not phase.round.settled
        assert waits_for_parts or getattr(phase, "reason", ""), f"it rests without a reason: {phase}"

    def settle_all(self) -> None:
        """After the end nobody holds anything. Who missed the settlement asks on its next attach; a part
        that a late call opened anew is seen when the reducer watches its combiner anew.
        """
        self.run_down()
        for name in COMBINERS:
            self.disconnect(name)
            self.connect(name)
        self.run_down()
        assert not any(p.runs for p in self.processes.values()), "a combiner still holds a part"
        for client, person in self.people.items():
            assert not person.journal or person.link is None, f"{client} holds an update at rest"
        for client in self.people:
            self.detach(client)
            self.attach(client, COMBINERS[0])
        self.run_down()
        for client, person in self.people.items():
            assert not person.journal, f"an update of {client} is never settled"


__all__ = ["CLIENTS", "COMBINERS", "REPEATED", "Link", "Person", "Step", "World"]
