"""One session at work: maps its machine's commands to calls on combiners, stores and observers.

`federation.py` owns the session drivers and feeds them network events; what comes in for the open round is
kept by `intake.py`. Everything here runs on one event loop; numerics and stores run in worker threads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, assert_never

from fedn.aggregation.mean import PartMerger
from fedn.domain import messages as m
from fedn.domain.canonical import canonical_json
from fedn.domain.errors import Conflict, FednError
from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, SessionId, derived_seed
from fedn.domain.model import Layout
from fedn.domain.part import PartHeader
from fedn.domain.round import RoundSpec, ValidationSpec
from fedn.domain.update import UpdateHeader
from fedn.ports import ClientSelector, CombinerLink, ModelStore, Observed, Observer, SessionInfo, StateStore
from fedn.reducer import legs as lg
from fedn.reducer import machine as mc
from fedn.reducer import telling
from fedn.reducer.books import PAUSED, RUNNING, Books, Hindrances
from fedn.reducer.eligible import Eligible
from fedn.reducer.intake import Intake
from fedn.reducer.merging import Committer, read_inline, read_layout
from fedn.reducer.metrics import summary
from fedn.reducer.network import Network
from fedn.reducer.numerics import aggregator_of
from fedn.reducer.peers import paused
from fedn.reducer.records import ack_from_record, settle_from_record
from fedn.reducer.timing import COMMITTING, REDUCING, RoundTimes
from fedn.reducer.validating import Asking, Find, Subject, Validating
from fedn.tasks import Tasks

log = logging.getLogger("fedn.reducer")

NOBODY = "no combiner is connected to the reducer; start one with `fedn combiner start`"
AGAIN_FIRST, AGAIN_MOST = 0.1, 10.0
"""Seconds before a part that came to nothing is asked for again; doubled while its combiner goes on so."""
Fault = Callable[[str], mc.Event]


class SessionDriver:
    """Runs one session from its head to its end."""

    def __init__(
        self,
        info: SessionInfo,
        term: int,
        *,
        state: StateStore,
        models: ModelStore,
        selector: ClientSelector,
        find: Find,
        observer: Observer,
        orphan_grace: float,
    ) -> None:
        self.session: SessionId = info.session
        self._plan = info.plan
        self._head = info.head
        self._term = term
        self._store = state
        self._models = models
        self._selector = selector
        self._find = find
        self._observer = observer
        self._grace = orphan_grace
        self._pause_reason = info.reason if info.state == PAUSED else ""
        self._aggregator = aggregator_of(info.plan)
        self._committer = Committer(state, models, term, info.session, info.plan)
        self._layout: Layout
        self._intake: Intake
        self._times = RoundTimes(info.head.round + 1, self._tell)
        self._asking = Asking(info.session, info.plan, term, 0)
        self._subject = Subject(info.head.round, info.head.model, info.head.model_size)
        self._machine: mc.State | None = None
        self._pauses: dict[CombinerName, float] = {}
        self._hindrances = Hindrances(lambda reason: self._tell("waiting", reason=reason))
        self._books = Books(state, info.session, term, partial(self._hindrances.note, "reducer"))
        self._validating = Validating(
            info.session, info.plan, state, self._books, find, self._tell,
            partial(self._hindrances.note, "metric"),
        )  # fmt: skip
        self._eligible = Eligible(
            info.session, info.plan, self._aggregator.mergeable, state, find, self._check_spec, self._tell,
            hindrances=self._hindrances, changed=self._checked,
        )  # fmt: skip
        self._tasks = Tasks()
        self._timer: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()

    # --- told by federation.py -----------------------------------------------------------------------

    async def start(self, network: Callable[[], Network]) -> None:
        """Begin, or go on after a restart, with the network as it is once the model is read."""
        self._layout = await self._books.patiently(read_layout, self._models, self._head)
        head = self._head
        inline = await self._books.patiently(read_inline, self._models, head.model, head.model_size)
        self._subject = Subject(head.round, head.model, head.model_size, inline)
        if self._plan.package:
            size = await self._books.patiently(self._models.size, Digest(self._plan.package))
            self._asking = replace(self._asking, package_size=size)
        await self._books.patiently(self._eligible.read_known)
        await self._books.patiently(self._committer.prepare, self._head, self._layout)
        self._intake = self._new_intake()
        self._times.adopted = telling.begun(self.session, self._round, network())
        unvalidated, scores = await self._books.patiently(self._validating.stored, self._head)
        self._apply(mc.start(self.session, self._plan, self._head, self._eligible.seen(network()),
                             self._grace, self._pause_reason, unvalidated,
                             whole=not self._aggregator.mergeable, scores=scores))  # fmt: skip

    def network_changed(self, network: Network) -> None:
        self._hindrances.note("network", "" if network else NOBODY)
        self._decide(mc.NetworkChanged(self._eligible.seen(network)))

    def _checked(self) -> None:
        self._decide(mc.NetworkChanged(self._eligible.checked()))

    def combiner_lost(self, combiner: CombinerName, incarnation: Incarnation) -> None:
        self._hindrances.note(combiner, "")
        self._decide(mc.CombinerLost(combiner, incarnation, self._now()))

    def release_requested(self, combiner: CombinerName, header: UpdateHeader) -> None:
        self._decide(mc.ReleaseRequested(combiner, header))

    async def pause(self, reason: str) -> None:
        """Begin no further round, also after a restart. Raises Conflict when the session has ended."""
        await self._books.note(PAUSED, reason)
        self._pause_reason = reason
        self._tell("session_paused", reason=reason)
        self._decide(mc.PauseAsked(reason))

    async def resume(self) -> None:
        """Go on with rounds. Raises Conflict when the session has ended."""
        await self._books.note(RUNNING, "")
        self._pause_reason = ""
        self._tell("session_resumed")
        self._decide(mc.ResumeAsked())

    def stop(self, reason: str) -> None:
        self._decide(mc.StopAsked(reason))

    def fail(self, reason: str) -> None:
        """End the session because of a fault of ours."""
        self._decide(mc.FaultFound(reason))

    @property
    def progress(self) -> Mapping[str, Any]:
        """What the session does just now, for people; beside `telling.progress` who can't take part, and the
        parts of its reason: what its machine ``waits`` for, and ``hindrances`` by whose they are.
        """
        waits = getattr(telling.phase_of(self._machine), "reason", "")
        received = len(self._intake.received) if self._machine else 0
        shown = telling.progress(self._machine, self._hindrances.joined(waits), received)
        shown |= {"waits": waits, "hindrances": self._hindrances.reasons}
        if round_ := telling.open_round(self._machine):
            shown |= self._times.shown(round_)
        if self._eligible.unfit:
            shown["unfit"] = dict(self._eligible.unfit)
        if self._validating.failures:
            shown["failed"] = self._validating.failures
        return shown

    @property
    def unfit(self) -> Mapping[ClientId, str]:
        """Who could not take part so far, and why."""
        return self._eligible.ever_unfit

    @property
    def combiners(self) -> frozenset[CombinerName]:
        """Those that the open round has parts at."""
        round_ = telling.open_round(self._machine)
        legs = round_.legs if round_ else {}
        return frozenset(key.combiner for key, leg in legs.items() if leg.phase is not lg.Phase.VOID)

    def place_of(self, client: ClientId) -> str:
        """The combiner that waits for this client's update in the open round; '' if none does."""
        phase = self._machine.phase if self._machine else None
        return phase.round.awaited_at(client) if isinstance(phase, mc.Running) else ""

    async def settle_down(self) -> None:
        """After the end: let the last acknowledgements go out."""
        await self._tasks.settle()

    async def close(self) -> None:
        """Stop without ending the session: a restarted reducer goes on with it."""
        self._machine = None  # what is cut off now is nobody's answer
        if self._timer:
            self._timer.cancel()
        self._times.close()
        await self._eligible.close()
        await self._tasks.close()

    # --- machine -------------------------------------------------------------------------------------

    def _decide(self, event: mc.Event) -> None:
        if self._machine is not None:
            self._apply(mc.step(self._machine, event))

    def _apply(self, outcome: mc.Outcome) -> None:
        self._machine, commands = outcome
        if self._timer:
            self._timer.cancel()
        wake = mc.next_wake(self._machine)
        if wake is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(wake, lambda: self._spawn(self._tick()))
        for command in commands:
            self._do(command)

    async def _tick(self) -> None:
        self._decide(mc.Tick(self._now()))

    def _do(self, command: mc.Command) -> None:
        intake = self._intake
        match command:
            case lg.OpenPart(key, clients):
                intake.times.opened(key.combiner, clients)
                intake.followers[key] = self._spawn(self._run_part(intake, key, clients))
            case lg.FetchPart(key, header):
                self._spawn(self._fetch(intake, key, header))
            case lg.MergePart(key):
                self._spawn(intake.add(key))
            case lg.AbortPart(key, reason, reoffer):
                abort = m.AbortRound(self._term, self.session, intake.number, key.part, reason, reoffer)
                self._spawn(self._abort(intake, key, abort), None)
            case lg.AskRelease(combiner, client):
                self._spawn(self._release(intake, combiner, client))
            case lg.Admit(key, client):
                self._spawn(self._admit(intake, key, client))
            case lg.Settle(combiner, client, round_, counted, reason):
                settle = m.SettleUpdate(self._term, client, self.session, round_, counted, reason)
                self._ask(combiner, lambda link: link.settle(settle))
            case mc.SelectClients(round_, clients, limit):
                self._spawn(self._select(round_, clients, limit))
            case mc.CommitRound():
                self._spawn(self._commit(intake, command), mc.CommitFailed)
            case mc.AckRound(combiner, round_, counted):
                ack = m.AckRound(self._term, self.session, round_, counted)
                self._ask(combiner, lambda link: link.ack(ack))
            case mc.SettleFromRecord(combiner, header):
                self._spawn(self._when_durable(
                    lambda: settle_from_record(self._store, self._term, self._find(combiner), header)
                ), None)  # fmt: skip
            case mc.AckFromRecord(combiner, incarnation, round_):
                self._spawn(self._when_durable(lambda: ack_from_record(
                    self._store, self._term, self._find(combiner), incarnation, self.session, round_
                )), None)  # fmt: skip
            case mc.Validate():
                self._validate()
            case mc.SkipValidation(round_):
                self._tell("validation_skipped", round=round_)
            case mc.Announce(phase):
                self._announce(phase)
            case mc.DropSums():
                self._intake = self._new_intake()
            case _:
                assert_never(command)

    async def _when_durable(self, tell: Callable[[], Awaitable[object]]) -> None:
        """That a session is over is told only once it is durable: a client may delete its copy then."""
        if self._machine and isinstance(self._machine.phase, mc.Ended):
            await self._books.closed.wait()
        await tell()

    async def _select(self, round_: int, clients: tuple[ClientId, ...], limit: int) -> None:
        seed = derived_seed(self._plan.seed, round_, "selection")
        try:
            chosen = tuple(self._selector.select(clients, limit, seed)) if clients else ()
        except Exception as error:  # a plug-in's fault ends the session that chose it
            log.exception("the selector failed", extra={"session": self.session})
            self.fail(f"selector {self._plan.selection!r} failed: {error}")
        else:
            self._decide(mc.ClientsSelected(chosen))

    # --- rounds --------------------------------------------------------------------------------------

    @property
    def _round(self) -> int:
        return self._head.round + 1

    def _new_intake(self) -> Intake:
        if self._times.number != self._round:
            self._times.close()
            self._times = RoundTimes(self._round, self._tell)
        merger = PartMerger(self._layout, self._plan.averaging, self._aggregator)
        return Intake(self.session, self._round, merger, self._hindrances, self._times)

    async def _run_part(self, intake: Intake, key: lg.PartKey, clients: tuple[ClientId, ...]) -> None:
        """Follow one part to its end, across broken links, until its combiner is lost."""
        peer = self._find(key.combiner)
        if peer is None:
            return
        plan, head = self._plan, self._head
        spec = RoundSpec(
            self._term, self.session, intake.number, key.part, head.model, head.model_size,
            self._layout.digest, clients, canonical_json(plan.config_at(intake.number)).decode(), plan.seed,
            plan.round_deadline, plan.aggregator, key.incarnation, self._subject.inline, plan.package,
            self._asking.package_size,
        )  # fmt: skip

        def ask(link: CombinerLink) -> AsyncIterator[m.RoundEvent]:
            return self._hindrances.noted(key.combiner, link.run_round(spec))

        with intake.following(key) as opened:
            try:
                async for event in peer.stream(key.incarnation, ask, partial(self._wanted, intake, key)):
                    opened.set()
                    self._follow(intake, key, event)
            except FednError as error:
                opened.set()
                if self._wanted(intake, key):
                    await self._failed(intake, key, error)

    def _wanted(self, intake: Intake, key: lg.PartKey) -> bool:
        """Whether a part is still to be followed: it may be aborted, or its round over, meanwhile."""
        phase = self._machine.phase if self._machine else None
        if not isinstance(phase, mc.Running) or phase.round.number != intake.number:
            return False
        leg = phase.round.legs.get(key)
        return leg is not None and leg.phase is lg.Phase.RUNNING

    def _follow(self, intake: Intake, key: lg.PartKey, event: m.RoundEvent) -> None:
        match event:
            case m.UpdateReceived():
                self._note_update(intake, key, event)
            case m.StagesNoted(clients):
                intake.times.noted(key.combiner, clients)
            case m.PartSealed(header, inline):
                intake.seal(key, header, inline)
                intake.times.sealed(header)
                self._decide(mc.PartSealed(intake.number, key, header, self._now()))
            case m.RoundAborted(reason):
                raise Conflict(reason)
            case m.RoundOpened():
                pass  # the machine listed the same clients, or adopted the combiner's list

    def _note_update(self, intake: Intake, key: lg.PartKey, update: m.UpdateReceived) -> None:
        intake.times.noted(key.combiner, [m.ClientStage(update.client, "folded", 0.0)])
        if intake.receive(update):
            self._tell("update_received", round=intake.number, client=update.client, examples=update.examples,
                       received=len(intake.received), expected=telling.expected(self._machine))  # fmt: skip

    async def _fetch(self, intake: Intake, key: lg.PartKey, header: PartHeader) -> None:
        """Have a part's bytes here; one that is not what it should be is asked for again."""
        peer, here = self._find(key.combiner), False
        try:
            here = peer is not None and await intake.fetch(peer, key, header)
        except FednError as error:
            await self._failed(intake, key, error)
        intake.clear(key.combiner)
        if here:
            self._pauses.pop(key.combiner, None)
            self._decide(mc.PartFetched(intake.number, key))

    async def _failed(self, intake: Intake, key: lg.PartKey, error: FednError) -> None:
        """A part came to nothing. The machine asks for it again at once, so it is told after a pause."""
        log.error(
            "a part failed: %s", error.message, extra={"combiner": key.combiner, "round": intake.number}
        )
        self._hindrances.blame(key.combiner, error)
        self._pauses[key.combiner] = await paused(self._pauses.get(key.combiner, AGAIN_FIRST), AGAIN_MOST)
        self._decide(mc.PartAborted(intake.number, key, self._now()))

    async def _commit(self, intake: Intake, command: mc.CommitRound) -> None:
        """Retries while a store is out of reach; any other failure ends the session with its reason."""
        now, times = time.time(), intake.times
        times.lap(REDUCING)
        try:
            # Metrics first: after the record nobody would send them again.
            await self._books.measured([*intake.metrics, *intake.timing])
            times.lap(COMMITTING)
            mean = await intake.mean(command.parts)
            times.lap(REDUCING)
            head, inline = await self._books.patiently(
                self._committer.commit, command, self._head, self._layout, mean, now
            )
        except FednError as error:
            self._decide(mc.CommitFailed(error.message))
            return
        self._head, self._subject = head, Subject(head.round, head.model, head.model_size, inline)
        times.lap(COMMITTING)
        counted = {one.client for part in command.parts for one in part.contributors}
        train = summary([row for row in intake.metrics if row.client in counted])
        self._tell("round_committed", round=head.round, rounds=self._plan.rounds, model=head.model,
                   contributors=len(counted), refused=[a.client for a in command.refused],
                   lost=[a.client for a in command.lost], train=train,
                   seconds=times.seconds)  # fmt: skip
        self._decide(mc.RoundCommitted(head))

    async def _abort(self, intake: Intake, key: lg.PartKey, abort: m.AbortRound) -> None:
        """Stop following the part first, so that a late RunRound does not open it after all."""
        if following := intake.followers.pop(key, None):
            following.cancel()
            await asyncio.wait([following])
            intake.clear(key.combiner)
        if peer := self._find(key.combiner):
            await self._when_durable(partial(peer.call, key.incarnation, lambda link: link.abort(abort)))

    async def _release(self, intake: Intake, combiner: CombinerName, client: ClientId) -> None:
        peer = self._find(combiner)
        if peer is None:
            return
        await intake.opened_at(combiner)
        ask = m.ReleaseUpdate(self._term, self.session, intake.number, client)
        if answer := await peer.call(peer.incarnation, lambda link: link.release(ask)):
            self._decide(mc.ReleaseAnswered(intake.number, client, answer.folded))

    async def _admit(self, intake: Intake, key: lg.PartKey, client: ClientId) -> None:
        peer = self._find(key.combiner)
        if peer is None:
            return
        await intake.opened_at(key.combiner)
        ask = m.AdmitClient(self._term, self.session, intake.number, key.part, client)
        if answer := await peer.call(key.incarnation, lambda link: link.admit(ask)):
            self._decide(mc.AdmitAnswered(intake.number, key, client, answer.admitted))

    # --- validation ----------------------------------------------------------------------------------

    def _validate(self) -> None:
        network = self._machine.network if self._machine else {}
        self._spawn(self._validating.run(self._subject, self._asking, network, self._validated), None)

    def _validated(self, round_: int, value: float | None) -> None:
        self._decide(mc.ValidationEnded(round_, value))

    def _check_spec(self, clients: tuple[ClientId, ...]) -> ValidationSpec:
        """Whether they can work with the newest model."""
        return self._asking.spec(m.TaskKind.CHECK, self._subject, clients)

    # --- telling -------------------------------------------------------------------------------------

    def _announce(self, phase: mc.Phase) -> None:
        if isinstance(phase, mc.Ended):
            self._spawn(self._close_books(phase.outcome, phase.reason))
        elif told := telling.announcement(phase, self._plan, self._head):
            self._tell(told[0], **told[1])

    async def _close_books(self, outcome: str, reason: str) -> None:
        """The end is durable before it is told."""
        self._times.close()
        self._eligible.stop()
        await self._books.close(outcome, reason)
        self._tell(f"session_{outcome}", reason=reason)
        self.ended.set()

    def _tell(self, event: str, **fields: Any) -> None:
        self._observer.observe(Observed(event, {"session": self.session, **fields}))

    # --- odds ----------------------------------------------------------------------------------------

    def _ask(self, combiner: CombinerName, ask: Callable[[CombinerLink], Awaitable[None]]) -> None:
        """A call whose answer nobody waits for."""
        if peer := self._find(combiner):
            self._spawn(self._when_durable(partial(peer.call, peer.incarnation, ask)), None)

    def _spawn(
        self, work: Coroutine[None, None, None], fault: Fault | None = mc.FaultFound
    ) -> asyncio.Task[None]:
        """``fault`` is what the machine is told when the work fails in a way that nobody foresaw.

        It is None where the machine waits for nothing: whoever misses what is told asks again.
        """
        return self._tasks.start(work, partial(self._task_failed, fault))

    def _task_failed(self, fault: Fault | None, error: BaseException) -> None:
        log.error("session task failed: %s", error, exc_info=error, extra={"session": self.session})
        if fault:
            self._decide(fault(f"internal fault: {error}"))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
