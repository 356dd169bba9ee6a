"""The reducer's data lane: fetched parts become a sum, the sum a model, the model a record.

Blocking numerics and stores, called by `driver.py` and `intake.py` in worker threads. A part's digest is
checked before it touches the sum.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256

import numpy as np

from fedn import plugins
from fedn.aggregation.optimizers import Sgd
from fedn.aggregation.write import write_model
from fedn.domain.errors import Damaged
from fedn.domain.ids import Digest, SessionId
from fedn.domain.model import INLINE_BYTES, Layout, layout_of
from fedn.domain.part import PartHeader
from fedn.domain.plan import Plan
from fedn.domain.round import Head, RoundRecord, store_record
from fedn.domain.update import MAX_EXAMPLES
from fedn.ports import Buffer, ModelStore, ServerOptimizer, StateStore, Vector
from fedn.reducer.round import PartKey
from fedn.reducer.session import CommitRound


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
    header: PartHeader, inline: bytes, session: SessionId, number: int, key: PartKey, layout: Layout
) -> None:
    """Believe no combiner: whose part it is, how long it is, and that sums and names go together.

    Raises Damaged.
    """
    identity = (header.session, header.round, header.combiner, header.incarnation, header.part)
    weights = [contributor.examples for contributor in header.contributors]
    sound = (
        identity == (session, number, *key)
        and header.size == (8 * layout.float_elements if weights else 0)
        and len(inline) in (0, header.size)
        and all(1 <= weight <= MAX_EXAMPLES for weight in weights)
    )
    if not sound:
        raise Damaged(f"part {key.part} of {key.combiner} does not fit its round")


class Committer:
    """Turns merged sums into the next model and its record, in that order."""

    def __init__(
        self, state: StateStore, models: ModelStore, term: int, session: SessionId, plan: Plan
    ) -> None:
        self._state = state
        self._models = models
        self._term = term
        self._session = session
        self._plan = plan
        self._optimizer = _optimizer(plan)

    def commit(
        self, command: CommitRound, head: Head, layout: Layout, mean: Vector, now: float
    ) -> tuple[Head, bytes]:
        """Blob first, record second; the caller announces third. ``now`` is Unix time.

        Returns the new head and its model as it rides along. That is read before the record: nothing that
        can fail comes after it. Safe to call again with the same arguments. Raises TrailConflict,
        StaleTerm, StoreUnavailable, InvalidModel (a mean that its dtype can't hold).
        """
        with self._models.map(head.model) as base:
            digest, size = self._models.put(write_model(base, layout, mean, self._optimizer))
        inline = read_inline(self._models, digest, size)
        record = RoundRecord(
            session=self._session, round=command.round, parent=head.record, base_model=head.model,
            model=digest, model_size=size, plan=self._plan.as_dict(), plan_digest=self._plan.digest,
            term=self._term, committed_at=now,
            parts=command.parts, refused=command.refused, lost=command.lost,
        )  # fmt: skip
        return self._state.commit_round(store_record(record), self._term), inline


def _optimizer(plan: Plan) -> ServerOptimizer:
    if plan.server_optimizer == "sgd":
        return Sgd(plan.server_learning_rate)
    optimizer: ServerOptimizer = plugins.load("fedn.server_optimizers", plan.server_optimizer)(
        plan.server_learning_rate
    )
    return optimizer
