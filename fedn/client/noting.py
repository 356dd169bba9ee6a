"""What leaves a client, as lines of its ledger. Nothing that says something of the data leaves without one.

`driver.py` asks here before it lets a message or an update go. An update's line is on disk before a byte of
it leaves; other lines are written before, and on disk soon after. What says nothing of the data (hello,
beats, questions) leaves also when the disk is full; the next line that can be written says how often.
Nothing is written on the event loop, since a ledger's files are begun and ended on the disk.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from fedn.client.failures import Failures
from fedn.client.ledger import Ledger
from fedn.domain import messages as m
from fedn.domain.canonical import canonical_json
from fedn.domain.errors import StoreUnavailable
from fedn.domain.ids import ClientId, digest_of
from fedn.domain.update import UpdateHeader
from fedn.ports import Buffer
from fedn.wire import codec
from fedn.wire.pb import fedn_pb2 as pb

MAX_TEXT = 2000
"""Letters of a reason that are in a line; its digest is of all of it."""


class Notes:
    """Writes to a ledger; without one everything passes. For one event loop."""

    def __init__(self, ledger: Ledger | None = None, reducer: str = "") -> None:
        """``reducer`` is the address of the reducer."""
        self._ledger = ledger
        self._reducer = reducer
        self._writing = threading.Lock()
        self._unnoted = 0
        self._beats = 0
        self._failures = Failures()

    # --- to a combiner ---------------------------------------------------------------------------------

    async def said(self, message: m.ClientMessage, to: m.Assignment) -> m.ClientMessage:
        """Note a message before it leaves; the message as it may. Raises StoreUnavailable if it must not."""
        if self._ledger is None:
            return message
        match message:
            case m.Beat():
                self._beats += 1
            case m.TaskFailed():
                return await self._failed(message, to)
            case m.Hello():
                await self._soon(to=to.combiner, address=to.address, **_line(message))
            case _:
                await self._noted(message, to)
        return message

    async def _noted(self, message: m.ClientMessage, to: m.Assignment) -> None:
        line = _line(message)
        await asyncio.to_thread(partial(self._write, to=to.combiner, address=to.address, **line))

    async def _failed(self, message: m.TaskFailed, to: m.Assignment) -> m.TaskFailed:
        """The first of its reason has a line, equal ones are counted until the stream or the hour ends."""
        if self._failures.hour_over():
            await self._tell_counted(to)
            self._failures.forget()
        message = self._failures.bounded(message)
        if not self._failures.again(message, codec.wrap(pb.ClientMessage, message).ByteSize()):
            await self._noted(message, to)
            self._failures.noted(message)
        return message

    async def _tell_counted(self, to: m.Assignment) -> None:
        for again in self._failures.counted():
            about = again.message
            details = {
                "task": str(about.kind), "reason": about.reason[:MAX_TEXT], "messages": again.messages,
            }  # fmt: skip
            line = {"session": about.session, "size": again.size, "details": details}
            await self._soon("failures_told", to.combiner, to.address, **line)

    async def each(
        self, messages: AsyncIterator[m.ClientMessage], to: m.Assignment,
        held_back: Callable[[m.ClientMessage, StoreUnavailable], None],
    ) -> AsyncIterator[m.ClientMessage]:  # fmt: skip
        """The messages that leave, each noted; ``held_back`` is told of those that must not, and why."""
        async for message in messages:
            try:
                allowed = await self.said(message, to)
            except StoreUnavailable as error:
                held_back(message, error)
            else:
                yield allowed

    async def uploading(self, header: UpdateHeader, offset: int, to: m.Assignment) -> Passing:
        """Note that the bytes of an update from ``offset`` on are about to leave; they go through the answer.

        Raises:
            StoreUnavailable: they must not leave.
        """
        fields: dict[str, Any] = {"session": header.session, "round": header.round, "digest": header.digest}
        if self._ledger is not None:
            details = {"offset": offset, "update_size": header.size}
            line = {**fields, "size": header.size - offset, "details": details, "durable": True}
            await asyncio.to_thread(partial(self._write, "upload_begun", to.combiner, to.address, **line))
        broken = partial(self._soon, "upload_broken", to.combiner, to.address, **fields)
        return Passing(broken, header.size - offset)

    async def fetching(self, request: m.FetchRequest, to: m.Assignment) -> None:
        """Note that a model or package is asked for."""
        details = {"file": request.digest, "offset": request.offset}
        await self._soon("file_asked", to.combiner, to.address, size=_size(details), details=details)

    async def left(self, to: m.Assignment) -> None:
        """The stream to a combiner has ended: note the beats and failures that were counted on it."""
        await self._tell_counted(to)
        beats, self._beats = self._beats, 0
        if beats:
            size = beats * codec.wrap(pb.ClientMessage, m.Beat()).ByteSize()
            await self._soon("beats_sent", to.combiner, to.address, size=size, details={"beats": beats})

    # --- to the reducer --------------------------------------------------------------------------------

    async def combiner_asked(self, client: ClientId, prefer: str, avoid: str) -> None:
        details = {"client": client, "prefer": prefer, "avoid": avoid}
        await self._soon("combiner_asked", "reducer", self._reducer, size=_size(details), details=details)

    def identity_asked(self, what: str, request: bytes) -> None:
        """``what`` is 'join_asked' or 'renewal_asked', ``request`` the signing request; no token is noted.

        From any thread, which waits for the disk.
        """
        self._try(what, "reducer", self._reducer, size=len(request), digest=digest_of(request))

    # --- writing ---------------------------------------------------------------------------------------

    async def _soon(self, what: str, to: str, address: str, **line: Any) -> None:
        if self._ledger is not None:
            await asyncio.to_thread(partial(self._try, what, to, address, **line))

    def _try(self, what: str, to: str, address: str, **line: Any) -> None:
        if self._ledger is not None:
            try:
                self._write(what, to, address, **line)
            except StoreUnavailable:
                with self._writing:
                    self._unnoted += 1

    def _write(self, what: str, to: str, address: str, **line: Any) -> None:
        assert self._ledger is not None
        with self._writing:
            if unnoted := self._unnoted:
                self._ledger.note("not_noted", "", "", details={"messages": unnoted})
                self._unnoted -= unnoted
        self._ledger.note(what, to, address, **line)


class Passing:
    """The bytes of one upload on their way; `broke` notes those that did not leave."""

    def __init__(self, note: Any, size: int) -> None:
        self._note = note
        self._left = size

    async def through(self, chunks: AsyncIterator[Buffer]) -> AsyncIterator[Buffer]:
        async for chunk in chunks:
            self._left -= len(chunk)
            yield chunk

    async def broke(self) -> None:
        """The upload did not come to its end."""
        await self._note(details={"unsent": max(0, self._left)})


def _line(message: m.ClientMessage) -> dict[str, Any]:
    """A message's line, but for where it goes."""
    raw = codec.wrap(pb.ClientMessage, message).SerializeToString(deterministic=True)
    what, fields = _described(message)
    return {"what": what, "size": len(raw), "digest": digest_of(raw), **fields}


def _described(message: m.ClientMessage) -> tuple[str, dict[str, Any]]:
    """What a message is called in the ledger, and what its line says besides its size and digest."""
    match message:
        case m.Hello():
            details = {"client": message.client, "name": message.name[:64], "protocol": message.protocol}
            return "hello_said", {"details": details | asdict(message.host)}
        case m.UpdateOffered(header, inline):
            details = {
                "update_size": header.size, "inline": bool(inline), "examples": header.examples,
                "metrics": dict(header.metrics),
            }  # fmt: skip
            return "update_offered", {
                "session": header.session, "round": header.round, "digest": header.digest, "details": details,
                "durable": bool(inline),
            }  # fmt: skip
        case m.ModelValidated():
            details = {
                "model": message.model,
                "examples": message.examples,
                "metrics": dict(message.metrics),
            }
            at = {"session": message.session, "round": message.round}
            return _REPORTS[message.kind], {**at, "details": details}
        case m.TaskFailed():
            details = {"task": str(message.kind), "reason": message.reason[:MAX_TEXT]}
            return "failure_told", {"session": message.session, "round": message.round, "details": details}
        case m.LogShared(lines):
            return "log_shared", {"details": {"lines": len(lines)}}
        case m.Beat():
            raise AssertionError("beats are counted")


_REPORTS: Mapping[m.TaskKind, str] = {
    m.TaskKind.VALIDATE: "validation_reported",
    m.TaskKind.CHECK: "check_reported",
    m.TaskKind.PREDICT: "prediction_reported",
}


def _size(details: Mapping[str, Any]) -> int:
    return len(canonical_json(details))
