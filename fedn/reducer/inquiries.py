"""Predictions and evaluations that people ask of a session's clients, apart from its rounds.

Also of a session that has ended: what clients are asked is made of the stored plan and trail, and they do
it with the session's compute package. Predictions stay where each client's owner says; what comes back is
how many examples, metrics, or why not. That is kept here, and gone when the reducer stops; it is never
stored with a round's metrics.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedn.domain.errors import Busy, Conflict, InvalidInput, NotFound, Unavailable
from fedn.domain.ids import ClientId, CombinerName, Digest, SessionId
from fedn.domain.messages import TaskKind
from fedn.domain.model import layout_of
from fedn.ports import MetricRow, ModelStore, Observed, Observer, SessionInfo, StateStore
from fedn.reducer.checking import KIND as CHECKED
from fedn.reducer.merging import read_inline
from fedn.reducer.metrics import summary, whole_rounds
from fedn.reducer.validating import Answers, Asking, Subject, gather
from fedn.stores.retention import told_if_pruned
from fedn.tasks import Tasks

if TYPE_CHECKING:
    from fedn.reducer.peers import Peer

MAX_RUNNING = 8
MAX_KEPT = 64
"""Inquiries; of more, those that ended first are forgotten."""
GRACE_SECONDS = 60.0
"""Beyond the plan's validation deadline, for links that break and combiners that are busy."""
NO_ANSWER = "did not answer in time"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: ``kind`` of ``model``, which a session's ``round`` made; a model of elsewhere has round
    0, as the seed.
    """

    kind: TaskKind
    model: str = ""
    round: int | None = None


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A prediction or evaluation and what has been answered so far. ``failed`` says of a client why it will
    not answer."""

    inquiry: str
    session: SessionId
    kind: str
    round: int
    model: Digest
    started_at: float
    running: bool
    asked: tuple[ClientId, ...]
    answers: tuple[MetricRow, ...]
    failed: Mapping[ClientId, str]


class _Running:
    """An inquiry while its answers come in, and after."""

    def __init__(self, session: SessionId, kind: TaskKind, subject: Subject, asked: Collection[ClientId],
                 tell: Callable[..., None]) -> None:  # fmt: skip
        self.id = f"i-{secrets.token_hex(6)}"
        self.session, self.kind, self.subject = session, kind, subject
        self.asked = tuple(sorted(asked))
        self.started_at, self.running = time.time(), True
        self.answers = Answers(lambda client, why: tell("client_failed", self, client=client, reason=why))

    def form(self) -> Inquiry:
        rows = tuple(sorted(self.answers.rows.values(), key=lambda row: row.client))
        failed = dict(sorted(self.answers.failed.items()))
        return Inquiry(self.id, self.session, word(self.kind), self.subject.round, self.subject.model,
                       self.started_at, self.running, self.asked, rows, failed)  # fmt: skip


class Inquiries:
    """All of a reducer's. Lives on its event loop."""

    def __init__(
        self, state: StateStore, models: ModelStore, observer: Observer, peers: Mapping[CombinerName, Peer]
    ) -> None:
        self._state = state
        self._models = models
        self._observer = observer
        self._peers = peers
        self._all: dict[str, _Running] = {}
        self._tasks = Tasks()

    async def start(self, session: SessionId, question: Question, term: int) -> Inquiry:
        """Ask every client that may take part in the session and is here.

        Raises NotFound for a session, round or model that is not there, InvalidInput for a model of another
        shape, Conflict while the same is asked already, Busy beyond `MAX_RUNNING`, and Unavailable when
        nobody could answer.
        """
        info = await asyncio.to_thread(self._state.session, session)
        subject = await asyncio.to_thread(self._subject, info, question)
        package = Digest(info.plan.package)
        package_size = await asyncio.to_thread(self._models.size, package) if package else 0
        fit = await asyncio.to_thread(self._fit, info)
        here = {client for peer in self._peers.values() if peer.live for client in peer.station.clients}
        asked = here if fit is None else here & fit
        if not asked:
            raise Unavailable("no client that can take part in this session is attached; try again later")
        self._make_room(session, question.kind)
        made = _Running(session, question.kind, subject, asked, self._tell)
        self._all[made.id] = made
        self._tell("inquiry_started", made, clients=len(asked))
        self._tasks.start(self._run(made, Asking(session, info.plan, term, package_size)))
        return made.form()

    def of(self, session: SessionId) -> list[Inquiry]:
        """Those of a session, newest first."""
        return [made.form() for made in reversed(self._all.values()) if made.session == session]

    def one(self, session: SessionId, inquiry: str) -> Inquiry:
        """Raises NotFound."""
        made = self._all.get(inquiry)
        if made is None or made.session != session:
            problem = f"there is no inquiry {inquiry[:80]}; they are forgotten when the reducer stops"
            raise NotFound(problem, inquiry=inquiry[:80])
        return made.form()

    async def close(self) -> None:
        await self._tasks.close()

    # --- inside ----------------------------------------------------------------------------------------

    def _make_room(self, session: SessionId, kind: TaskKind) -> None:
        """At combiners and clients a question is known by session, round and kind: one at a time of those."""
        running = [made for made in self._all.values() if made.running]
        if any((made.session, made.kind) == (session, kind) for made in running):
            raise Conflict(f"a {word(kind)} of this session is under way; wait until it has ended")
        if len(running) >= MAX_RUNNING:
            raise Busy(f"{MAX_RUNNING} predictions and evaluations are under way; try again later")
        while len(self._all) >= MAX_KEPT:
            del self._all[next(name for name, made in self._all.items() if not made.running)]

    async def _run(self, made: _Running, asking: Asking) -> None:
        chosen = frozenset(made.asked)

        def spec_for(clients: tuple[ClientId, ...]) -> Any:
            listed = tuple(client for client in clients if client in chosen)
            return asking.spec(made.kind, made.subject, listed)

        try:
            async with asyncio.timeout(asking.plan.validation_deadline + GRACE_SECONDS):
                await gather(list(self._peers.values()), spec_for, made.answers)
        except TimeoutError:
            pass  # who has not answered is named below
        finally:
            made.running = False
        heard = made.answers.rows.keys() | made.answers.failed.keys()
        made.answers.failed.update(dict.fromkeys(chosen - heard, NO_ANSWER))
        told = summary(list(made.answers.rows.values()))
        self._tell("inquiry_ended", made, failed=len(made.answers.failed), **told)

    def _tell(self, event: str, made: _Running, **fields: Any) -> None:
        about = {"session": made.session, "inquiry": made.id, "kind": word(made.kind),
                 "round": made.subject.round, "model": made.subject.model}  # fmt: skip
        self._observer.observe(Observed(event, about | fields))

    def _fit(self, info: SessionInfo) -> frozenset[ClientId] | None:
        """Who was found fit for the session; None where clients don't check. Blocking."""
        if not info.plan.check:
            return None
        rows, _ = whole_rounds(self._state, info.session, -1)
        return frozenset(row.client for row in rows if (row.round, row.kind) == (0, CHECKED))

    # --- what it is about ------------------------------------------------------------------------------

    def _subject(self, info: SessionInfo, question: Question) -> Subject:
        """Which model, of which round. Blocking."""
        if question.round is not None:
            if question.model:
                raise InvalidInput("round", "is given beside model", "leave one of the two out")
            return self._of_round(info.session, question.round)
        if not question.model:
            return self._of_round(info.session, info.head.round)
        model = Digest(question.model)
        round_ = self._round_of(info.session, model)
        if round_ is not None:
            return self._of_round(info.session, round_)
        size = self._models.size(model)
        with self._models.map(model) as file, self._models.map(info.head.model) as ours:
            if layout_of(file).digest != layout_of(ours).digest:
                remedy = "give one with the same tensors"
                raise InvalidInput("model", "has other tensors than the models of this session", remedy)
        return Subject(0, model, size, read_inline(self._models, model, size))

    def _of_round(self, session: SessionId, round_: int) -> Subject:
        record = self._state.record(session, round_).record
        with told_if_pruned(self._state, record.model):
            self._models.size(record.model)
            inline = read_inline(self._models, record.model, record.model_size)
        return Subject(record.round, record.model, record.model_size, inline)

    def _round_of(self, session: SessionId, model: Digest) -> int | None:
        """The first round of the session that made this very model."""
        after = -1
        while stored := self._state.records(session, after=after):
            for item in stored:
                if item.record.model == model:
                    return item.record.round
            after = stored[-1].record.round
        return None


def word(kind: TaskKind) -> str:
    """What people call it: a validation is what each committed round gets by itself."""
    return "prediction" if kind is TaskKind.PREDICT else "evaluation"
