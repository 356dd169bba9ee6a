"""What a client works with: the user's code, and a safe place for what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fedn.domain import messages as m
from fedn.domain.ids import Digest, SessionId
from fedn.domain.update import UpdateHeader
from fedn.ports.buffers import Buffer


class Journal(Protocol):
    """A client's updates that are not settled yet, safe against its own death."""

    def add(self, header: UpdateHeader, file: bytes) -> None:
        """Keep an update, durably. Raises Busy when that would exceed its bound, StoreUnavailable."""

    def get(self, session: SessionId, round: int) -> UpdateHeader | None: ...

    def read(self, header: UpdateHeader, offset: int) -> Iterator[Buffer]: ...

    def settle(self, session: SessionId, round: int) -> None:
        """Forget an update (or move it aside, where updates are kept), but not that it was settled."""

    def past(self) -> Mapping[SessionId, int]:
        """Up to which round each session is settled here."""

    def held(self) -> Sequence[UpdateHeader]:
        """Oldest first."""


class Trainer(Protocol):
    """Runs the user's code on a client. Blocking; called in a worker thread, one task at a time.

    ``model`` is a whole model file, ``package`` the archive that ``task.package`` names (None without one).
    Raises InvalidInput saying in a sentence what is wrong with the code, the data or the task.
    """

    def train(self, model: memoryview, task: m.Task, package: memoryview | None = None) -> Trained: ...

    def report(
        self, model: memoryview, task: m.Task, package: memoryview | None = None
    ) -> tuple[int, Mapping[str, float]]:
        """(examples, metrics) of a validation, a check or a prediction, as ``task.kind`` says."""

    def cancel(self, task: m.Task) -> None:
        """Nobody waits for this task: end it if it is at work, where that is possible. From any thread."""

    def hurry(self) -> None:
        """Another task waits for what goes on though nobody waits for it: end that now. From any thread."""


@dataclass(frozen=True, slots=True)
class Trained:
    """An update as a safetensors file laid out like the base model, with its weight and metrics."""

    file: bytes
    layout: Digest
    examples: int
    metrics: Mapping[str, float]
