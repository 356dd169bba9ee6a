"""The client at work: maps the machine's commands to calls on its combiner, its trainer and its journal.

One event loop; the user's code and what waits for the disk (`aside`) run in threads. `run` goes on until it
is cancelled: it finds a combiner, attaches, works, and finds another one when that goes away. While its
owner (`owner`) wants it away it is attached nowhere. What leaves is in its ledger first (`noting`).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import assert_never

from fedn.client import events as ev
from fedn.client import machine
from fedn.client.aside import Aside
from fedn.client.hearing import check_told
from fedn.client.noting import Notes
from fedn.client.owner import Owner
from fedn.client.pauses import backoff
from fedn.client.updates import trained_update
from fedn.client.worker import in_own_thread, reporting
from fedn.domain import messages as m
from fedn.domain.errors import (
    FednError,
    Incompatible,
    LinkBroken,
    NotFound,
    Revoked,
    StoreUnavailable,
    Unauthenticated,
    Unavailable,
)
from fedn.domain.ids import PROTOCOL_VERSION, CombinerName, Digest
from fedn.domain.model import INLINE_BYTES
from fedn.domain.update import UpdateHeader, finite_metrics
from fedn.ports import Buffer, ClientLink, Journal, Observed, Observer, ReducerLink, Trainer
from fedn.stores.cache import ModelCache
from fedn.wire.chunks import split

log = logging.getLogger("fedn.client")

OUTBOX = 256
"""Messages that may wait for the combiner before this client leaves it."""
FIRST_WITHIN = 0.5
"""Seconds over which the clients of a combiner that ended spread their first tries."""
WELCOME_SECONDS, AGAIN_SECONDS = 5.0, 1.0
"""How long a combiner may take to answer Hello: at first, and where the link to it has just broken."""
BEAT_LEAST = 0.05
GOODBYE_SECONDS = 5.0
"""How long a combiner may take to end the stream of a client that leaves."""
UNNOTED = "nothing leaves without a line in the ledger"
ROOM_AGAIN = 3
"""A full disk is looked at again as after so many failed tries: half a second to five."""


class Client:
    """One client: identity, journal, trainer, and at most one combiner at a time."""

    def __init__(
        self,
        info: m.ClientInfo,
        reducer: ReducerLink,
        dial: Callable[[str, CombinerName], ClientLink],
        trainer: Trainer,
        journal: Journal,
        models: ModelCache,
        observer: Observer,
        prefer: str = "",
        *,
        ready: Callable[[], Awaitable[None]] | None = None,
        owner: Owner | None = None,
        notes: Notes | None = None,
        log_lines: Callable[[], tuple[m.LogLine, ...]] = tuple,
    ) -> None:
        """``ready`` is awaited before each dialling; what it raises is as if nobody had answered.

        Without ``owner`` everything is allowed at any time, without ``notes`` no ledger is kept. What
        ``log_lines`` gives is told to the network.
        """
        self.info = info
        self._reducer = reducer
        self._dial = dial
        self._trainer = trainer
        self._journal = journal
        self._models = models
        self._observer = observer
        self._prefer = prefer
        self._ready = ready or _always
        self._owner = owner or Owner()
        self._notes = notes or Notes()
        self._log_lines = log_lines
        self._state = ev.State(over=journal.past())
        self._link: ClientLink | None = None
        self._at = m.Assignment(CombinerName(""), "")
        self._rested = asyncio.Event()
        self._hindrance = ""
        self._fresh: tuple[str, bytes] = ("", b"")  # the last update, to send without reading it back
        self._outbox: asyncio.Queue[m.ClientMessage | None] = asyncio.Queue(OUTBOX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._aside = Aside()

    async def run(self) -> None:
        """Attach, work, move on when the combiner goes; for ever.

        Raises what waiting does not mend: Incompatible, and Revoked when the reducer says so.
        """
        self._recall()
        await self._aside.idle()
        failures, avoid = 0, ""
        while True:
            try:
                await self._present()
                await self._ready()
                await self._notes.combiner_asked(self.info.client, self._prefer, avoid)
                assignment = await self._reducer.assign(self.info.client, self._prefer, avoid)
                avoid = assignment.combiner
                await self._stay(assignment)
                failures = 0
            except (Incompatible, Revoked):
                raise
            except FednError as error:
                failures += 1
                log.info("not attached: %s", error.message)
                self._observer.observe(Observed("waiting", {"reason": error.message}))
                await asyncio.sleep(backoff(failures))

    def _recall(self) -> None:
        """What an earlier life trained and is not settled; what its owner does not allow any more goes."""
        for header in self._journal.held():
            if reason := self._owner.allowed.objection(header.session):
                log.warning("an update is dropped: %s", reason, extra={"round": header.round})
                self._forget(header)
            else:
                self._decide(ev.UpdateKept(header))

    async def _present(self) -> None:
        """Wait for as long as its owner wants it away. Nothing is at work meanwhile."""
        if reason := self._owner.away():
            self._decide(ev.WentAway(reason))
            self._decide(ev.WorkGivenUp())
            await self._aside.idle()
            self._observer.observe(Observed("away", {"reason": reason}))
            await self._owner.until(away=False)
        if self._state.away:
            self._decide(ev.CameBack())
            self._observer.observe(Observed("back", {}))

    async def _stay(self, assignment: m.Assignment) -> None:
        """Attached there, and there again if the link breaks: what is under way goes on best where it is.

        Returns when that combiner is out of reach, or its owner wants it away. Raises what `_attached` does.
        """
        await self._attached(assignment, WELCOME_SECONDS)
        while not self._state.away:
            await asyncio.sleep(random.uniform(0, FIRST_WITHIN))
            try:
                await self._attached(assignment, AGAIN_SECONDS)
            except LinkBroken:
                return

    async def close(self) -> None:
        """Stop what is under way. The journal stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._aside.close()
        await self._models.close()

    async def _attached(self, assignment: m.Assignment, patience: float) -> None:
        """One attachment, from Hello to the end of the stream, by itself or with its certificate.

        Raises what the combiner ended it with, and LinkBroken if it was not welcomed within ``patience``
        seconds.
        """
        await self._ready()
        link = self._dial(assignment.address, assignment.combiner)
        self._outbox = asyncio.Queue(OUTBOX)
        self._send(m.Hello(PROTOCOL_VERSION, self.info.client, self.info.name, self.info.host))
        welcomed = False
        meanwhile: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(patience) as limit:
                said = self._notes.each(_drain(self._outbox), assignment, self._hold_back)
                async for message in link.attach(said):
                    if isinstance(message, m.Welcome) and not welcomed:
                        limit.reschedule(None)
                        welcomed, self._link, self._at = True, link, assignment
                        beat = self._beat(max(BEAT_LEAST, message.beat))
                        meanwhile = [asyncio.create_task(work) for work in (beat, self._leave(limit))]
                        there = {"combiner": message.combiner, "address": assignment.address}
                        self._observer.observe(Observed("attached", there))
                        self._decide(ev.Attached())
                    else:
                        self._receive(message)
        except TimeoutError:
            raise LinkBroken(f"{assignment.combiner} did not answer within {patience:g} s") from None
        except Revoked as error:  # who is a member is for the reducer to say, which is asked next
            raise LinkBroken(f"{assignment.combiner} says: {error.message}") from None
        except (LinkBroken, Unauthenticated):
            if not welcomed:
                raise
        finally:
            for task in meanwhile:
                task.cancel()
            self._link = None
            self._end_outbox()  # else whatever still reads it for that link waits for ever
            self._decide(ev.Detached())
            await link.close()
            await self._notes.left(assignment)
        self._observer.observe(Observed("detached", {"combiner": assignment.combiner}))

    async def _beat(self, seconds: float) -> None:
        """While anything is under way the combiner hears of it; at rest only what was logged is said."""
        while True:
            await asyncio.sleep(seconds)
            if self._state.under_way:
                self._send(m.Beat())
            if lines := self._log_lines():
                self._send(m.LogShared(lines))

    async def _leave(self, limit: asyncio.Timeout) -> None:
        """Once its owner wants it away: take nothing new, let what is under way be settled, and go."""
        while not self._state.away:
            reason = await self._owner.until(away=True)
            self._observer.observe(Observed("leaving", {"reason": reason}))
            self._decide(ev.WentAway(reason))
            if not await self._owner.rest(self._rested):
                self._decide(ev.CameBack())
        self._decide(ev.WorkGivenUp())
        await self._aside.idle()
        self._end_outbox()
        limit.reschedule(asyncio.get_running_loop().time() + GOODBYE_SECONDS)

    def _hold_back(self, message: m.ClientMessage, error: StoreUnavailable) -> None:
        self._wait_for_room(f"{UNNOTED}: {error.message}")
        self._spawn(self._say_again(message, self._outbox))

    async def _say_again(
        self, message: m.ClientMessage, outbox: asyncio.Queue[m.ClientMessage | None]
    ) -> None:
        """What could not be noted, later; elsewhere what is held is offered anyway."""
        await asyncio.sleep(backoff(ROOM_AGAIN))
        if outbox is not self._outbox or self._link is None:
            return
        if isinstance(message, m.UpdateOffered):
            self._decide(ev.ReofferAsked(message.header.session, message.header.round))
        else:
            self._send(message)

    def _send(self, message: m.ClientMessage) -> None:
        """A combiner that does not read its stream is left; what is held is offered on the next attach."""
        if self._outbox.full():
            self._end_outbox()
        else:
            self._outbox.put_nowait(message)

    def _send_there(self, message: m.ClientMessage, outbox: asyncio.Queue[m.ClientMessage | None]) -> None:
        if outbox is self._outbox:
            self._send(message)

    def _end_outbox(self) -> None:
        if self._outbox.full():
            self._outbox.get_nowait()
        self._outbox.put_nowait(None)

    def _receive(self, message: m.CombinerMessage) -> None:
        check_told(message)
        ended: Observed | None = None
        match message:
            case m.Task() if reason := self._owner.objection(message):
                self._do(ev.SendFailure(ev.key_of(message), reason))
                return
            case m.UpdateRefused(session, round_, _, code, reason):
                log.warning(
                    "update refused (%s): %s", code, reason, extra={"session": session, "round": round_}
                )
                fields = {"session": session, "round": round_, "code": code, "reason": reason}
                ended = Observed("refused", fields)
            case m.Settled(session, round_, counted, reason):
                fields = {"session": session, "round": round_, "counted": counted, "reason": reason}
                ended = Observed("settled", fields)
        if event := ev.event_of(message):
            self._decide(event)
        if ended is not None:
            self._tell(ended)

    def _decide(self, event: ev.Event) -> None:
        self._state, commands = machine.step(self._state, event)
        (self._rested.clear if self._state.under_way else self._rested.set)()
        for command in commands:
            self._do(command)

    def _do(self, command: ev.Command) -> None:
        match command:
            case ev.DoTask(task):
                fault = "internal fault, see the traceback in this client's log"
                self._spawn(self._work(task), ev.WorkFailed(ev.key_of(task), fault, final=True))
            case ev.SendOffer(header, 0):
                self._offer(header)
            case ev.SendOffer(header, attempt):
                again = ev.ReofferAsked(header.session, header.round)
                self._spawn(self._offer_later(header, attempt), again)
            case ev.SendUpload(header, grant, offset):
                self._spawn(self._upload(header, grant, offset), ev.UploadBroke(header, grant))
            case ev.ForgetUpdate(header):
                self._fresh = ("", b"") if self._fresh[0] == header.digest else self._fresh
                self._forget(header)
            case ev.SendReport(key, model, examples, metrics):
                report = m.ModelValidated(
                    key.session, key.round, self.info.client, model, examples, metrics, key.kind
                )
                self._send(report)
            case ev.StopWork(task):
                self._trainer.cancel(task)
            case ev.HurryWork():
                self._trainer.hurry()
            case ev.SendFailure(key, reason):
                failed = {"session": key.session, "round": key.round, "kind": key.kind, "reason": reason}
                self._tell(Observed("failed", failed))
                told = m.TaskFailed(key.session, key.round, key.kind, reason)
                self._aside.after(partial(self._send_there, told, self._outbox))
            case _:
                assert_never(command)

    def _tell(self, how_a_task_ended: Observed) -> None:
        """In their order, each after what is settled by then is off the disk."""
        self._aside.after(partial(self._observer.observe, how_a_task_ended))

    def _forget(self, header: UpdateHeader) -> None:
        """What can't be forgotten now (a full disk) is offered, and settled, again after a restart."""
        settle = partial(self._journal.settle, header.session, header.round)
        self._aside.do(settle, f"the update of round {header.round} stays in the journal")

    async def _work(self, task: m.Task) -> None:
        """Fetch the model and run the user's code; say how it went."""
        key = ev.key_of(task)
        where = {"session": task.session, "round": task.round}
        try:
            async with self._having(task):
                self._decide(await self._run_task(task))
        except StoreUnavailable as error:
            self._wait_for_room(f"a task is not begun: {error.message}")
            await asyncio.sleep(backoff(ROOM_AGAIN))
            self._decide(ev.WorkFailed(key, error.message, final=False))
        except LinkBroken as error:
            log.info("task %s not done: %s", task.kind, error.message, extra=where)
            self._decide(ev.WorkFailed(key, error.message, final=False))
        except NotFound as error:
            log.info("task %s not done: %s", task.kind, error.message, extra=where)
            self._decide(ev.ModelGone(key))
        except FednError as error:
            wanted = isinstance(self._state.tasks.get(key), ev.Working)
            level = logging.ERROR if wanted else logging.INFO  # such as one that was cancelled
            log.log(level, "task %s failed: %s", task.kind, error.message, extra=where)
            self._decide(ev.WorkFailed(key, error.message, final=True))
        except Exception as error:
            log.exception("task %s failed", task.kind, extra=where)
            fault = f"internal fault ({type(error).__name__}), see the traceback in this client's log"
            self._decide(ev.WorkFailed(key, fault, final=True))

    async def _run_task(self, task: m.Task) -> ev.Event:
        if not isinstance(self._state.tasks.get(ev.key_of(task)), ev.Working):
            return ev.WorkFailed(ev.key_of(task), "nobody waits for it any more", final=False)
        about = {"kind": task.kind, "session": task.session, "round": task.round}
        self._observer.observe(Observed("working", about))
        try:
            with self._models.map(task.model) as model, self._package(task) as package:
                if task.kind is not m.TaskKind.TRAIN:
                    report = partial(self._trainer.report, model, task, package)
                    examples, metrics = await reporting(report)
                    return ev.ModelEvaluated(ev.key_of(task), task.model, examples, finite_metrics(metrics))
                train = partial(trained_update, self._trainer, self.info.client, model, task, package)
                header, file = await in_own_thread(train)
        finally:
            self._observer.observe(Observed("worked", about))
        return await self._keep(header, file)

    @asynccontextmanager
    async def _having(self, task: m.Task) -> AsyncIterator[None]:
        """Have the model and the package here inside the block."""
        fetch = self._fetch_model
        async with AsyncExitStack() as stack:
            using = self._models.using(task.model, task.model_size, fetch, task.inline)
            await stack.enter_async_context(using)
            if task.package:
                package = self._models.using(Digest(task.package), task.package_size, fetch)
                await stack.enter_async_context(package)
            yield

    def _package(self, task: m.Task) -> AbstractContextManager[memoryview | None]:
        return self._models.map(Digest(task.package)) if task.package else nullcontext()

    async def _fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Buffer]:
        """From whichever combiner this client is attached to just now."""
        if self._link is None:
            raise LinkBroken("detached before the model came")
        await self._notes.fetching(request, self._at)
        async for chunk in self._link.fetch_model(replace(request, client=self.info.client)):
            yield chunk

    async def _keep(self, header: UpdateHeader, file: bytes) -> ev.Event:
        """Journal the update: once this returns, nobody trains this round again.

        What was trained is not given up for want of room: it is tried again for as long as it is wanted.
        """
        key = ev.key_for(header)
        for attempt in itertools.count():
            try:
                await self._aside.result(partial(self._journal.add, header, file))
            except Unavailable as error:
                self._wait_for_room(error.message)
                await asyncio.sleep(backoff(ROOM_AGAIN + attempt))
            else:
                self._wait_for_room("")
                self._fresh = (header.digest, file)
                return ev.UpdateKept(header)
            if not self._wanted(key):
                break
        self._wait_for_room("")
        return ev.WorkFailed(key, "its round was over before there was room for the update", final=True)

    def _wanted(self, key: ev.Key) -> bool:
        """Whether this training may still count: it was not settled, and no later round was heard of."""
        return key in self._state.tasks and key.round > self._state.over.get(key.session, 0)

    def _wait_for_room(self, reason: str) -> None:
        """Tell, once each time it changes, for which want of room this client waits; empty: for none."""
        if reason and reason != self._hindrance:
            self._observer.observe(Observed("waiting", {"reason": reason}))
        self._hindrance = reason

    async def _offer_later(self, header: UpdateHeader, attempt: int) -> None:
        await asyncio.sleep(backoff(attempt))
        self._offer(header)

    def _offer(self, header: UpdateHeader) -> None:
        """A small update rides along with its offer."""
        inline = b""
        if header.size <= INLINE_BYTES:
            with suppress(OSError, ValueError):  # unreadable: the upload will say so
                inline = b"".join(bytes(chunk) for chunk in self._journal.read(header, 0))
        self._send(m.UpdateOffered(header, inline))

    async def _upload(self, header: UpdateHeader, grant: str, offset: int) -> None:
        why, passing = UNNOTED, None
        try:
            if (link := self._link) is None:
                raise LinkBroken("detached before the upload began")
            passing = await self._notes.uploading(header, offset, self._at)
            why = "the combiner has no room for the update"
            await link.submit(grant, offset, passing.through(self._chunks(header, offset)))
            self._wait_for_room("")
        except (FednError, OSError) as error:
            log.info("upload broke: %s", error, extra={"session": header.session, "round": header.round})
            if isinstance(error, StoreUnavailable):
                self._wait_for_room(f"{why}: {error.message}")
            if passing is not None:
                await passing.broke()
            self._decide(ev.UploadBroke(header, grant))

    async def _chunks(self, header: UpdateHeader, offset: int) -> AsyncIterator[Buffer]:
        digest, file = self._fresh
        for chunk in split(file, offset) if digest == header.digest else self._journal.read(header, offset):
            yield chunk

    def _spawn(self, work: Coroutine[None, None, None], otherwise: ev.Event | None = None) -> None:
        """The machine waits for what comes of ``work``: ``otherwise``, if it breaks in an unknown way."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._reap, otherwise))

    def _reap(self, otherwise: ev.Event | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelling():  # by `close`
            return
        try:
            task.result()
        except (Exception, asyncio.CancelledError) as error:
            log.error("client task failed", exc_info=error)
            if otherwise is not None:
                self._decide(otherwise)


async def _always() -> None:
    """Nothing needs to be done before dialling."""


async def _drain(queue: asyncio.Queue[m.ClientMessage | None]) -> AsyncIterator[m.ClientMessage]:
    while (message := await queue.get()) is not None:
        yield message
