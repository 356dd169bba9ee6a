"""Stands between the client and a process with user code: starts it, keeps what it prints, ends all of it.

One keeper for each such process. Its standard input is the client's hand: the first line says what to run,
a byte later on begins a new task, and when it closes everything is killed — so also when the client dies.
On standard output the keeper says, in one line, how it went (`process.Ended`). Whatever the process starts
becomes the keeper's when its own parent is gone (Linux), so that none of it outlives the task; and all of
them together are held to one bound of memory, and one of their number (`family`).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from fedn.client import confine, family
from fedn.client.output import Output

FLOOD_BYTES = 64 * 2**20
"""Nobody reads so much: a task that prints it is ended."""
NOT_STARTED = 126
SWEEP_SECONDS = 5.0
LOOK_SECONDS = 1.0
"""Between two looks at what the process and its children take together."""
_CHUNK = 65_536


def main() -> None:
    spec = json.loads(_first_line())
    confine.adopt_orphans()
    kept = _Kept(spec)
    kept.watch()
    print(json.dumps({"why": kept.why, "status": kept.status, "left": kept.left}))  # noqa: T201 — the answer


def _first_line() -> bytes:
    line = b""
    while b"\n" not in line:
        if not (piece := os.read(0, _CHUNK)):
            sys.exit(0)  # the client has gone before it said anything
        line += piece
    return line.partition(b"\n")[0]


class _Kept:
    """The process, its output, and why it ended, as `process.Ended` has it; whom it ``left`` behind."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.why = "ended"
        self.status: int | None = None
        self.left: list[int] = []
        self._memory = int(spec["memory"])
        self._looked = time.monotonic()
        self._log = Output(Path(spec["log"]))
        self._printed = 0
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake)
        self._output, output = os.pipe()
        me = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            _become(spec, me, output)
        for end in (output, *spec["fds"]):
            os.close(end)
        os.set_blocking(self._output, False)

    def watch(self) -> None:
        """Until the process has ended and nothing of it is left."""
        with selectors.DefaultSelector() as selector:
            for end in (0, self._woken, self._output):
                selector.register(end, selectors.EVENT_READ)
            while self.status is None:
                for key, _ in selector.select(LOOK_SECONDS if family.known() else None):
                    if not self._heard(key.fd):
                        selector.unregister(key.fd)
                self._look()
        self._kill()
        self._sweep()
        self._drain()
        self._log.close()

    def _heard(self, end: int) -> bool:
        """Read what has come; False at its end."""
        try:
            data = os.read(end, _CHUNK)
        except BlockingIOError:
            return True
        if end == self._output:
            self._log.write(data)
            self._printed += len(data)
            if self._printed > FLOOD_BYTES:
                self._end("flood")
        elif end == self._woken:
            self._reap()
        else:
            self._printed = 0
            if not data:
                self._end("stopped")
        return bool(data)

    def _look(self) -> None:
        """At all processes together, now and then."""
        if family.known() and time.monotonic() >= self._looked + LOOK_SECONDS:
            if why := family.excess(self._memory):
                self._end(why)
            self._looked = time.monotonic()

    def _end(self, why: str) -> None:
        if self.why == "ended":
            self.why = why
        self._kill()

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child, signal.SIGKILL)
        if self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGKILL)

    def _reap(self) -> bool:
        """Take leave of whoever has ended; whether there is still somebody."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                self.status = os.waitstatus_to_exitcode(status)

    def _sweep(self) -> None:
        """Kill what has left the group: it is a child of this process, or will be when its parent goes."""
        until = time.monotonic() + SWEEP_SECONDS
        while self._reap():
            left = family.members()
            if time.monotonic() >= until:
                self.left = left or [self._child]
                self._log.write(f"--- could not be ended: processes {self.left}\n".encode())
                return
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)  # a killed process takes a moment to be gone

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._output, _CHUNK):
                self._log.write(data)


def _become(spec: dict[str, Any], parent: int, output: int) -> NoReturn:
    """Be what the client asked for: confined, in a session of its own, with nothing inherited but ``fds``."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for end in (1, 2):
            os.dup2(output, end)
        confine.no_new_privileges()
        confine.limit(spec["memory"])
        if spec["confined"]:
            confine.only(spec["read"], spec["listed"], spec["write"])
            confine.no_capabilities()
        os.chdir(spec["cwd"])
        confine.die_with(parent)
        os.execve(spec["argv"][0], spec["argv"], spec["env"])  # noqa: S606 — that is what it is for
    except BaseException as error:
        os.write(2, f"{spec['argv'][0]} can't be started: {error}\n".encode())
    os._exit(NOT_STARTED)


if __name__ == "__main__":
    main()
