"""A process with user code, as the client sees it: started through a keeper, ended as a whole.

`surroundings` says what it may see, `keeper` looks after it. `warm` has workers in such processes, and
`commands` one for each task.
"""

from __future__ import annotations

import json
import logging
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from fedn.client import boot, family
from fedn.domain.errors import InvalidInput, Unavailable

END_SECONDS = 15.0
"""More than a keeper takes to end whatever it keeps."""
BOOT = str(Path(boot.__file__))
_STOPPED = {
    "stopped": "was stopped",
    "flood": "printed without end, and was stopped",
    "memory": "took more memory, all its processes together, than this client's owner allows (memory), "
    "and was stopped",
    "processes": f"had more than {family.MAX_PROCESSES} processes or {family.MAX_THREADS} threads, "
    "and was stopped",
}
_log = logging.getLogger("fedn.client")


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run, and what it may do. Paths are absolute; ``memory`` is in bytes, 0 for no limit, and holds
    for each of its processes and for all of them together.

    Its output goes to the end of ``log``. With ``confined`` it reads and runs what is below ``read``, lists
    ``listed`` besides, and writes below ``write`` alone.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    log: str
    read: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    confined: bool = False
    memory: int = 0
    fds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: by itself ('ended', with its exit status or minus a signal), 'stopped' by the
    client, or stopped for a 'flood' of output, for the 'memory' or number of all its 'processes'. Status
    None: it is not known."""

    why: str
    status: int | None

    @property
    def words(self) -> str:
        """As the end of a sentence about it."""
        if self.why in _STOPPED:
            return _STOPPED[self.why]
        if self.status is None:
            return "was killed together with what kept it"
        if self.status >= 0:
            return f"ended with exit status {self.status}"
        name = signal.Signals(-self.status).name if -self.status in set(signal.Signals) else -self.status
        memory = ", as happens when memory runs out" if -self.status == signal.SIGKILL else ""
        return f"was killed by {name}{memory}"


class Process:
    """One process and all that it starts. `kill` may be called from any thread, the rest from one."""

    def __init__(self, spec: Spec, fds: Sequence[int] = ()) -> None:
        """``fds`` are handed on under their own numbers. Raises Unavailable if nothing can be started."""
        try:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", BOOT, "fedn.client.keeper"], env=spec.env,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable(f"no process can be started here: {error.strerror}") from None
        self._lock = threading.Lock()
        self._ended: Ended | None = None
        told = json.dumps(asdict(spec) | {"fds": list(fds)}).encode() + b"\n"
        self._say(told)

    def new_task(self) -> None:
        """From now on what it prints is counted anew."""
        self._say(b".")

    def kill(self) -> None:
        """End it and everything it has started, without waiting."""
        with self._lock, suppress(OSError):
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()

    def wait(self, seconds: float) -> Ended | None:
        """How it ended, if it does within so many seconds."""
        if self._ended is None:
            assert self._keeper.stdout is not None
            poll = select.poll()  # unlike select() for any number of open files
            poll.register(self._keeper.stdout, select.POLLIN)
            if not poll.poll(max(0.0, seconds) * 1000):
                return None
            self._ended = _read(self._keeper.stdout.read())
            self.kill()
            self._keeper.stdout.close()
            self._keeper.wait()
        return self._ended

    def end(self) -> Ended:
        """Kill it, and wait until it is gone."""
        self.kill()
        if (ended := self.wait(END_SECONDS)) is None:
            self._keeper.kill()
            ended = self.wait(END_SECONDS)
        return ended or Ended("ended", None)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self.end()

    def _say(self, told: bytes) -> None:
        with self._lock, suppress(OSError, ValueError):  # it has gone; `wait` says why
            assert self._keeper.stdin is not None
            self._keeper.stdin.write(told)
            self._keeper.stdin.flush()


def _read(answer: bytes) -> Ended:
    with suppress(ValueError, TypeError, KeyError):
        told = json.loads(answer)
        if left := told["left"]:
            _log.error("processes that a package has started could not be ended: %s", left)
        return Ended(str(told["why"]), told["status"])
    return Ended("ended", None)


class Stop:
    """Whether a task is still wanted. `ask` comes from another thread than the task's own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._process: Process | None = None
        self.warm = False
        """Whether it is ended together with a worker that would else stay up."""

    def ask(self) -> None:
        """End the task: what runs for it is killed."""
        with self._lock:
            self._asked = True
            if self._process is not None:
                self._process.kill()

    @contextmanager
    def watching(self, process: Process) -> Iterator[None]:
        """While ``process`` runs for the task. Raises InvalidInput if asked; the process is gone then."""
        with self._lock:
            self._process = process
        try:
            self.check()
            yield
        finally:
            with self._lock:
                self._process = None
            if self._asked:
                process.end()
                self.check()

    def check(self) -> None:
        """Raise InvalidInput if the task is not wanted any more."""
        if self._asked:
            raise InvalidInput("task", "was cancelled")
