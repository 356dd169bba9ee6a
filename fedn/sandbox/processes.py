"""The sandbox's processes: one reducer, combiners and clients, each a real `fedn … start` of its own.

They stop with their parent, however that ends: each watches its standard input and goes when it closes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fedn.domain.errors import FednError, InvalidInput
from fedn.running import STOP_WITH_STDIN

HOST = "127.0.0.1"
STOP_SECONDS = 5.0
LOG_LINES = 5


@dataclass
class Process:
    """One started process; its log is a file in the sandbox's directory."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])


@dataclass
class Sandbox:
    """Starts and stops a federation below ``directory``. Use as a context manager."""

    directory: Path
    combiners: int
    clients: int
    port: int
    processes: list[Process] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def client_names(self) -> list[str]:
        return [f"client-{number + 1}" for number in range(self.clients)]

    def kept(self, name: str) -> Path:
        """Where a client's settled updates are kept."""
        return self.directory / "clients" / name / "kept"

    def __enter__(self) -> Sandbox:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        home = self.directory
        self._spawn(
            "reducer", "reducer", f"--host={HOST}", f"--port={self.port}", f"--data-dir={home / 'reducer'}",
            f"--state-store=sqlite:///{home / 'reducer' / 'state.db'}", f"--model-store=file://{home / 'reducer' / 'models'}",
        )  # fmt: skip
        for index, name in enumerate(self.client_names):
            self._spawn(
                name, "client", f"--reducer={self.url}", f"--name={name}", f"--state-dir={home / 'clients'}",
                "--app=fedn.sandbox.digits:app", f"--app-options=index={index}", f"--app-options=clients={self.clients}",
                "--keep-updates",
            )  # fmt: skip
        for number in range(self.combiners):
            name = f"combiner-{number + 1}"
            self._spawn(
                name, "combiner", f"--name={name}", f"--host={HOST}", "--port=0", f"--reducer={self.url}",
                f"--data-dir={home / name}",
            )  # fmt: skip

    def _spawn(self, name: str, tier: str, *flags: str) -> None:
        log = self.directory / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "fedn", tier, "start", *flags]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(f"FEDN_{tier.upper()}_")}
        with log.open("wb") as output:
            popen = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True,
                env={**environment, STOP_WITH_STDIN: "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )  # fmt: skip
        self.processes.append(Process(name, popen, log))

    def check(self) -> None:
        """Raise FednError with the end of its log if a process has died."""
        for process in self.processes:
            if process.popen.poll() is not None:
                raise FednError(f"{process.name} has stopped ({process.popen.returncode}):\n{process.tail()}")

    def stop(self) -> None:
        """Ask every process to end, wait a little, insist."""
        for process in self.processes:
            process.popen.terminate()
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.popen.wait(STOP_SECONDS)
            process.popen.kill()
            process.popen.wait()
            _close(process.popen.stdin)
        self.processes.clear()


def _close(pipe: IO[bytes] | None) -> None:
    if pipe:
        with suppress(OSError):
            pipe.close()


def free_port(wanted: int) -> int:
    """``wanted`` if it is free (0: any free one); raises InvalidInput if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            raise InvalidInput("port", f"{wanted} is in use", "stop what listens there, or give another --port "
                               "(0 for any)") from None  # fmt: skip
        port: int = probe.getsockname()[1]
        return port
