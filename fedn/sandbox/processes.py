"""The sandbox's processes: one reducer, combiners and clients, each a real `fedn … start` of its own.

They stop with their parent, however that ends: each watches its standard input and goes when it closes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from fedn.domain.errors import FednError, InvalidInput
from fedn.domain.identity import Role
from fedn.running import STOP_WITH_STDIN
from fedn.sandbox.secured import Secured

HOST = "127.0.0.1"
STOP_SECONDS = 5.0
LOG_LINES = 5
OWN_SETTINGS = ("FEDN_REDUCER_", "FEDN_COMBINER_", "FEDN_CLIENT_", "FEDN_TOKEN")
"""Of the environment, what the sandbox's processes don't inherit."""
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS"), "1"
)
"""So that many processes on few cores don't stand in each other's way."""


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
    """Starts and stops a federation below ``directory``. Use as a context manager.

    Every client runs ``app``, which is called with its index (from 0) and the number of clients; or, where
    ``data`` has a file for each of them, the packages of its sessions. With ``tls`` it is a network of its
    own: everything on TLS, everybody joined by a token.
    """

    directory: Path
    combiners: int
    clients: int
    port: int
    app: str = "fedn.sandbox.digits:app"
    tls: bool = False
    data: Sequence[Path] = ()
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://{HOST}:{self.port}"

    @property
    def secured(self) -> Secured:
        """Its network, where it has one."""
        return Secured(self.directory, self.url, self.check)

    @property
    def token(self) -> str:
        """The admin's token, to be shown to the reducer and to nobody else; '' where nobody asks for one."""
        return self.secured.token_file.read_text(encoding="ascii").strip() if self.tls else ""

    @property
    def environment(self) -> dict[str, str]:
        """What a program finds its way by; clients in it are kept with the others."""
        clients = {"FEDN_CLIENT_STATE_DIR": str(self.directory / "clients"), "FEDN_CLIENT_KEEP_UPDATES": "1"}
        token = {"FEDN_TOKEN_FILE": str(self.secured.token_file)} if self.tls else {}
        return {"FEDN_URL": self.url, **clients, **token, **ONE_THREAD}

    def kept(self, name: str) -> Path:
        """Where a client's settled updates are kept."""
        return self.directory / "clients" / name / "kept"

    def __enter__(self) -> Sandbox:
        try:
            self.start_reducer()
            if self.tls:
                self.secured.wait()
            for index in range(self.clients):
                self.start_client(index)
            for number in range(self.combiners):
                self.start_combiner(f"combiner-{number + 1}")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start_reducer(self, *flags: str) -> Process:
        """The reducer, on SQLite and files; started again it goes on with what is there."""
        home = self.directory / "reducer"
        stores = (f"--state-store=sqlite:///{home / 'state.db'}", f"--model-store=file://{home / 'models'}")
        where: tuple[str, ...] = (f"--host={HOST}", f"--port={self.port}")
        if self.tls:
            self.secured.make()
            where += (f"--network-dir={self.secured.network}",)
        return self._start("reducer", "reducer", *where, *stores, *flags)

    def start_combiner(self, name: str, *flags: str) -> Process:
        """A combiner on any free port."""
        home = self.directory / name
        where = (f"--host={HOST}", "--port=0", f"--data-dir={home}", f"--reducer={self.url}")
        joining = self._joining(Role.COMBINER, name)
        return self._start(name, "combiner", f"--name={name}", *where, *joining, *flags)

    def start_client(self, index: int, *flags: str) -> Process:
        """``client-<index + 1>``; started again it has its old identity and journal."""
        name = f"client-{index + 1}"
        where = (f"--reducer={self.url}", f"--state-dir={self.directory / 'clients'}", f"--name={name}")
        joining = self._joining(Role.CLIENT, name)
        return self._start(name, "client", *where, *self._code(index), "--keep-updates", *joining, *flags)

    def _code(self, index: int) -> tuple[str, ...]:
        """What a client runs. With packages everything here is the user's own, so errors may be told."""
        if self.data:
            return (f"--data={self.data[index]}", "--share-errors")
        options = (f"--app-options=index={index}", f"--app-options=clients={self.clients}")
        return (f"--app={self.app}", *options)

    def _joining(self, role: Role, name: str) -> tuple[str, ...]:
        return (f"--join-file={self.secured.join_file(role, name)}",) if self.tls else ()

    def program(self, name: str) -> list[str]:
        """What the process ``name`` runs: the ``fedn`` command."""
        return [sys.executable, "-m", "fedn"]

    def _start(self, name: str, tier: str, *flags: str) -> Process:
        log = self.directory / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [*self.program(name), tier, "start", *flags]
        environment = {k: v for k, v in os.environ.items() if not k.startswith(OWN_SETTINGS)}
        environment |= {STOP_WITH_STDIN: "1", **ONE_THREAD}
        with log.open("ab") as output:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the sandbox alone, which then ends them in order
                env=environment,
            )
        self.processes[name] = Process(name, popen, log)
        return self.processes[name]

    def kill(self, name: str) -> None:
        """SIGKILL."""
        process = self.processes.pop(name)
        process.popen.kill()
        process.popen.wait()
        _close(process.popen.stdin)

    def check(self) -> None:
        """Raise FednError with the end of its log if a process has died."""
        for process in self.processes.values():
            code = process.popen.poll()
            if code is not None:
                raise FednError(f"{process.name} has stopped with exit code {code}:\n{process.tail()}")

    def stop(self) -> None:
        """Ask every process to end, wait a little, insist."""
        for process in self.processes.values():
            process.popen.terminate()
        for name in list(self.processes):
            with suppress(subprocess.TimeoutExpired):
                self.processes[name].popen.wait(STOP_SECONDS)
            self.kill(name)


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
            remedy = "stop what listens there, or give another --port (0 for any)"
            raise InvalidInput("port", f"{wanted} is in use", remedy) from None
        port: int = probe.getsockname()[1]
        return port
