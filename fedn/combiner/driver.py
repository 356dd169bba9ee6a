"""The combiner at work: maps the machines' commands to calls, and joins control with data.

`Combiner` is at once what the reducer asks of a combiner (ports.CombinerLink) and what a client asks
of it (ports.ClientLink): `service.py` puts it on gRPC, the in-process federation calls it directly.
Everything here runs on one event loop; slow work goes to worker threads.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from pathlib import Path
from typing import TypeVar, assert_never

from fedn import plugins
from fedn.combiner import events as ev
from fedn.combiner import machine as mc
from fedn.combiner.clients import Attachment, Clients, Parked
from fedn.combiner.limits import Limits
from fedn.combiner.runs import Listeners, RoundRun, ValidationRun
from fedn.combiner.staging import PartSum, Upload
from fedn.combiner.uploads import Uploads, off_loop
from fedn.domain import messages as m
from fedn.domain.errors import (
    Busy,
    FednError,
    InvalidInput,
    LinkBroken,
    NotFound,
    StaleTerm,
    Unavailable,
)
from fedn.domain.ids import (
    PROTOCOL_VERSION,
    ClientId,
    CombinerName,
    Incarnation,
    SessionId,
    check_id,
    compatible,
    incompatible,
)
from fedn.domain.model import INLINE_BYTES, layout_of
from fedn.domain.round import RoundSpec, ValidationSpec
from fedn.domain.update import UpdateHeader, check_header, check_report
from fedn.ports import Aggregator, Buffer, ReducerLink
from fedn.stores.cache import ModelCache
from fedn.wire.chunks import split

log = logging.getLogger("fedn.combiner")
T = TypeVar("T")


class Combiner:
    """Holds open parts, attached clients and a model cache. ``incarnation`` is new in every process."""

    def __init__(
        self,
        name: CombinerName,
        reducer: ReducerLink,
        models: ModelCache,
        spool: Path,
        limits: Limits,
    ) -> None:
        self.name = name
        self.incarnation = Incarnation(secrets.token_hex(8))
        self.limits = limits
        self.clients = Clients(limits.max_clients)
        self._reducer = reducer
        self._models = models
        self._term = 0
        self._draining = ""
        self._rounds: dict[tuple[SessionId, int], dict[int, RoundRun]] = {}
        self._opening: dict[tuple[SessionId, int], asyncio.Lock] = {}
        self._validations: dict[tuple[SessionId, int], ValidationRun] = {}
        self._parked = Parked(limits.max_parked)
        self._uploads = Uploads(spool, limits)
        self._aggregators: dict[str, Aggregator] = {}
        self._watchers = Listeners[m.CombinerEvent]()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- asked by the reducer ----------------------------------------------------------------------

    async def watch(self, request: m.WatchRequest) -> AsyncIterator[m.CombinerEvent]:
        """Snapshot first, then every change, then for ever; parked release requests are repeated."""
        if not compatible(request.protocol):
            raise incompatible("combiner", "reducer", request.protocol)
        self._adopt(request.term)
        with self._watchers.subscribe() as events:
            yield self._snapshot()
            for header in self._parked:
                yield m.ReleaseRequested(header)
            async for event in events:
                yield event

    async def run_round(self, spec: RoundSpec) -> AsyncIterator[m.RoundEvent]:
        """Open the part, or go on with it; ends with PartSealed or RoundAborted."""
        self._adopt(spec.term)
        run = await self._opened(spec)
        with run.listeners.subscribe() as events:
            yield m.RoundOpened(self.incarnation, spec.part, tuple(run.state.ledger.entries))
            for received in list(run.received):
                yield received
            if run.ending is not None:
                yield run.ending
                return
            async for event in events:
                yield event
                if isinstance(event, m.PartSealed | m.RoundAborted):
                    return
        raise LinkBroken("this stream fell too far behind; call again")

    async def run_validation(self, spec: ValidationSpec) -> AsyncIterator[m.ValidationEvent]:
        """Have the listed clients evaluate a model; ends with ValidationSealed."""
        self._adopt(spec.term)
        key = (spec.session, spec.round)
        async with self._models.using(spec.model, spec.model_size, self._reducer.fetch_model, spec.inline):
            run = self._validations.get(key) or self._open_validation(spec)
            async for event in run.events():
                yield event

    def _open_validation(self, spec: ValidationSpec) -> ValidationRun:
        key = (spec.session, spec.round)

        def closed() -> None:
            self._models.unpin(spec.model)
            self._validations.pop(key, None)

        self._models.pin(spec.model)
        run = ValidationRun(spec, self._attached, closed)
        if not run.state.over:
            self._validations[key] = run
        for client in run.state.waiting:
            self.clients.send(client, run.task)
        return run

    async def fetch_part(self, request: m.FetchRequest) -> AsyncIterator[Buffer]:
        """The bytes of a sealed part."""
        for parts in self._rounds.values():
            for run in parts.values():
                if isinstance(run.state, mc.Sealed) and run.state.digest == request.digest:
                    for piece in split(run.sum.bytes(), request.offset):
                        yield piece
                    return
        raise NotFound(f"no sealed part {request.digest[:12]} here")

    async def ack(self, command: m.AckRound) -> None:
        """The round is committed: settle its clients and forget it. Again: nothing."""
        self._adopt(command.term)
        self._opening.pop((command.session, command.round), None)
        parts = self._rounds.pop((command.session, command.round), {})
        for number, run in parts.items():
            if not isinstance(run.state, mc.Sealed):
                self._decide(run, ev.AbortAsked("the round was committed without this part", reoffer=True))
            later = [c for n, other in parts.items() if n > number for c in other.state.ledger.entries]
            self._decide(run, ev.RoundAcked(number in command.counted, frozenset(later)))
            self._close(run)

    async def abort(self, command: m.AbortRound) -> None:
        """Drop the sums of a round's part. Again, or unknown: nothing."""
        self._adopt(command.term)
        self._drop_part(command.session, command.round, command.part, command.reason, command.reoffer)

    def _drop_part(self, session: SessionId, number: int, part: int, reason: str, reoffer: bool) -> None:
        parts = self._rounds.get((session, number), {})
        if run := parts.pop(part, None):
            self._decide(run, ev.AbortAsked(reason, reoffer))
            self._close(run)
        if not parts:
            self._rounds.pop((session, number), None)
            self._opening.pop((session, number), None)

    def _close(self, run: RoundRun) -> None:
        for client in list(run.sum.uploads):
            self._uploads.drop(run, client)
        run.close()

    async def release(self, command: m.ReleaseUpdate) -> m.ReleaseAnswer:
        """Whether the client's update counts here; if not it never will."""
        self._adopt(command.term)
        for run in self._rounds.get((command.session, command.round), {}).values():
            for done in self._decide(run, ev.ClientReleased(command.client)):
                if isinstance(done, ev.AnswerRelease) and done.folded:
                    return m.ReleaseAnswer(folded=True)
        return m.ReleaseAnswer(folded=False)

    async def admit(self, command: m.AdmitClient) -> m.AdmitAnswer:
        """List one more client in an open part."""
        self._adopt(command.term)
        run = self._rounds.get((command.session, command.round), {}).get(command.part)
        if run is None or not isinstance(run.state, mc.Open):
            return m.AdmitAnswer(admitted=False)
        client = command.client
        self._parked.drop(client, command.session, command.round)
        self._decide(run, ev.ClientAdmitted(client, client in self.clients, self._now()))
        return m.AdmitAnswer(admitted=True)

    async def settle(self, command: m.SettleUpdate) -> None:
        """Tell a client that is attached here how its update ended."""
        self._adopt(command.term)
        self._settle(command.client, command.session, command.round, command.counted, command.reason)

    async def drain(self, command: m.DrainRequest) -> None:
        """Take no new clients and send the attached ones elsewhere; open rounds go on without them."""
        self._adopt(command.term)
        self._draining = command.reason or "this combiner is draining"
        self.clients.end_all()

    # --- asked by clients --------------------------------------------------------------------------

    async def attach(self, messages: AsyncIterator[m.ClientMessage]) -> AsyncIterator[m.CombinerMessage]:
        """A client's control stream: Hello up, Welcome down, then tasks, grants and settlements."""
        hello = await anext(messages, None)
        if not isinstance(hello, m.Hello):
            raise InvalidInput("attach", "the first message is not Hello", "announce the client first")
        if not compatible(hello.protocol):
            raise incompatible("combiner", "client", hello.protocol)
        if self._draining:
            raise Unavailable(self._draining)
        client = ClientId(check_id("client", hello.client))
        attachment = self.clients.add(m.ClientInfo(client, hello.name[:64]))
        reading = asyncio.create_task(self._read(attachment, messages))
        try:
            yield m.Welcome(PROTOCOL_VERSION, self.name, self.incarnation, self.limits.beat)
            self._arrived(attachment)
            while (message := await attachment.outbox.get()) is not None:
                yield message
        finally:
            reading.cancel()
            self._left(attachment)

    async def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Buffer]:
        """A model of an open round or validation, from the cache."""
        for chunk in self._models.read(request.digest, request.offset):
            yield chunk

    async def submit(self, grant: str, offset: int, chunks: AsyncIterator[Buffer]) -> None:
        """The bytes of a granted update. What arrived is kept for a resumption if the stream breaks.

        Raises:
            NotFound: the grant is not (or no more) valid; offer again.
            Conflict: the offset is not where the staged bytes end; offer again.
        """
        await self._uploads.receive(grant, offset, chunks, self._judge)

    async def close(self) -> None:
        """End every stream and drop every sum."""
        self.clients.end_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for parts in self._rounds.values():
            for run in parts.values():
                self._close(run)
        for validation in list(self._validations.values()):
            validation.close()
        self._watchers.close()
        await self._models.close()

    # --- clients -----------------------------------------------------------------------------------

    def _arrived(self, attachment: Attachment) -> None:
        self._watchers.publish(m.ClientAttached(attachment.info))
        for run in self._runs():
            self._decide(run, ev.ClientArrived(attachment.info.client))

    def _left(self, attachment: Attachment) -> None:
        if not self.clients.remove(attachment):
            return
        client = attachment.info.client
        self._parked.leave(client)
        for run in self._runs():
            self._decide(run, ev.ClientLeft(client, self._now()))
        for validation in list(self._validations.values()):
            validation.give_up(client)
        self._watchers.publish(m.ClientDetached(client))

    async def _read(self, attachment: Attachment, messages: AsyncIterator[m.ClientMessage]) -> None:
        try:
            async for message in messages:
                self._receive(attachment, message)
        except FednError as error:
            log.warning("stream ended: %s", error, extra={"client": attachment.info.client})
        finally:
            attachment.end()

    def _receive(self, attachment: Attachment, message: m.ClientMessage) -> None:
        client = attachment.info.client
        match message:
            case m.UpdateOffered(header, inline):
                self._offer(client, check_header(header), inline)
            case m.TaskFailed(session, round_, m.TaskKind.TRAIN, reason):
                for run in self._rounds.get((session, round_), {}).values():
                    self._decide(run, ev.TrainingFailed(client, reason[:500]))
            case m.TaskFailed(session, round_, _, _):
                if validation := self._validations.get((session, round_)):
                    validation.give_up(client)
            case m.ModelValidated():
                check_report(message.examples, message.metrics)
                if validation := self._validations.get((message.session, message.round)):
                    validation.report(client, message)
            case m.Beat():
                pass  # the stream itself shows that the client lives
            case m.Hello():
                raise InvalidInput("attach", "Hello came twice", "say it once")
            case _:
                assert_never(message)

    def _offer(self, client: ClientId, header: UpdateHeader, inline: bytes) -> None:
        if header.client != client:
            raise InvalidInput(
                "client", f"{client} offers an update of {header.client}", "offer your own only"
            )
        parts = self._rounds.get((header.session, header.round))
        if parts is None:
            self._park(header)  # over, or not yet known here: the reducer knows
            return
        holding = [run for run in parts.values() if client in run.state.ledger.entries]
        run = (holding or list(parts.values()))[-1]
        self._apply(run, mc.step(run.state, ev.OfferMade(header)), inline)

    def _park(self, header: UpdateHeader) -> None:
        if self._parked.add(header):
            self._watchers.publish(m.ReleaseRequested(header))
        else:
            log.warning("offer not noted: too many wait for the reducer", extra={"client": header.client})

    def _settle(self, client: ClientId, session: SessionId, round_: int, counted: bool, reason: str) -> None:
        self._parked.drop(client, session, round_)
        self.clients.send(client, m.Settled(session, round_, counted, reason))

    # --- rounds ------------------------------------------------------------------------------------

    async def _opened(self, spec: RoundSpec) -> RoundRun:
        """The run of this part; opened now unless it is there. Two calls at once open it once."""
        key = (spec.session, spec.round)
        async with self._opening.setdefault(key, asyncio.Lock()):
            run = self._rounds.get(key, {}).get(spec.part)
            if run is None:
                if len(self._runs()) >= self.limits.max_parts:
                    raise Busy(f"{self.limits.max_parts} parts are held here (max_parts)")
                async with self._models.using(
                    spec.model, spec.model_size, self._reducer.fetch_model, spec.inline
                ):
                    run = self._open_part(spec)
        return run

    def _open_part(self, spec: RoundSpec) -> RoundRun:
        with self._models.map(spec.model) as file:
            layout = layout_of(file)
        if layout.digest != spec.layout:
            raise InvalidInput("layout", "is not the base model's", "restart the reducer; this is a fault")
        if spec.aggregator not in self._aggregators:  # looking it up reads every package's metadata
            self._aggregators[spec.aggregator] = plugins.load("fedn.aggregators", spec.aggregator)()
        aggregator = self._aggregators[spec.aggregator]
        self._models.pin(spec.model)
        run = RoundRun(PartSum(layout, aggregator), partial(self._models.unpin, spec.model))
        self._rounds.setdefault((spec.session, spec.round), {})[spec.part] = run
        for client in spec.clients:
            self._parked.drop(client, spec.session, spec.round)
        grace, most = self.limits.client_grace, self.limits.max_update_bytes
        self._apply(run, mc.open_part(spec, self._attached, self._now(), grace, most))
        return run

    @property
    def _attached(self) -> frozenset[ClientId]:
        return frozenset(info.client for info in self.clients)

    def _decide(self, run: RoundRun, event: ev.Event) -> tuple[ev.Command, ...]:
        return self._apply(run, mc.step(run.state, event))

    def _apply(self, run: RoundRun, outcome: mc.Outcome, inline: bytes = b"") -> tuple[ev.Command, ...]:
        """Enter the new state and carry the commands out; ``inline`` came along with an offer."""
        run.state, commands = outcome
        for command in commands:
            self._do(run, command, inline)
        run.wake_at(mc.next_wake(run.state), lambda: self._decide(run, ev.Tick(self._now())))
        return commands

    def _do(self, run: RoundRun, command: ev.Command, inline: bytes) -> None:
        spec = run.state.ledger.spec
        at = (spec.session, spec.round)
        match command:
            case ev.SendTask(client):
                self.clients.send(client, run.task)
            case ev.CancelTask(client, reason):
                self.clients.send(client, m.TaskCancelled(*at, m.TaskKind.TRAIN, reason))
            case ev.GrantUpload(header):
                self._grant(run, header, inline)
            case ev.DropUpload(client):
                self._uploads.drop(run, client)
            case ev.RefuseUpdate(header, refused):
                log.warning(
                    "update refused: %s", refused.reason, extra={"client": header.client, "round": at[1]}
                )
                answer = m.UpdateRefused(*at, header.digest, refused.code, refused.reason)
                self.clients.send(header.client, answer)
            case ev.FoldUpdate(header):
                self._spawn(self._guarded(run, self._fold(run, header)))
            case ev.SendReceipt(header):
                receipt = m.Receipt(*at, header.client, header.digest, self.name, self.incarnation, spec.part)
                self.clients.send(header.client, receipt)
            case ev.RequestRelease(header):
                self._park(header)
            case ev.AnswerRelease():
                pass  # read by release(), which asked
            case ev.HashSum():
                self._spawn(self._guarded(run, self._hash(run)))
            case ev.AnnounceSeal(digest, size):
                run.seal(self.name, self.incarnation, digest, size)
            case ev.AnnounceAbort(reason):
                run.end(m.RoundAborted(reason))
            case ev.SettleClient(client, counted, reason):
                self._settle(client, *at, counted, reason)
            case ev.AskReoffer(client):
                self.clients.send(client, m.Reoffer(*at))
            case _:
                assert_never(command)

    # --- data --------------------------------------------------------------------------------------

    def _grant(self, run: RoundRun, header: UpdateHeader, inline: bytes) -> None:
        """Make room for the bytes; take those that came along, or tell the client to send them."""
        upload = self._uploads.grant(run, header)
        if inline and upload.offset == 0 and len(inline) == header.size:
            self._spawn(self._guarded(run, self._take(run, upload, inline)))
            return
        granted = m.Granted(header.session, header.round, header.digest, upload.grant, upload.offset)
        self.clients.send(header.client, granted)

    async def _take(self, run: RoundRun, upload: Upload, inline: bytes) -> None:
        """The bytes of a small update, which came along with its offer."""
        async with upload.lock:
            if upload.offset == 0 and self._uploads.current(run, upload):
                upload.write(inline)
                await self._judge(run, upload)

    async def _judge(self, run: RoundRun, upload: Upload) -> None:
        """All bytes are here: check them, and let the machine decide. The caller holds the lock."""
        header = upload.header
        refused = await off_loop(upload, lambda: run.sum.verify(upload))
        if not self._uploads.current(run, upload):
            return  # dropped while it was checked, and perhaps granted anew
        if refused:
            self._decide(run, ev.UpdateRejected(header.client, header.digest, refused))
        else:
            self._decide(run, ev.UpdateVerified(header.client, header.digest))

    async def _fold(self, run: RoundRun, header: UpdateHeader) -> None:
        upload = run.sum.uploads.get(header.client)
        if upload is None:
            return  # the round was dropped meanwhile
        async with upload.lock, run.folding:
            await off_loop(upload, lambda: run.sum.fold(upload))
        self._uploads.drop(run, header.client)
        run.receive(m.UpdateReceived(header.client, header.examples, header.metrics))
        self._decide(run, ev.UpdateFolded(header.client, header.digest))

    async def _hash(self, run: RoundRun) -> None:
        small = run.sum.layout.float_elements * 8 <= INLINE_BYTES
        digest, size = run.sum.hash() if small else await asyncio.to_thread(run.sum.hash)
        if isinstance(run.state, mc.Closing):
            self._decide(run, ev.SumHashed(digest, size))

    async def _guarded(self, run: RoundRun, work: Coroutine[None, None, None]) -> None:
        """A fault on the data lane may have left half of something in the sum: the part is dropped.

        Its clients offer again, and the reducer opens the next part for them.
        """
        try:
            await work
        except Exception as error:
            spec = run.state.ledger.spec
            log.exception("a part is dropped", extra={"session": spec.session, "round": spec.round})
            self._drop_part(spec.session, spec.round, spec.part, f"internal fault: {error}", reoffer=True)

    # --- odds --------------------------------------------------------------------------------------

    def _adopt(self, term: int) -> None:
        if term < self._term:
            raise StaleTerm(f"term {term} is over; this combiner follows term {self._term}")
        self._term = term

    def _snapshot(self) -> m.Snapshot:
        held = tuple(
            m.RoundHeld(session, number, part, run.listed)
            for (session, number), parts in self._rounds.items()
            for part, run in parts.items()
            if not isinstance(run.state, mc.Aborted)
        )
        return m.Snapshot(PROTOCOL_VERSION, self.name, self.incarnation, tuple(self.clients), held)

    def _runs(self) -> list[RoundRun]:
        return [run for parts in self._rounds.values() for run in parts.values()]

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("combiner task failed: %s", error, exc_info=error)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
