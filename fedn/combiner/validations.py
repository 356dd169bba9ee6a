"""Validations, checks and predictions under way at a combiner: opened, joined, reported to, given up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

from fedn.combiner.limits import Limits
from fedn.combiner.materials import having, pin, unpin
from fedn.combiner.runs import ValidationRun
from fedn.domain import messages as m
from fedn.domain.errors import Busy
from fedn.domain.gauges import Gauges
from fedn.domain.ids import ClientId, SessionId
from fedn.domain.round import ValidationSpec
from fedn.ports import ReducerLink
from fedn.stores.cache import ModelCache

_Key = tuple[SessionId, int, m.TaskKind]


class Validations:
    """Every one that is not over, by session, round and kind."""

    def __init__(
        self,
        models: ModelCache,
        reducer: ReducerLink,
        limits: Limits,
        gauges: Gauges,
        send: Callable[[ClientId, m.CombinerMessage], None],
    ) -> None:
        self._send = send
        self._models = models
        self._reducer = reducer
        self._limit = limits.max_validations
        self._runs: dict[_Key, ValidationRun] = {}
        self._level = gauges.add("validations", limits.max_validations, lambda: len(self._runs))

    async def run(
        self,
        spec: ValidationSpec,
        attached: Callable[[], frozenset[ClientId]],
        ask: Callable[[ClientId, m.Task], None],
    ) -> AsyncIterator[m.ValidationEvent]:
        """Have the listed clients evaluate a model, or go on with it; ends with ValidationSealed."""
        async with having(self._models, self._reducer, spec):
            run = self._runs.get((spec.session, spec.round, spec.kind))
            if run is None:
                run = self._open(spec, attached())
                new = run.state.waiting
            else:
                new = run.extend(spec, attached())
            for client in new:
                ask(client, run.task)
            async for event in run.events():
                yield event

    def _open(self, spec: ValidationSpec, attached: frozenset[ClientId]) -> ValidationRun:
        if len(self._runs) >= self._limit:
            raise Busy(f"{self._limit} validations are under way here (max_validations)")
        key = (spec.session, spec.round, spec.kind)

        def closed() -> None:
            unpin(self._models, spec)
            self._runs.pop(key, None)

        def cancel(client: ClientId) -> None:
            if spec.kind is m.TaskKind.CHECK:
                return  # what it loads meanwhile it needs all the same, and it is asked again
            over = m.TaskCancelled(spec.session, spec.round, spec.kind, "the time for it is up")
            self._send(client, over)

        pin(self._models, spec)
        run = ValidationRun(spec, attached, closed, cancel)
        if not run.state.over:
            self._runs[key] = run
            self._level.note(len(self._runs))
        return run

    def report(self, client: ClientId, report: m.ModelValidated) -> None:
        if run := self._runs.get((report.session, report.round, report.kind)):
            run.report(client, report)

    def failed(
        self, client: ClientId, session: SessionId, round_: int, kind: m.TaskKind, reason: str
    ) -> None:
        """The client can't do this one."""
        if run := self._runs.get((session, round_, kind)):
            run.give_up(client, reason)

    def left(self, client: ClientId) -> None:
        """The client is gone: none waits for it."""
        for run in list(self._runs.values()):
            run.give_up(client, "left before it reported", left=True)

    def expected(self) -> Iterator[ClientId]:
        """Who has still to report."""
        for run in self._runs.values():
            yield from run.state.waiting

    @property
    def behind(self) -> int:
        """Events that wait for the stream that is furthest behind."""
        return max((run.behind for run in self._runs.values()), default=0)

    def close(self) -> None:
        for run in list(self._runs.values()):
            run.close()
