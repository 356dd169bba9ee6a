"""Has clients report on a model, and gathers what they say.

`driver.py` has every committed model validated here, beside the next round; `inquiries.py` asks for
predictions and evaluations the same way.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fedn.domain import messages as m
from fedn.domain.canonical import canonical_json
from fedn.domain.errors import FednError
from fedn.domain.ids import ClientId, CombinerName, Digest, SessionId
from fedn.domain.plan import Plan
from fedn.domain.round import Head, ValidationSpec
from fedn.domain.update import finite_metrics
from fedn.ports import MetricRow, StateStore
from fedn.reducer.books import Books
from fedn.reducer.metrics import summary, validation_means
from fedn.reducer.network import Network, attached
from fedn.reducer.peers import Peer
from fedn.reducer.scores import UNSCORED, Score, Scores, better, direction_of, metric_of, validated
from fedn.reducer.timing import VALIDATING

log = logging.getLogger("fedn.reducer")

FAILURES_SHOWN = 20
"""Clients of one validation that are named in a session's progress; every one has an event."""

SpecFor = Callable[[tuple[ClientId, ...]], ValidationSpec]
Find = Callable[[CombinerName], Peer | None]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that clients report on: the outcome of ``round``; ``inline`` is itself, when it is small."""

    round: int
    model: Digest
    size: int
    inline: bytes = b""


@dataclass(frozen=True, slots=True)
class Asking:
    """What all questions to the clients of one session have in common."""

    session: SessionId
    plan: Plan
    term: int
    package_size: int

    def spec(self, kind: m.TaskKind, subject: Subject, clients: tuple[ClientId, ...]) -> ValidationSpec:
        plan = self.plan
        config = canonical_json(plan.config_at(max(1, subject.round))).decode()
        return ValidationSpec(
            self.term, self.session, subject.round, subject.model, subject.size, clients, config, plan.seed,
            plan.validation_deadline, subject.inline, kind, plan.package, self.package_size,
        )  # fmt: skip


class Answers:
    """One report of each client, from whichever combiner had it first, or why there is none."""

    def __init__(self, failed: Callable[[ClientId, str], None]) -> None:
        """``failed`` is told of each client once that will not report, as far as its combiner knows."""
        self.rows: dict[ClientId, MetricRow] = {}
        self.failed: dict[ClientId, str] = {}
        self._tell_failed = failed

    def hear(self, spec: ValidationSpec, event: m.ModelValidated | m.ClientFailed) -> None:
        """Take what one client says; a stream that is called again repeats all."""
        client = event.client
        if isinstance(event, m.ModelValidated):
            if event.model != spec.model:
                return  # of something that was asked before, under the same session, round and kind
            metrics = finite_metrics(event.metrics)
            row = MetricRow(spec.session, spec.round, str(spec.kind), client, event.examples, metrics)
            self.rows.setdefault(client, row)
            self.failed.pop(client, None)
        elif client not in self.rows and client not in self.failed:
            self.failed[client] = event.reason
            self._tell_failed(client, event.reason)


async def gather(peers: Iterable[Peer], spec_for: SpecFor, answers: Answers) -> None:
    """Ask the clients at every combiner that is live, until each has reported or is given up.

    What goes wrong at one combiner costs no other's answers. Cancelled, it asks nobody any more.
    """
    async with asyncio.TaskGroup() as asked:
        for peer in peers:
            if peer.live:
                asked.create_task(_tried(peer, spec_for(tuple(sorted(peer.station.clients))), answers))


async def _tried(peer: Peer, spec: ValidationSpec, answers: Answers) -> None:
    listed = frozenset(spec.clients)
    try:
        async for event in peer.stream(peer.incarnation, lambda link: link.run_validation(spec)):
            if isinstance(event, m.ModelValidated | m.ClientFailed) and event.client in listed:
                answers.hear(spec, event)
    except Exception as error:
        where = {"session": spec.session, "round": spec.round, "combiner": peer.name}
        log.warning("a validation failed: %s", error, extra=where)


class Validating:
    """The validations of one session's committed models."""

    def __init__(
        self,
        session: SessionId,
        plan: Plan,
        store: StateStore,
        books: Books,
        find: Find,
        tell: Callable[..., None],
        note: Callable[[str], None],
    ) -> None:
        """``note`` is told what is wrong with the session's metric, and '' when nothing is (any more)."""
        self._session = session
        self._plan = plan
        self._store = store
        self._books = books
        self._find = find
        self._tell = tell
        self._note = note
        self._failed_in = 0
        self._failed: dict[ClientId, str] = {}
        self._best: Score | None = None

    def stored(self, head: Head) -> tuple[bool, Scores]:
        """Whether the last round has no metrics, because a reducer died meanwhile, and the scores so far.

        Blocking.
        """
        if not self._plan.validate or not head.round:
            return False, UNSCORED
        means, metric, scores = validation_means(self._store, self._session), metric_of(self._plan), UNSCORED
        for round_, of_round in sorted(means.items()):
            if metric in of_round:
                scores = validated(scores, self._plan, Score(round_, of_round[metric]))
        self._best = scores.best
        return head.round not in means, scores

    async def run(
        self, subject: Subject, asking: Asking, network: Network, ended: Callable[[int, float | None], None]
    ) -> None:
        """Have the clients in ``network`` evaluate a committed model; store and tell what they report.

        ``ended`` is told in any case, with the mean of the session's metric if anybody reported it.
        """
        value = None
        try:
            value = await self._run(subject, asking, network)
        finally:
            ended(subject.round, value)

    async def _run(self, subject: Subject, asking: Asking, network: Network) -> float | None:
        fit, round_ = attached(network).keys(), subject.round

        def spec_for(clients: tuple[ClientId, ...]) -> ValidationSpec:
            listed = tuple(client for client in clients if client in fit)
            return asking.spec(m.TaskKind.VALIDATE, subject, listed)

        def failed(client: ClientId, reason: str) -> None:
            self._note_failure(round_, client, reason)

        answers, began = Answers(failed), time.monotonic()
        try:
            await gather(filter(None, map(self._find, network)), spec_for, answers)
            rows = list(answers.rows.values())
            await self._books.measured(rows)
        except FednError as error:
            log.warning("validation of round %s failed: %s", round_, error.message)
            return None
        told = summary(rows)
        self._tell("round_validated", round=round_, **told, seconds={VALIDATING: time.monotonic() - began})
        return self._value(subject, told["metrics"])

    @property
    def failures(self) -> Mapping[str, Any]:
        """Clients that could not validate, as of the newest round that has any; empty if none has."""
        return {"round": self._failed_in, "clients": dict(self._failed)} if self._failed else {}

    def _note_failure(self, round_: int, client: ClientId, reason: str) -> None:
        if round_ > self._failed_in:
            self._failed_in, self._failed = round_, {}
        if round_ == self._failed_in and len(self._failed) < FAILURES_SHOWN:
            self._failed[client] = reason
        self._tell("client_failed", round=round_, kind=str(m.TaskKind.VALIDATE), client=client, reason=reason)

    def _value(self, subject: Subject, metrics: Mapping[str, float]) -> float | None:
        """A model that is the best so far is told of; so is, until it comes, a metric that nobody reports."""
        metric = metric_of(self._plan)
        value = metrics.get(metric)
        if value is not None and not math.isfinite(value):
            value = None
        if value is not None and better(Score(subject.round, value), self._best, direction_of(self._plan)):
            self._best = Score(subject.round, value)
            self._tell("best_model", round=subject.round, model=subject.model, metric=metric, value=value)
        missing = bool(self._plan.stop_metric and metrics and self._best is None)
        reported = ", ".join(metrics)
        self._note(f"stop_metric: no client reports {metric}; they report {reported}" if missing else "")
        return value
