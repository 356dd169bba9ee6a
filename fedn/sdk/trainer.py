"""What `fedn.Client` puts around an app's trainer: its example buffer, its noise, and telling of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from fedn.client.trainer import AppTrainer
from fedn.domain.errors import FednError
from fedn.domain.messages import Task, TaskKind
from fedn.helpers.files import read_file
from fedn.ports import Trained
from fedn.sdk.buffer import Examples, Row
from fedn.sdk.events import Update, Version
from fedn.sdk.noise import noisy

Tell = Callable[[Update | Version], None]
SESSIONS = 256
"""Of which it is remembered what came last."""


class Batch:
    """The examples that the training under way is to use."""

    def __init__(self, examples: Examples | None, seconds: float = 0.0) -> None:
        """``seconds``: how long a training waits for enough of them."""
        self._examples = examples
        self._seconds = seconds
        self._task: Task | None = None
        self._stop = threading.Event()
        self.rows: Row = ()

    @contextmanager
    def taken(self, task: Task) -> Iterator[None]:
        """Inside, ``rows`` are what the buffer gives. Raises Unavailable if it has too few."""
        if self._examples is None:
            yield
            return
        self._stop.clear()
        self._task = task
        try:
            with self._examples.taken(self._seconds, self._stop) as self.rows:
                yield
        finally:
            self._task, self.rows = None, ()

    def cancel(self, task: Task) -> None:
        """Wait no longer for the examples of this task."""
        if self._examples is not None and self._task == task:
            self._stop.set()
            self._examples.wake()


class TellingTrainer:
    """Implements `fedn.ports.Trainer` around ``inner``.

    A training takes its examples from ``batch``, and leaves them there if it fails; without enough of them
    it is declined. ``tell`` hears of every update, and of every global model the first time that it comes.
    """

    def __init__(
        self, inner: AppTrainer, client: str, batch: Batch, noise: float, tell: Tell, versions: bool
    ) -> None:
        """``noise`` is the σ of `noisy`, 0 for none; ``versions`` says whether anybody asks for models."""
        self._inner = inner
        self._client = client
        self._batch = batch
        self._noise = noise
        self._tell = tell
        self._versions = versions
        self._newest: dict[str, int] = {}

    def train(self, model: memoryview, task: Task, package: memoryview | None = None) -> Trained:
        self._heard_of(model, task)
        told = partial(Update, task.session, task.round, self._client)
        try:
            with self._batch.taken(task):
                trained = self._inner.train(model, task, package)
            if self._noise:
                trained = replace(trained, file=noisy(trained.file, self._noise))
        except FednError as error:
            self._tell(told("failed", reason=error.message))
            raise
        self._tell(told("made", trained.examples, trained.metrics))
        return trained

    def report(
        self, model: memoryview, task: Task, package: memoryview | None = None
    ) -> tuple[int, Mapping[str, float]]:
        self._heard_of(model, task)
        return self._inner.report(model, task, package)

    def cancel(self, task: Task) -> None:
        self._batch.cancel(task)
        self._inner.cancel(task)

    def hurry(self) -> None:
        self._inner.hurry()

    def close(self) -> None:
        self._inner.close()

    def _heard_of(self, model: memoryview, task: Task) -> None:
        """A training task carries the version before its round, every other one that of its round."""
        if not self._versions:
            return
        number = task.round - 1 if task.kind is TaskKind.TRAIN else task.round
        if number > self._newest.get(task.session, -1):
            self._newest.pop(task.session, None)
            self._newest[task.session] = number
            if len(self._newest) > SESSIONS:
                del self._newest[next(iter(self._newest))]
            file = bytes(model)
            self._tell(Version(task.session, number, task.model, lambda: read_file(memoryview(file))))
