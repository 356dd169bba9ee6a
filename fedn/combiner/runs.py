"""What a combiner keeps for each open part and validation: state, timer, data lane, listeners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from fedn.combiner import machine as mc
from fedn.combiner import validation as va
from fedn.combiner.ledger import Standing
from fedn.combiner.staging import PartSum
from fedn.combiner.stopwatch import Stopwatch
from fedn.domain import messages as m
from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation
from fedn.domain.model import INLINE_BYTES
from fedn.domain.part import PartHeader
from fedn.domain.round import ValidationSpec
from fedn.domain.update import UpdateHeader

E = TypeVar("E")

MAX_BEHIND = 65_536
"""Events that may wait for one stream."""
STAGES_SECONDS = 0.5
"""Clients' changes of stage within this time are told as one."""


class Listeners(Generic[E]):
    """Streams that follow something; each has its own queue and sees what is published from now on."""

    def __init__(self) -> None:
        self._queues: list[asyncio.Queue[E | None]] = []

    @contextmanager
    def subscribe(self) -> Iterator[AsyncIterator[E]]:
        queue: asyncio.Queue[E | None] = asyncio.Queue(MAX_BEHIND)
        self._queues.append(queue)
        try:
            yield _drain(queue)
        finally:
            self._queues.remove(queue)

    def publish(self, event: E) -> None:
        """A stream that is too far behind is ended; its reader calls again and gets all anew."""
        for queue in self._queues:
            if queue.full():
                _end(queue)
            else:
                queue.put_nowait(event)

    @property
    def behind(self) -> int:
        """Events that wait for the stream that is furthest behind."""
        return max((queue.qsize() for queue in self._queues), default=0)

    def close(self) -> None:
        for queue in self._queues:
            _end(queue)


def _end(queue: asyncio.Queue[E | None]) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(None)


async def _drain(queue: asyncio.Queue[E | None]) -> AsyncIterator[E]:
    while (event := await queue.get()) is not None:
        yield event


class _Timer:
    """At most one pending call on the loop."""

    def __init__(self) -> None:
        self._at: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: float | None, call: Callable[[], object]) -> None:
        if at == self._at:
            return
        if self._handle:
            self._handle.cancel()

        def fire() -> None:
            self._at = self._handle = None
            call()

        self._at = at
        self._handle = None if at is None else asyncio.get_running_loop().call_at(at, fire)


class RoundRun:
    """A part of a round. ``ending`` is its last event, for whoever asks later."""

    state: mc.State

    def __init__(self, data: PartSum, closed: Callable[[], None]) -> None:
        self.sum = data
        self._closed = closed
        self.watch = Stopwatch()
        self.folding = asyncio.Lock()
        self.listeners = Listeners[m.RoundEvent]()
        self.received: list[m.UpdateReceived] = []
        self.ending: m.PartSealed | m.RoundAborted | None = None
        self._timer = _Timer()
        self._noting: asyncio.TimerHandle | None = None

    @property
    def task(self) -> m.Task:
        spec = self.state.ledger.spec
        return m.Task(spec.session, spec.round, m.TaskKind.TRAIN, spec.model, spec.model_size,
                      spec.config, spec.seed, spec.inline, spec.package, spec.package_size)  # fmt: skip

    def wake_at(self, at: float | None, call: Callable[[], object]) -> None:
        self._timer.set(at, call)

    def receive(self, header: UpdateHeader) -> None:
        """Tell of a folded update, and whoever calls later too."""
        seconds = self.watch.folded(header.client)
        received = m.UpdateReceived(header.client, header.examples, header.metrics, seconds)
        self.received.append(received)
        self.listeners.publish(received)

    @property
    def past(self) -> list[m.RoundEvent]:
        """What whoever calls later has missed."""
        told = self.watch.told()
        return [*self.received, m.StagesNoted(told)] if told else [*self.received]

    def note_stages(self) -> None:
        """Something has happened: soon tell people who stands elsewhere."""
        if self._noting is None and self.ending is None:
            self._noting = asyncio.get_running_loop().call_later(STAGES_SECONDS, self._tell_stages)

    def _tell_stages(self) -> None:
        """A stream that is far behind is spared; what is not told now is told later."""
        self._noting = None
        if self.listeners.behind < MAX_BEHIND // 2 and (
            changed := self.watch.changes(self.state.ledger.entries)
        ):
            self.listeners.publish(m.StagesNoted(changed))

    def end(self, ending: m.PartSealed | m.RoundAborted) -> None:
        self._forget_stages()
        self.ending = ending
        self.listeners.publish(ending)

    def seal(self, combiner: CombinerName, incarnation: Incarnation, digest: Digest, size: int) -> None:
        """End with the part's header; few bytes ride along."""
        ledger = self.state.ledger
        spec = ledger.spec
        header = PartHeader(
            spec.session, spec.round, combiner, incarnation, spec.part, digest, size,
            ledger.contributors, ledger.absences(Standing.REFUSED), ledger.absences(Standing.LOST),
            ledger.absences(Standing.FAILED),
        )  # fmt: skip
        self.end(m.PartSealed(header, bytes(self.sum.bytes()) if size <= INLINE_BYTES else b""))

    def close(self) -> None:
        """Forget the sum. Call it once."""
        self._timer.set(None, lambda: None)
        self._forget_stages()
        self.sum.close()
        self.listeners.close()
        self._closed()

    def _forget_stages(self) -> None:
        if self._noting:
            self._noting.cancel()


class ValidationRun:
    """A validation, check or prediction; what was said so far is repeated to whoever calls again."""

    def __init__(
        self,
        spec: ValidationSpec,
        attached: frozenset[ClientId],
        closed: Callable[[], None],
        cancel: Callable[[ClientId], None],
    ) -> None:
        """``cancel`` tells a client that nobody waits for its report any more."""
        self._closed = closed
        self._cancel = cancel
        loop = asyncio.get_running_loop()
        self.state = va.open_validation(spec, attached, loop.time())
        self.task = m.Task(spec.session, spec.round, spec.kind, spec.model, spec.model_size,
                           spec.config, spec.seed, spec.inline, spec.package, spec.package_size)  # fmt: skip
        self._said: list[m.ModelValidated | m.ClientFailed] = []
        self._listeners = Listeners[m.ModelValidated | m.ClientFailed]()
        self._timer = _Timer()
        self._timer.set(self.state.closes_at, self._tick)
        if self.state.over:
            self.close()

    async def events(self) -> AsyncIterator[m.ValidationEvent]:
        """Every report and failure, then ValidationSealed."""
        with self._listeners.subscribe() as more:
            past, over = list(self._said), self.state.over
            for said in past:
                yield said
            if not over:
                async for said in more:
                    yield said
        yield m.ValidationSealed(len(self.state.reported), self.state.missing)

    @property
    def behind(self) -> int:
        return self._listeners.behind

    def report(self, client: ClientId, report: m.ModelValidated) -> None:
        state, wanted = va.report(self.state, client)
        if wanted and report.client == client and report.model == state.spec.model:
            self._say(report)
            self._move(state)

    def give_up(self, client: ClientId, reason: str, left: bool = False) -> None:
        if client in self.state.waiting:
            self._say(m.ClientFailed(client, reason, left))
        self._move(va.give_up(self.state, client))

    def extend(self, spec: ValidationSpec, attached: frozenset[ClientId]) -> frozenset[ClientId]:
        """Ask the clients that are new in a later call, too; returns which."""
        before = self.state.waiting
        self.state = va.extend(self.state, spec, attached, asyncio.get_running_loop().time())
        self._timer.set(self.state.closes_at, self._tick)
        new = self.state.waiting - before
        self._said = [s for s in self._said if not (isinstance(s, m.ClientFailed) and s.client in new)]
        return new

    def _say(self, said: m.ModelValidated | m.ClientFailed) -> None:
        self._said.append(said)
        self._listeners.publish(said)

    def _tick(self) -> None:
        waited_for = self.state.waiting
        self._move(va.tick(self.state, asyncio.get_running_loop().time()))
        for client in sorted(waited_for - self.state.waiting):
            self._cancel(client)

    def close(self) -> None:
        """Wait for nobody any more. Call it once."""
        self._timer.set(None, lambda: None)
        self._listeners.close()
        self._closed()

    def _move(self, state: va.Validation) -> None:
        over, self.state = self.state.over, state
        if state.over and not over:
            self.close()
