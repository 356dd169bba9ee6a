"""The reducer's data lane: fetched parts become a sum, the sum a model, the model a record.

Blocking numerics and stores, called by `driver.py` and `intake.py` in worker threads. A part's digest is
checked before it touches the sum.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256

import numpy as np

from fedn.aggregation.memory import read_memory, write_memory
from fedn.aggregation.write import OPTIMIZER, ServerStep
from fedn.domain.errors import Damaged, FednError, InvalidPlan, NotFound
from fedn.domain.ids import Digest, SessionId
from fedn.domain.model import INLINE_BYTES, Layout, layout_of
from fedn.domain.part import PartHeader
from fedn.domain.plan import Plan
from fedn.domain.round import Head, RoundRecord, store_record
from fedn.domain.update import MAX_EXAMPLES
from fedn.ports import Buffer, ModelStore, StateStore, Vector
from fedn.reducer.legs import PartKey
from fedn.reducer.numerics import optimizer_of
from fedn.reducer.session import CommitRound

log = logging.getLogger("fedn.reducer")


def read_layout(models: ModelStore, head: Head) -> Layout:
    """The layout of the session's current model."""
    with models.map(head.model) as file:
        return layout_of(file)


def read_inline(models: ModelStore, model: Digest, size: int) -> bytes:
    """A small model whole, so that it can ride along; nothing of a large one."""
    if size > INLINE_BYTES:
        return b""
    return b"".join(bytes(chunk) for chunk in models.read(model))


class Part:
    """A part on its way in: bytes fill the vector that they will be, and are hashed on the way.

    ``offset`` is where a broken transfer resumes. Not one number is merged before the digest is right.
    """

    def __init__(self, header: PartHeader) -> None:
        if header.size % 8 or header.size < 0:
            raise Damaged(f"part {header.part} of {header.combiner} announces {header.size} bytes")
        self.header = header
        self.offset = 0
        self._vector = np.empty(header.size // 8, dtype="<f8")
        self._hash = sha256()

    async def receive(self, chunks: AsyncIterator[Buffer]) -> None:
        """Take the rest of the bytes; a broken stream keeps what came."""
        async for chunk in chunks:
            if self.header.size <= INLINE_BYTES:
                self.write(chunk)
            else:
                await asyncio.to_thread(self.write, chunk)

    def write(self, chunk: Buffer) -> None:
        """The next bytes. Raises Damaged beyond the announced size."""
        end = self.offset + len(chunk)
        if end > self.header.size:
            raise Damaged(f"part {self.header.part} of {self.header.combiner} is longer than it says")
        self._vector.data.cast("B")[self.offset : end] = chunk
        self._hash.update(chunk)
        self.offset = end

    def vector(self) -> Vector:
        """The checked sum, shape (elements,). Raises Damaged."""
        if self.offset != self.header.size or self._hash.hexdigest() != self.header.digest:
            raise Damaged(f"part {self.header.part} of {self.header.combiner} is not what its digest says")
        return self._vector.astype(np.float64, copy=False)


def check_part(
    header: PartHeader, inline: bytes, session: SessionId, number: int, key: PartKey, elements: int
) -> None:
    """Believe no combiner: whose part it is, how long it is, and that sums and names go together.

    ``elements`` is the length of the aggregator's vector. Raises Damaged.
    """
    identity = (header.session, header.round, header.combiner, header.incarnation, header.part)
    weights = [contributor.examples for contributor in header.contributors]
    size = 8 * elements if weights else 0
    sound = (
        identity == (session, number, *key)
        and len(inline) in (0, header.size)
        and all(1 <= weight <= MAX_EXAMPLES for weight in weights)
    )
    if not sound:
        raise Damaged(f"part {key.part} of {key.combiner} does not fit its round")
    if header.size != size:
        problem = f"part {key.part} of {key.combiner} has {header.size} bytes, not {size}"
        raise Damaged(f"{problem}; both tiers need the same version of the aggregator")


class Committer:
    """Turns merged sums into the next model and its record, in that order.

    What the server optimizer remembers goes the same way: a blob of its own, named by the record. So a
    round that was not recorded has not changed it, whatever died when.
    """

    def __init__(
        self, state: StateStore, models: ModelStore, term: int, session: SessionId, plan: Plan
    ) -> None:
        self._state = state
        self._models = models
        self._term = term
        self._session = session
        self._plan = plan
        self._optimizer = optimizer_of(plan)

    def prepare(self, head: Head, layout: Layout) -> None:
        """Before a session goes on: see that the optimizer's state is there, and of this optimizer.

        Raises NotFound, Damaged, InvalidInput.
        """
        with self._memory(head, layout):
            self._forget(head.round)

    def commit(
        self, command: CommitRound, head: Head, layout: Layout, mean: Vector, now: float
    ) -> tuple[Head, bytes]:
        """Blobs first, record second; the caller announces third. ``now`` is Unix time.

        Returns the new head and its model as it rides along. That is read before the record: nothing that
        can fail comes after it. Safe to call again with the same arguments. Raises TrailConflict,
        StaleTerm, StoreUnavailable, InvalidModel (a mean that its dtype can't hold), InvalidInput (the
        optimizer failed).
        """
        with self._models.map(head.model) as base, self._memory(head, layout) as memory:
            step = ServerStep(base, layout, mean, self._optimizer, command.round, memory)
            digest, size = self._models.put(step.model())
            remembered = self._remember(step)
        inline = read_inline(self._models, digest, size)
        record = RoundRecord(
            session=self._session, round=command.round, parent=head.record, base_model=head.model,
            model=digest, model_size=size, plan=self._plan.as_dict(), plan_digest=self._plan.digest,
            term=self._term, committed_at=now, optimizer_state=remembered,
            parts=command.parts, refused=command.refused, lost=command.lost,
        )  # fmt: skip
        committed = self._state.commit_round(store_record(record), self._term)
        self._forget(committed.round)
        return committed, inline

    @contextmanager
    def _memory(self, head: Head, layout: Layout) -> Iterator[Mapping[str, Vector]]:
        """What the optimizer remembers after the head's round, mapped; nothing before the first step."""
        if not self._optimizer.slots or not head.round:
            yield {}
            return
        digest = self._state.record(self._session, head.round).record.optimizer_state
        if not digest:
            problem = f"{self._plan.server_optimizer!r} has slots, but round {head.round} kept none"
            raise InvalidPlan(OPTIMIZER, problem, "install the version that the session began with")
        with ExitStack() as stack:
            try:
                file = stack.enter_context(self._models.map(Digest(digest)))
            except NotFound:
                missing = f"the server optimizer's state after round {head.round} is missing ({digest})"
                raise NotFound(missing, digest=digest) from None
            yield read_memory(file, layout, self._optimizer)

    def _remember(self, step: ServerStep) -> str:
        if not self._optimizer.slots:
            return ""
        # No other round writes the same bytes, so that deleting one's never takes another's.
        about = {"session": self._session, "round": str(step.number), OPTIMIZER: self._plan.server_optimizer}
        return self._models.put(write_memory(step, about))[0]

    def _forget(self, newest: int) -> None:
        """Of the optimizer's states those of the two newest records stay. What can't be deleted is left."""
        if not self._optimizer.slots or newest < 3:
            return
        try:
            if old := self._state.record(self._session, newest - 2).record.optimizer_state:
                self._models.delete(Digest(old))
        except FednError as error:
            extra = {"session": self._session, "round": newest - 2}
            log.warning("a server optimizer's old state stays: %s", error.message, extra=extra)
