"""The client at work: maps the machine's commands to calls on its combiner, its trainer and its journal.

One event loop; training, validation and keeping an update run in worker threads. `run` goes on until it
is cancelled: it finds a combiner, attaches, works, and finds another one when that goes away.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import assert_never

from fedn.client import machine as mc
from fedn.client.worker import in_own_thread
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
from fedn.domain.ids import PROTOCOL_VERSION, CombinerName, digest_of
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
BACKOFF_FIRST = 0.1
BACKOFF_MOST = 5.0
BACKOFF_DOUBLINGS = 10
"""More make no difference, and a thousand would overflow."""
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
    ) -> None:
        """``ready`` is awaited before each dialling; what it raises is as if nobody had answered."""
        self.info = info
        self._reducer = reducer
        self._dial = dial
        self._trainer = trainer
        self._journal = journal
        self._models = models
        self._observer = observer
        self._prefer = prefer
        self._ready = ready or _always
        self._state = mc.State(over=journal.past())
        self._link: ClientLink | None = None
        self._hindrance = ""
        self._fresh: tuple[str, bytes] = ("", b"")  # the last update, to send without reading it back
        self._outbox: asyncio.Queue[m.ClientMessage | None] = asyncio.Queue(OUTBOX)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Attach, work, move on when the combiner goes; for ever.

        Raises what waiting does not mend: Incompatible, and Revoked when the reducer says so.
        """
        for header in self._journal.held():
            self._decide(mc.UpdateKept(header))
        failures, avoid = 0, ""
        while True:
            try:
                await self._ready()
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

    async def _stay(self, assignment: m.Assignment) -> None:
        """Attached there, and there again if the link breaks: what is under way goes on best where it is.

        Returns when that combiner is out of reach. Raises what `_attached` does.
        """
        await self._attached(assignment, WELCOME_SECONDS)
        while True:
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
        await self._models.close()

    async def _attached(self, assignment: m.Assignment, patience: float) -> None:
        """One attachment, from Hello to the end of the stream, by itself or with its certificate.

        Raises what the combiner ended it with, and LinkBroken if it was not welcomed within ``patience``
        seconds.
        """
        await self._ready()
        link = self._dial(assignment.address, assignment.combiner)
        self._outbox = asyncio.Queue(OUTBOX)
        self._send(m.Hello(PROTOCOL_VERSION, self.info.client, self.info.name))
        welcomed = False
        beating: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(patience) as limit:
                async for message in link.attach(_drain(self._outbox)):
                    if isinstance(message, m.Welcome) and not welcomed:
                        limit.reschedule(None)
                        welcomed, self._link = True, link
                        beating = asyncio.create_task(self._beat(max(BEAT_LEAST, message.beat)))
                        self._observer.observe(Observed("attached", {"combiner": message.combiner}))
                        self._decide(mc.Attached())
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
            if beating:
                beating.cancel()
            self._link = None
            self._end_outbox()  # else whatever still reads it for that link waits for ever
            self._decide(mc.Detached())
            await link.close()
        self._observer.observe(Observed("detached", {"combiner": assignment.combiner}))

    async def _beat(self, seconds: float) -> None:
        """While anything is under way the combiner hears of it; at rest nothing is said."""
        while True:
            await asyncio.sleep(seconds)
            if self._state.under_way:
                self._send(m.Beat())

    def _send(self, message: m.ClientMessage) -> None:
        """A combiner that does not read its stream is left; what is held is offered on the next attach."""
        if self._outbox.full():
            self._end_outbox()
        else:
            self._outbox.put_nowait(message)

    def _end_outbox(self) -> None:
        if self._outbox.full():
            self._outbox.get_nowait()
        self._outbox.put_nowait(None)

    def _receive(self, message: m.CombinerMessage) -> None:
        match message:
            case m.Task():
                self._decide(mc.TaskReceived(message))
            case m.TaskCancelled(session, round_, kind):
                self._decide(mc.TaskDropped(mc.Key(session, round_, kind)))
            case m.Granted(session, round_, digest, grant, offset):
                self._decide(mc.UploadGranted(session, round_, digest, grant, offset))
            case m.UpdateRefused(session, round_, digest, code, reason):
                log.warning(
                    "update refused (%s): %s", code, reason, extra={"session": session, "round": round_}
                )
                self._observer.observe(Observed("refused", {"round": round_, "code": code, "reason": reason}))
                self._decide(mc.UpdateEnded(session, round_, digest))
            case m.Receipt(session, round_, _, digest):
                self._decide(mc.ReceiptArrived(session, round_, digest))
            case m.Settled(session, round_, counted, reason):
                fields = {"session": session, "round": round_, "counted": counted, "reason": reason}
                self._observer.observe(Observed("settled", fields))
                self._decide(mc.UpdateEnded(session, round_, ""))
            case m.Reoffer(session, round_):
                self._decide(mc.ReofferAsked(session, round_))
            case m.Welcome():
                pass  # only ever first
            case _:
                assert_never(message)

    def _decide(self, event: mc.Event) -> None:
        self._state, commands = mc.step(self._state, event)
        for command in commands:
            self._do(command)

    def _do(self, command: mc.Command) -> None:
        match command:
            case mc.DoTask(task):
                fault = "internal fault, see the traceback in this client's log"
                self._spawn(self._work(task), mc.WorkFailed(mc.key_of(task), fault, final=True))
            case mc.SendOffer(header, 0):
                self._offer(header)
            case mc.SendOffer(header, attempt):
                again = mc.ReofferAsked(header.session, header.round)
                self._spawn(self._offer_later(header, attempt), again)
            case mc.SendUpload(header, grant, offset):
                self._spawn(self._upload(header, grant, offset), mc.UploadBroke(header, grant))
            case mc.ForgetUpdate(header):
                self._fresh = ("", b"") if self._fresh[0] == header.digest else self._fresh
                self._forget(header)
            case mc.SendReport(key, model, examples, metrics):
                report = m.ModelValidated(key.session, key.round, self.info.client, model, examples, metrics)
                self._send(report)
            case mc.SendFailure(key, reason):
                self._observer.observe(Observed("failed", {"round": key.round, "reason": reason}))
                self._send(m.TaskFailed(key.session, key.round, key.kind, reason))
            case _:
                assert_never(command)

    def _forget(self, header: UpdateHeader) -> None:
        """What can't be forgotten now (a full disk) is offered, and settled, again after a restart."""
        try:
            self._journal.settle(header.session, header.round)
        except StoreUnavailable as error:
            log.error("an update stays in the journal: %s", error.message, extra={"round": header.round})

    async def _work(self, task: m.Task) -> None:
        """Fetch the model and run the user's code; say how it went."""
        key = mc.key_of(task)
        where = {"session": task.session, "round": task.round}
        try:
            async with self._models.using(task.model, task.model_size, self._fetch_model, task.inline):
                self._observer.observe(Observed("working", {"kind": task.kind, **where}))
                self._decide(await self._run_task(task))
        except StoreUnavailable as error:
            self._wait_for_room(f"the model did not come: {error.message}")
            await asyncio.sleep(backoff(ROOM_AGAIN))
            self._decide(mc.WorkFailed(key, error.message, final=False))
        except LinkBroken as error:
            log.info("task %s not done: %s", task.kind, error.message, extra=where)
            self._decide(mc.WorkFailed(key, error.message, final=False))
        except NotFound as error:
            log.info("task %s not done: %s", task.kind, error.message, extra=where)
            self._decide(mc.ModelGone(key))
        except FednError as error:
            log.error("task %s failed: %s", task.kind, error.message, extra=where)
            self._decide(mc.WorkFailed(key, error.message, final=True))
        except Exception as error:
            log.exception("task %s failed", task.kind, extra=where)
            self._decide(mc.WorkFailed(key, f"internal fault: {error}", final=True))

    async def _run_task(self, task: m.Task) -> mc.Event:
        with self._models.map(task.model) as model:
            if task.kind is m.TaskKind.VALIDATE:
                examples, metrics = await in_own_thread(partial(self._trainer.validate, model, task))
                return mc.ModelEvaluated(mc.key_of(task), task.model, examples, finite_metrics(metrics))
            header, file = await in_own_thread(partial(self._train, model, task))
        return await self._keep(header, file)

    async def _fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Buffer]:
        """From whichever combiner this client is attached to just now."""
        if self._link is None:
            raise LinkBroken("detached before the model came")
        async for chunk in self._link.fetch_model(request):
            yield chunk

    def _train(self, model: memoryview, task: m.Task) -> tuple[UpdateHeader, bytes]:
        trained = self._trainer.train(model, task)
        header = UpdateHeader(
            task.session, task.round, self.info.client, task.model, trained.examples, len(trained.file),
            digest_of(trained.file), trained.layout, finite_metrics(trained.metrics),
        )  # fmt: skip
        return header, trained.file

    async def _keep(self, header: UpdateHeader, file: bytes) -> mc.Event:
        """Journal the update: once this returns, nobody trains this round again.

        What was trained is not given up for want of room: it is tried again for as long as it is wanted.
        """
        key = mc.key_for(header)
        for attempt in itertools.count():
            try:
                await asyncio.to_thread(self._journal.add, header, file)
            except Unavailable as error:
                self._wait_for_room(error.message)
                await asyncio.sleep(backoff(ROOM_AGAIN + attempt))
            else:
                self._wait_for_room("")
                self._fresh = (header.digest, file)
                return mc.UpdateKept(header)
            if not self._wanted(key):
                break
        self._wait_for_room("")
        return mc.WorkFailed(key, "its round was over before there was room for the update", final=True)

    def _wanted(self, key: mc.Key) -> bool:
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
        try:
            if self._link is None:
                raise LinkBroken("detached before the upload began")
            await self._link.submit(grant, offset, self._chunks(header, offset))
            self._wait_for_room("")
        except (FednError, OSError) as error:
            log.info("upload broke: %s", error, extra={"session": header.session, "round": header.round})
            if isinstance(error, StoreUnavailable):
                self._wait_for_room(f"the combiner has no room for the update: {error.message}")
            self._decide(mc.UploadBroke(header, grant))

    async def _chunks(self, header: UpdateHeader, offset: int) -> AsyncIterator[Buffer]:
        digest, file = self._fresh
        for chunk in split(file, offset) if digest == header.digest else self._journal.read(header, offset):
            yield chunk

    def _spawn(self, work: Coroutine[None, None, None], otherwise: mc.Event) -> None:
        """The machine waits for what comes of ``work``: ``otherwise``, if it breaks in an unknown way."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._reap, otherwise))

    def _reap(self, otherwise: mc.Event, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelling():  # by `close`
            return
        try:
            task.result()
        except (Exception, asyncio.CancelledError) as error:
            log.error("client task failed", exc_info=error)
            self._decide(otherwise)


async def _always() -> None:
    """Nothing needs to be done before dialling."""


def backoff(attempt: int) -> float:
    """Seconds to wait before try ``attempt`` + 1: doubling from 0.1 to 5, then cut by up to half."""
    pause = BACKOFF_FIRST * 2.0 ** min(attempt, BACKOFF_DOUBLINGS)
    return random.uniform(0.5, 1.0) * min(BACKOFF_MOST, pause)


async def _drain(queue: asyncio.Queue[m.ClientMessage | None]) -> AsyncIterator[m.ClientMessage]:
    while (message := await queue.get()) is not None:
        yield message
