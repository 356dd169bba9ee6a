"""The combiner at work: maps the machines' commands to calls, and joins control with data.

`Combiner` is at once what the reducer asks of a combiner (ports.CombinerLink) and what a client asks
of it (ports.ClientLink): `service.py` puts it on gRPC, the in-process federation calls it directly.
Everything here runs on one event loop; slow work goes to worker threads.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Coroutine, Iterable
from pathlib import Path
from typing import assert_never

from fedn.combiner import events as ev
from fedn.combiner import machine as mc
from fedn.combiner.admission import Places
from fedn.combiner.clients import Parked
from fedn.combiner.counts import Measured, UpdateCounts
from fedn.combiner.entrance import Entrance, Hooks
from fedn.combiner.intake import Intake
from fedn.combiner.limits import Limits
from fedn.combiner.materials import having
from fedn.combiner.members import ANYBODY
from fedn.combiner.opening import Opening
from fedn.combiner.parts import Parts
from fedn.combiner.runs import MAX_BEHIND, RoundRun
from fedn.combiner.uploads import Uploads
from fedn.combiner.validations import Validations
from fedn.combiner.watching import Watchers
from fedn.domain import messages as m
from fedn.domain.errors import InvalidInput, LinkBroken, NotFound, StaleTerm, Unavailable
from fedn.domain.gauges import Gauges
from fedn.domain.hosts import known_lines
from fedn.domain.identity import Principal, Role
from fedn.domain.ids import (
    PROTOCOL_VERSION,
    ClientId,
    CombinerName,
    Incarnation,
    SessionId,
    compatible,
    incompatible,
)
from fedn.domain.round import RoundSpec, ValidationSpec, check_deadline
from fedn.domain.update import UpdateHeader, check_header, check_report
from fedn.logs import Kept
from fedn.ports import Buffer, ReducerLink
from fedn.stores.cache import ModelCache
from fedn.tasks import Tasks
from fedn.wire.chunks import split

log = logging.getLogger("fedn.combiner")


class Combiner:
    """Holds open parts, attached clients and a model cache. ``incarnation`` is new in every process."""

    def __init__(
        self,
        name: CombinerName,
        reducer: ReducerLink,
        models: ModelCache,
        spool: Path,
        limits: Limits,
        host: m.Host = m.UNSAID,
        log: Kept | None = None,
    ) -> None:
        """``host`` and ``log`` are shown to people; without, there is nothing to see."""
        self.name = name
        self.incarnation = Incarnation(secrets.token_hex(8))
        self.limits = limits
        self._host = host
        gauges = self._gauges = Gauges()
        hooks = Hooks(self._arrived, self._said, self._left, self._expected)
        self._entrance = Entrance(name, self.incarnation, limits, gauges, hooks)
        self._clients = self._entrance.clients
        self._reducer = reducer
        self._models = models
        self._term = 0
        self._uploads = Uploads(spool, limits, gauges, self._entrance.heard)
        self._updates = UpdateCounts()
        self._intake = Intake(self._uploads, self._updates, self._decide)
        self._fetches = Places(gauges, "fetches", limits.fetches_in_flight, limits.fetches_waiting,
                               limits.fetches_in_flight // 4, limits.calls_each)  # fmt: skip
        self._parked = Parked(limits, gauges)
        self._parts = Parts(limits, gauges)
        self._validations = Validations(models, reducer, limits, gauges, self._clients.send)
        self._opening = Opening(models)
        self._watchers = Watchers(gauges, self._entrance.traffic, log)
        gauges.add("events", MAX_BEHIND, self._behind)
        self._tasks = Tasks(_failed)

    # --- asked by the reducer ----------------------------------------------------------------------

    async def watch(self, request: m.WatchRequest) -> AsyncIterator[m.CombinerEvent]:
        """Snapshot and gauges first, then every change, for ever; parked release requests are repeated."""
        if not compatible(request.protocol):
            raise incompatible("combiner", "reducer", request.protocol)
        self._adopt(request.term)
        self._watchers.begin(self._tasks)
        with self._watchers.subscribe() as events:
            yield self._snapshot()
            for measured in self._watchers.measured():
                yield measured
            for header in self._parked:
                yield m.ReleaseRequested(header)
            async for event in events:
                yield event

    async def run_round(self, spec: RoundSpec) -> AsyncIterator[m.RoundEvent]:
        """Open the part, or go on with it; ends with PartSealed or RoundAborted."""
        self._adopt(spec.term)
        check_deadline(spec)
        if spec.incarnation != self.incarnation:
            raise Unavailable("this is another process of the combiner by now")
        run = await self._opened(spec)
        if run is None:
            yield m.RoundAborted(self._parts.over(spec))
            return
        with run.listeners.subscribe() as events:
            past, ending = run.past, run.ending  # what comes from now on is in ``events``
            yield m.RoundOpened(self.incarnation, spec.part, tuple(run.state.ledger.entries))
            for said in past:
                yield said
            if ending is not None:
                yield ending
                return
            async for event in events:
                yield event
                if isinstance(event, m.PartSealed | m.RoundAborted):
                    return
        raise LinkBroken("this stream fell too far behind; call again")

    async def run_validation(self, spec: ValidationSpec) -> AsyncIterator[m.ValidationEvent]:
        """Have the listed clients evaluate a model; ends with ValidationSealed."""
        self._adopt(spec.term)
        check_deadline(spec)
        async for event in self._validations.run(spec, lambda: self._attached, self._entrance.ask):
            yield event

    async def fetch_part(self, request: m.FetchRequest) -> AsyncIterator[Buffer]:
        """The bytes of a sealed part."""
        run = self._parts.sealed(request.digest)
        if run is None:
            raise NotFound(f"no sealed part {request.digest[:12]} here")
        for piece in split(run.sum.bytes(), request.offset):
            yield piece

    async def ack(self, command: m.AckRound) -> None:
        """The round is committed: settle its clients and forget it. Again: nothing."""
        self._adopt(command.term)
        parts = self._parts.commit(command.session, command.round)
        for number, run in parts.items():
            later = [c for n, other in parts.items() if n > number for c in other.state.ledger.entries]
            self._decide(run, ev.RoundAcked(number in command.counted, frozenset(later)))
            self._close(run)

    async def abort(self, command: m.AbortRound) -> None:
        """Drop the sums of a round's part. Again, or unknown: nothing."""
        self._adopt(command.term)
        self._drop_part(command.session, command.round, command.part, command.reason, command.reoffer)

    def _drop_part(self, session: SessionId, number: int, part: int, reason: str, reoffer: bool) -> None:
        if run := self._parts.drop(session, number, part, self._term):
            self._decide(run, ev.AbortAsked(reason, reoffer))
            self._close(run)

    def _close(self, run: RoundRun) -> None:
        for client in list(run.sum.uploads):
            self._uploads.drop(run, client)
        run.close()

    async def release(self, command: m.ReleaseUpdate) -> m.ReleaseAnswer:
        """Whether the client's update counts here; if not it never will."""
        self._adopt(command.term)
        for run in self._parts.of_round(command.session, command.round).values():
            for done in self._decide(run, ev.ClientReleased(command.client)):
                if isinstance(done, ev.AnswerRelease) and done.folded:
                    return m.ReleaseAnswer(folded=True)
        return m.ReleaseAnswer(folded=False)

    async def admit(self, command: m.AdmitClient) -> m.AdmitAnswer:
        """List one more client in an open part."""
        self._adopt(command.term)
        run = self._parts.of_round(command.session, command.round).get(command.part)
        if run is None or not mc.admits(run.state):
            return m.AdmitAnswer(admitted=False)
        client = command.client
        run.watch.listed(client, trained=self._parked.drop(client, command.session, command.round))
        self._decide(run, ev.ClientAdmitted(client, client in self._clients, self._now()))
        return m.AdmitAnswer(admitted=True)

    async def settle(self, command: m.SettleUpdate) -> None:
        """Tell a client that is attached here how its update ended."""
        self._adopt(command.term)
        self._settle(command.client, command.session, command.round, command.counted, command.reason)

    async def drain(self, command: m.DrainRequest) -> None:
        """Take no new clients and send the attached ones elsewhere; open rounds go on without them.

        Or, when that is over, take clients again.
        """
        self._adopt(command.term)
        self._entrance.drain("" if command.over else command.reason or "this combiner is draining")

    # --- asked by clients --------------------------------------------------------------------------

    def attach(
        self, messages: AsyncIterator[m.ClientMessage], who: Principal = ANYBODY
    ) -> AsyncIterator[m.CombinerMessage]:
        """A client's control stream: Hello up, Welcome down, then tasks, grants and settlements.

        ``who`` is who calls, here and below. Raises Forbidden if that is not the client of the Hello.
        """
        return self._entrance.attach(messages, who)

    async def fetch_model(self, request: m.FetchRequest, who: Principal = ANYBODY) -> AsyncIterator[Buffer]:
        """A model of an open round or validation, from the cache. Raises NotFound, Busy, Revoked."""
        client = who.name if who.role is Role.CLIENT else ""
        async with self._fetches.taken(client):
            for chunk in self._models.read(request.digest, request.offset):
                self._entrance.members.check(who)
                self._entrance.traffic.sent(client or request.client, len(chunk))
                yield chunk

    async def submit(
        self, grant: str, offset: int, chunks: AsyncIterator[Buffer], who: Principal = ANYBODY
    ) -> None:
        """The bytes of a granted update. What arrived is kept for a resumption if the stream breaks.

        Raises:
            NotFound: the grant is not (or no more) valid; offer again.
            Forbidden: the grant is another client's.
            Conflict: the offset is not where the staged bytes end; offer again.
            Busy: too many uploads wait already; offer again.
        """
        chunks = self._entrance.members.while_admitted(who, chunks)
        await self._uploads.receive(grant, offset, chunks, self._intake.judge, who)

    def revoke(self, members: Iterable[str]) -> None:
        """Whom the reducer has revoked, as role:member: their streams end, and they are let in no more."""
        self._entrance.revoke(members)

    def measured(self) -> Measured:
        """This combiner in numbers, for `prometheus.py`."""
        traffic = self._entrance.traffic.everything()
        return Measured(self._updates, traffic.received, traffic.sent, self._gauges.read())

    def check_admitted(self, who: Principal) -> None:
        """Raises Revoked."""
        self._entrance.members.check(who)

    async def close(self) -> None:
        """End every stream and drop every sum."""
        self._entrance.close()
        await self._tasks.close()
        for run in self._parts:
            self._close(run)
        self._validations.close()
        self._watchers.close()
        await self._models.close()

    # --- clients -----------------------------------------------------------------------------------

    def _arrived(self, info: m.ClientInfo) -> None:
        self._watchers.publish(m.ClientAttached(info))
        for run in self._parts:
            self._decide(run, ev.ClientArrived(info.client))

    def _left(self, client: ClientId, why: str) -> None:
        self._parked.leave(client)
        for run in self._parts:
            self._decide(run, ev.ClientLeft(client, self._now(), why))
        self._validations.left(client)
        self._watchers.publish(m.ClientDetached(client))

    def _expected(self) -> set[ClientId]:
        """Who is to be heard: something is still to come from them."""
        return {*self._parts.expected(), *self._validations.expected()}

    def _said(self, client: ClientId, message: m.ClientMessage) -> None:
        match message:
            case m.UpdateOffered(header, inline):
                self._offer(client, check_header(header), inline)
            case m.TaskFailed(session, round_, m.TaskKind.TRAIN, reason):
                for run in self._parts.of_round(session, round_).values():
                    run.watch.failed(client)
                    self._decide(run, ev.TrainingFailed(client, reason[:500]))
            case m.TaskFailed(session, round_, kind, reason):
                self._validations.failed(client, session, round_, kind, reason[:500])
            case m.ModelValidated():
                check_report(message.examples, message.metrics)
                self._validations.report(client, message)
            case m.LogShared(lines):
                self._watchers.publish(m.LinesLogged(client, known_lines(lines)))
            case m.Beat():
                pass  # that it was heard is all
            case m.Hello():
                raise InvalidInput("attach", "Hello came twice", "say it once")
            case _:
                assert_never(message)

    def _offer(self, client: ClientId, header: UpdateHeader, inline: bytes) -> None:
        if header.client != client:
            raise InvalidInput(
                "client", f"{client} offers an update of {header.client}", "offer your own only"
            )
        parts = self._parts.of_round(header.session, header.round)
        if not parts:
            self._park(header)  # over, or not yet known here: the reducer knows
            return
        holding = [run for run in parts.values() if client in run.state.ledger.entries]
        run = (holding or list(parts.values()))[-1]
        run.watch.offered(header)
        self._apply(run, mc.step(run.state, ev.OfferMade(header)), inline)

    def _park(self, header: UpdateHeader) -> None:
        if self._parked.add(header):
            self._watchers.publish(m.ReleaseRequested(header))
        else:
            log.warning("offer not noted: too many of this client wait", extra={"client": header.client})

    def _settle(self, client: ClientId, session: SessionId, round_: int, counted: bool, reason: str) -> None:
        self._parked.drop(client, session, round_)
        self._clients.send(client, m.Settled(session, round_, counted, reason))

    # --- rounds ------------------------------------------------------------------------------------

    async def _opened(self, spec: RoundSpec) -> RoundRun | None:
        """The run of this part; opened now unless it is there. Two calls at once open it once.

        None if it is over, also if that was said while the model came.
        """
        async with self._parts.opening(spec.session, spec.round):
            run = self._parts.of_round(spec.session, spec.round).get(spec.part)
            if run is None and not self._parts.over(spec):
                self._parts.check_room()
                async with having(self._models, self._reducer, spec):
                    run = None if self._parts.over(spec) else self._open_part(spec)
        return run

    def _open_part(self, spec: RoundSpec) -> RoundRun:
        run = self._opening.run(spec)
        self._parts.add(spec, run)
        for client in spec.clients:
            run.watch.listed(client, trained=self._parked.drop(client, spec.session, spec.round))
        grace, most = self.limits.client_grace, self.limits.max_update_bytes
        self._apply(run, mc.open_part(spec, self._attached, self._now(), grace, most))
        return run

    @property
    def _attached(self) -> frozenset[ClientId]:
        return frozenset(info.client for info in self._clients)

    def _decide(self, run: RoundRun, event: ev.Event) -> tuple[ev.Command, ...]:
        return self._apply(run, mc.step(run.state, event))

    def _tick(self, run: RoundRun) -> None:
        """The one event that nobody sends: of a fault in it nobody else would hear, and all would wait on."""
        try:
            self._decide(run, ev.Tick(self._now()))
        except Exception as error:
            self._give_up(run, error)

    def _apply(self, run: RoundRun, outcome: mc.Outcome, inline: bytes = b"") -> tuple[ev.Command, ...]:
        """Enter the new state and carry the commands out; ``inline`` came along with an offer."""
        run.state, commands = outcome
        for command in commands:
            self._do(run, command, inline)
        run.wake_at(mc.next_wake(run.state), lambda: self._tick(run))
        run.note_stages()
        return commands

    def _do(self, run: RoundRun, command: ev.Command, inline: bytes) -> None:
        spec = run.state.ledger.spec
        at = (spec.session, spec.round)
        match command:
            case ev.SendTask(client):
                run.watch.asked(client)
                self._entrance.ask(client, run.task)
            case ev.CancelTask(client, reason):
                self._clients.send(client, m.TaskCancelled(*at, m.TaskKind.TRAIN, reason))
            case ev.GrantUpload(header):
                self._grant(run, header, inline)
            case ev.DropUpload(client):
                self._uploads.drop(run, client)
            case ev.RefuseUpdate(header, refused):
                self._updates.refused += 1
                log.warning(
                    "update refused: %s", refused.reason, extra={"client": header.client, "round": at[1]}
                )
                answer = m.UpdateRefused(*at, header.digest, refused.code, refused.reason)
                self._clients.send(header.client, answer)
            case ev.FoldUpdate(header):
                self._tasks.start(self._guarded(run, self._intake.fold(run, header)))
            case ev.SendReceipt(header):
                receipt = m.Receipt(*at, header.client, header.digest, self.name, self.incarnation, spec.part)
                self._clients.send(header.client, receipt)
            case ev.RequestRelease(header):
                self._park(header)
            case ev.AnswerRelease():
                pass  # read by release(), which asked
            case ev.HashSum():
                self._tasks.start(self._guarded(run, self._intake.hash(run)))
            case ev.AnnounceSeal(digest, size):
                run.seal(self.name, self.incarnation, digest, size)
            case ev.AnnounceAbort(reason):
                run.end(m.RoundAborted(reason))
            case ev.SettleClient(client, counted, reason):
                self._settle(client, *at, counted, reason)
            case ev.AskReoffer(client):
                self._clients.send(client, m.Reoffer(*at))
            case _:
                assert_never(command)

    # --- data --------------------------------------------------------------------------------------

    def _grant(self, run: RoundRun, header: UpdateHeader, inline: bytes) -> None:
        """Make room for the bytes; take those that came along, or tell the client to send them."""
        upload = self._uploads.grant(run, header)
        if inline and upload.small and upload.offset == 0 and len(inline) == header.size:
            self._tasks.start(self._guarded(run, self._intake.take(run, upload, inline)))
            return
        granted = m.Granted(header.session, header.round, header.digest, upload.grant, upload.offset)
        self._clients.send(header.client, granted)

    async def _guarded(self, run: RoundRun, work: Coroutine[None, None, None]) -> None:
        """A fault on the data lane may have left half of something in the sum: the part is dropped."""
        try:
            await work
        except Exception as error:
            self._give_up(run, error)

    def _give_up(self, run: RoundRun, error: Exception) -> None:
        """After a fault of ours nobody is to wait for this part: its clients offer again, and the reducer
        opens the next one for them.
        """
        spec = run.state.ledger.spec
        log.exception("a part is dropped", extra={"session": spec.session, "round": spec.round})
        self._drop_part(spec.session, spec.round, spec.part, f"internal fault: {error}", reoffer=True)

    # --- odds --------------------------------------------------------------------------------------

    def _adopt(self, term: int) -> None:
        if term < self._term:
            raise StaleTerm(f"term {term} is over; this combiner follows term {self._term}")
        self._term = term

    def _snapshot(self) -> m.Snapshot:
        return m.Snapshot(
            PROTOCOL_VERSION, self.name, self.incarnation, tuple(self._clients), self._parts.held(),
            self._host, self._entrance.draining,
        )  # fmt: skip

    def _behind(self) -> int:
        """Events that wait for the reducer, in the stream that is furthest behind."""
        return max(self._watchers.behind, self._parts.behind, self._validations.behind)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _failed(error: BaseException) -> None:
    log.error("combiner task failed: %s", error, exc_info=error)
