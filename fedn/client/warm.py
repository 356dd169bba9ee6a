"""Workers that stay warm: a package's Python functions in a process that is there from one round to the next.

What takes long, a framework's import and the package's startup(), is paid once for each worker. One that dies
takes its task with it, and the next task gets a new one.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedn.client import faults
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
    return worker


class Workers:
    """Those that are up, by what they run, the last used last. For one thread at a time."""

    def __init__(self, ended: Callable[[Worker, str], None]) -> None:
        """``ended`` is told of each worker that is closed or was found dead, and why."""
        self._up: dict[str, Worker] = {}
        self._ended = ended

    def get(self, key: str, make: Callable[[], Worker]) -> Worker:
        """The worker for ``key``; a new one if there is none, or it is dead."""
        worker = self._up.get(key)
        self.settle(key, 0)
        worker = self._up.pop(key, None) or make()
        self._up[key] = worker
        while len(self._up) > KEPT:
            self.drop(next(iter(self._up)), "others are at work")
        return worker

    def settle(self, key: str, most: int) -> None:
        """After a task: a worker that is dead, or has more than ``most`` bytes of memory (0: any), goes."""
        if (worker := self._up.get(key)) is None:
            return
        if ended := worker.process.wait(0):
            self.drop(key, f"it {ended.words}")
        elif 0 < most < worker.memory:
            self.drop(key, f"it had {worker.memory} bytes of memory, more than worker_memory ({most})")

    def drop(self, key: str, reason: str) -> None:
        """Close a worker."""
        worker = self._up.pop(key)
        worker.close()
        self._ended(worker, reason)

    def close(self) -> None:
        for key in list(self._up):
            self.drop(key, "the client ends")
