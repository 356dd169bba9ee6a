"""One task after the other, each with a `Stop` by which it can be ended: `packages` has its tasks take turns.

A validation that nobody waits for any more may go on in its worker, since to kill it would cost the next task
a new worker: for as long as a worker may have nothing to do, and until another task waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from fedn.client.process import Stop
from fedn.domain.messages import Task, TaskKind

PATIENCE = 900.0
"""Seconds, where no other time is set."""
KEPT = 8


class Turns:
    """`take` is for the threads of tasks, the rest for any."""

    def __init__(self, patience: float) -> None:
        """``patience``: seconds that an unwanted validation may go on; 0 for the most there is."""
        self._patience = patience or PATIENCE
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._here: list[tuple[Task, Stop]] = []  # whose turn it is, if anybody's, and those that wait
        self._unwanted: deque[Task] = deque(maxlen=KEPT)  # these very tasks; the same may be asked for anew
        self._tolerated: Stop | None = None
        self._timer: threading.Timer | None = None
        self._closed = False

    @contextmanager
    def take(self, task: Task) -> Iterator[Stop]:
        """Wait for the turn of ``task``; what the block does for it ends when its Stop is asked."""
        stop = Stop()
        with self._lock:
            self._here.append((task, stop))
            self._stop_tolerated()
            if self._closed or any(task is other for other in self._unwanted):
                stop.ask()
        try:
            with self._turn:
                try:
                    yield stop
                finally:
                    self._forget_tolerated()
        finally:
            with self._lock:
                self._here = [(other, its) for other, its in self._here if its is not stop]

    def cancel(self, task: Task) -> None:
        """Nobody waits for this very task, which may not have come yet."""
        with self._lock:
            self._unwanted.append(task)
            for other, stop in self._here:
                if other is not task:
                    continue
                if task.kind is TaskKind.VALIDATE and stop.warm and len(self._here) == 1:
                    self._tolerate(stop)
                else:
                    stop.ask()

    def hurry(self) -> None:
        """What nobody wants ends now."""
        with self._lock:
            self._stop_tolerated()

    def end(self, seconds: float) -> bool:
        """End all tasks, and take no more. Whether they ended within so many seconds."""
        with self._lock:
            self._closed = True
            for _, stop in self._here:
                stop.ask()
        if ended := self._turn.acquire(timeout=seconds):
            self._turn.release()
        return ended

    def _tolerate(self, stop: Stop) -> None:
        self._tolerated = stop
        self._timer = threading.Timer(self._patience, self.hurry)
        self._timer.daemon = True
        self._timer.start()

    def _stop_tolerated(self) -> None:
        if self._tolerated is not None:
            self._tolerated.ask()

    def _forget_tolerated(self) -> None:
        with self._lock:
            self._tolerated = None
            if self._timer is not None:
                self._timer.cancel()
