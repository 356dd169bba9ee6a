"""Workers that stay warm: a package's Python functions in a process that is there from one round to the next.

What takes long, a framework's import and the package's startup(), is paid once for each worker. One that dies
takes its task with it, and the next task gets a new one. One that has nothing to do is ended after a while,
and at once while the client is away: its memory is for others then.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedn.client import faults, leftovers
from fedn.client.pipe import Pipe
from fedn.client.process import BOOT, END_SECONDS, Process, Spec, Stop
from fedn.client.shelf import remove
from fedn.domain.errors import InvalidInput

KEPT = 2
"""Workers that stay up while they have nothing to do."""
CLOSE_SECONDS = 5.0
"""A worker that is not needed any more is given to end by itself."""
NONSENSE = "did not answer as a worker does, and was stopped"


@dataclass
class Worker:
    """A worker in its folder ``work``. Started by `start`; to be closed."""

    name: str
    process: Process
    pipe: Pipe
    work: Path
    pid: int = 0
    seconds: float = 0.0
    memory: int = 0
    """Bytes after its last task."""
    kept: frozenset[str] = frozenset()
    """Files in ``work`` that its start left there."""
    crowded: bool = False
    """Whether there is more in ``work`` than may stay there."""
    used: float = 0.0
    """When its last task ended, by the monotonic clock."""

    def ask(self, order: Mapping[str, Any], stop: Stop, seconds: float) -> dict[str, Any]:
        """Its answer to an order.

        Raises:
            InvalidInput: what went wrong in there; it died; it took over ``seconds``; ``stop`` was asked.
        """
        with stop.watching(self.process):
            self.process.new_task()
            answer = self._answer(order, seconds)
            if answer is None:
                raise InvalidInput("package", f"its worker {self._why()}", "see its output on this client")
        memory = answer.get("memory")
        self.memory = memory if type(memory) is int else 0
        if "error" in answer:
            raise faults.from_json(answer["error"])
        return answer

    def _answer(self, order: Mapping[str, Any], seconds: float) -> dict[str, Any] | None:
        try:
            self.pipe.send(order)
            return self.pipe.receive(seconds)
        except TimeoutError:
            self.process.end()
            raise InvalidInput("package", f"took longer than {seconds:g} s, and was stopped") from None
        except ValueError:
            self.process.end()
            raise InvalidInput("package", f"its worker {NONSENSE}") from None
        except OSError:
            return None

    def _why(self) -> str:
        """How it ended; one that only does not speak any more is ended now."""
        if ended := self.process.wait(END_SECONDS):
            return ended.words
        self.process.end()
        return NONSENSE

    def tidy(self) -> None:
        """Remove what a task left in its folder."""
        self.crowded = self.crowded or not leftovers.clear(self.work, self.kept)

    def close(self) -> None:
        """End it, by force if need be, and remove what it wrote."""
        self.pipe.close()
        self.process.wait(CLOSE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it at once, and remove what it wrote."""
        self.process.end()
        self.pipe.close()
        remove(self.work)


def start(
    name: str, python: Path, spec: Callable[[tuple[str, ...]], Spec], work: Path, order: Mapping[str, Any],
    stop: Stop, seconds: float,
) -> Worker:  # fmt: skip
    """A new worker that has done ``order``: imported the package, and called its startup().

    Raises what `Worker.ask` does; then nothing is left of it.
    """
    began = time.monotonic()
    ours, theirs = socket.socketpair()
    with theirs:
        end = theirs.fileno()
        argv = (str(python), "-P", BOOT, "fedn.client.worker_main", str(end))
        try:
            process = Process(spec(argv), (end,))
        except BaseException:
            ours.close()
            remove(work)
            raise
    worker = Worker(name, process, Pipe(ours), work)
    try:
        answer = worker.ask(order, stop, seconds)
    except BaseException:
        worker.kill()
        raise
    pid = answer.get("pid")
    worker.pid = pid if type(pid) is int else 0
    worker.seconds = time.monotonic() - began
    kept = leftovers.files_in(work)
    worker.kept, worker.crowded = kept or frozenset(), kept is None
    return worker


class Workers:
    """Those that are up, by what they run, the last used last.

    `get` and `settle` are for one thread at a time, the rest for any.
    """

    def __init__(self, ended: Callable[[Worker, str], None], idle: float = 0.0) -> None:
        """``ended`` is told, in any thread, of each worker that was closed or found dead, and why.

        After ``idle`` seconds with nothing to do a worker is closed; 0 for never.
        """
        self._up: dict[str, Worker] = {}
        self._ended = ended
        self._idle = idle
        self._lock = threading.Lock()
        self._at_work = ""
        self._away = self._closed = False
        self._timer: threading.Timer | None = None

    def get(self, key: str, make: Callable[[], Worker]) -> Worker:
        """The worker for ``key``, at work until `settle`; a new one if there is none, or it is dead."""
        self._part(key, 0)
        with self._lock:
            worker = self._up.pop(key, None)
        worker = worker or make()
        with self._lock:
            self._up[key] = worker
            spare = list(self._up)[:-KEPT]
        for other in spare:
            self._drop(other, "others are at work")
        return worker

    def settle(self, key: str, most: int) -> None:
        """After a task: a worker that is dead, or has more than ``most`` bytes of memory (0: any), goes."""
        self._part(key, most)
        with self._lock:
            self._at_work = ""
            if worker := self._up.get(key):
                worker.used = time.monotonic()
        self._look_later()

    @property
    def up(self) -> frozenset[str]:
        """What they run."""
        with self._lock:
            return frozenset(self._up)

    def rest(self, away: bool) -> None:
        """While the client is ``away`` no worker stays up that has nothing to do."""
        with self._lock:
            self._away = away
        self._look_later()

    def close(self) -> None:
        """Close them all. None is at work any more."""
        with self._lock:
            self._closed = True
            if timer := self._timer:
                timer.cancel()
        if timer is not None:
            timer.join()  # it may be closing some
        for key in list(self._up):
            self._drop(key, "the client ends")

    def _part(self, key: str, most: int) -> None:
        """From one that can't go on; it is at work from here on, so that nobody else ends it."""
        with self._lock:
            self._at_work = key
        if (worker := self._up.get(key)) is None:
            return
        if ended := worker.process.wait(0):
            self._drop(key, f"it {ended.words}")
        elif 0 < most < worker.memory:
            self._drop(key, f"it had {worker.memory} bytes of memory, more than worker_memory ({most})")
        elif worker.crowded:
            self._drop(key, f"it left too much in its folder: {leftovers.TOO_MUCH}")

    def _drop(self, key: str, reason: str) -> None:
        with self._lock:
            worker = self._up.pop(key, None)
        if worker is not None:
            worker.close()
            self._ended(worker, reason)

    # --- with nothing to do ----------------------------------------------------------------------------

    def _look_later(self) -> None:
        """When the next worker will have had nothing to do for long enough."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            due = [worker.used + self._idle for worker in self._resting().values()]
            if not due or self._closed or not (self._away or self._idle):
                return
            seconds = 0.0 if self._away else max(0.0, min(due) - time.monotonic())
            self._timer = threading.Timer(seconds, self._look)
            self._timer.daemon = True
            self._timer.start()

    def _look(self) -> None:
        """Close those that have nothing to do for too long."""
        with self._lock:
            away, now = self._away, time.monotonic()
            resting = self._resting().items()
            over = [key for key, worker in resting if away or now >= worker.used + self._idle]
            workers = [self._up.pop(key) for key in over]
        for worker in workers:
            worker.close()
            reason = "the client is away" if away else f"it had nothing to do for {self._idle:g} s"
            self._ended(worker, reason)
        self._look_later()

    def _resting(self) -> Mapping[str, Worker]:
        return {key: worker for key, worker in self._up.items() if key != self._at_work}
