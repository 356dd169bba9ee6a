"""A federation of real processes with links and disks that can be broken, and everybody's supervisor.

`schedule` says what to break, `lanes` keeps sessions going, `audit` judges what came out.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom

from schedule import Fault

from fedn.domain.errors import InvalidInput
from fedn.sandbox.processes import HOST, Sandbox, free_port
from fedn.testing.proxy import Proxy

HERE = Path(__file__).parent
ROOMY = 2 * 2**30


def names(tier: str, count: int) -> list[str]:
    return [f"{tier}-{n + 1}" for n in range(count)]


def settled_port() -> int:
    """A free port that no outgoing connection will be given while its owner is down."""
    for _ in range(100):
        with suppress(InvalidInput):
            return free_port(SystemRandom().randrange(20_000, 32_000))
    raise OSError("no free port from 20000 to 32000")


@dataclass
class Death:
    """A process that ended though nobody killed it."""

    name: str
    code: int
    excused: bool
    tail: str


class Launched(Sandbox):
    """Every process by way of `launch`."""

    launcher: list[str]

    def program(self, name: str) -> list[str]:
        return self.launcher


class Disk:
    """A tmpfs below a directory. Full means: no larger than what is on it.

    What is on it at the end is moved to the directory itself.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", str(path))

    def fill(self) -> None:
        for _ in range(20):  # more may be written between looking and remounting
            room = os.statvfs(self.path)
            with suppress(OSError):
                used = max(1, room.f_blocks - room.f_bfree)  # 0 would mean no limit
                _mount("-o", f"remount,size={used * room.f_frsize}", str(self.path))
                return

    def free(self) -> None:
        _mount("-o", f"remount,size={ROOMY}", str(self.path))

    def close(self) -> None:
        copy = self.path.with_name(f"{self.path.name}.copy")
        shutil.copytree(self.path, copy)
        subprocess.run(["umount", str(self.path)], check=True, capture_output=True)
        self.path.rmdir()
        copy.rename(self.path)


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())


class World:
    """Use as a context manager; `begin` and `end` a fault, and call `supervise` often in between.

    With ``homes`` every client prefers a combiner; ``patience`` bounds every wait.
    """

    def __init__(
        self, directory: Path, combiners: int, clients: int, mutation: str, homes: bool, patience: float
    ) -> None:
        self.directory = directory
        self.patience = patience
        self.notes = directory / "trainings"
        self.combiners, self.clients = names("combiner", combiners), names("client", clients)
        self.deaths: list[Death] = []
        self.pids: set[int] = set()
        self.disks: dict[str, Disk] = {}
        self.no_disks = ""
        self.sandbox = Launched(directory, 0, clients, settled_port(), app=f"{HERE / 'app.py'}:app")
        self.sandbox.launcher = [sys.executable, str(HERE / "launch.py"), str(self.notes), mutation]
        self._homes = homes
        self._ports = {name: settled_port() for name in self.combiners}
        self._proxies: dict[str, Proxy] = {}
        self._down: set[str] = set()
        self._due: dict[str, float] = {}
        self._unwell: set[str] = set()
        self._stack = ExitStack()

    def __enter__(self) -> World:
        with ExitStack() as stack:
            self._mount_disks(stack)
            for name, port in {"reducer": self.sandbox.port, **self._ports}.items():
                self._proxies[name] = stack.enter_context(Proxy(f"{HOST}:{port}"))
            stack.callback(self.sandbox.stop)
            stack.callback(self._wake_all)
            for name in ["reducer", *self.combiners, *self.clients]:
                self.start(name)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- processes -----------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start it, with the addresses and the directories that it had."""
        if name == "reducer":
            process = self.sandbox.start_reducer()
        elif name in self._ports:
            where = (f"--port={self._ports[name]}", f"--advertise={self._proxies[name].address}")
            process = self.sandbox.start_combiner(name, *where, self._reducer_flag)
        else:
            index = self.clients.index(name)
            home = self.combiners[index % len(self.combiners)]
            flags = (f"--combiner={home}",) if self._homes else ()
            process = self.sandbox.start_client(index, self._reducer_flag, *flags)
        self.pids.add(process.popen.pid)

    @property
    def _reducer_flag(self) -> str:
        return f"--reducer=http://{self._proxies['reducer'].address}"

    def signal(self, name: str, number: signal.Signals) -> None:
        if process := self.sandbox.processes.get(name):
            process.popen.send_signal(number)

    def supervise(self) -> None:
        """Start again, a moment later, whatever ended by itself; nothing should but on a full disk."""
        for name, process in list(self.sandbox.processes.items()):
            code = process.popen.poll()
            if code is not None:
                self.deaths.append(Death(name, code, name in self._unwell, process.tail()))
                self.sandbox.kill(name)
                self._due[name] = time.monotonic() + 0.5
        for name in [n for n, due in self._due.items() if due <= time.monotonic()]:
            del self._due[name]
            if name not in self._down:
                self.start(name)

    def until(self, ready: Callable[[], object], what: str) -> None:
        """Wait for ``ready`` to be true, whatever ends meanwhile."""
        deadline = time.monotonic() + self.patience
        while not ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {self.patience:g} s in vain for {what}")
            self.supervise()
            time.sleep(0.02)

    def log(self, name: str) -> str:
        return (self.directory / "logs" / f"{name}.log").read_text(errors="replace")

    def _wake_all(self) -> None:
        for name in self.sandbox.processes:
            self.signal(name, signal.SIGCONT)

    # --- faults --------------------------------------------------------------------------------------

    def begin(self, fault: Fault, rng: Random) -> bool:
        """False where this machine can't do it."""
        name = fault.victim
        match fault.kind:
            case "kill":
                self._down.add(name)
                if name in self.sandbox.processes:
                    self.sandbox.kill(name)
            case "stop":
                self.signal(name, signal.SIGSTOP)
            case "cut":
                self._proxies[name].refuse()
                self._proxies[name].cut(rng.choice([0.5, 1.0]), rng)
            case "freeze":
                self._proxies[name].freeze()
            case "delay":
                self._proxies[name].delay(rng.uniform(0.05, 0.5))
            case "repeat":
                self._proxies[name].repeat(rng)
            case "full":
                if name not in self.disks:
                    return False
                self._unwell.add(name)
                self.disks[name].fill()
        return True

    def end(self, fault: Fault) -> None:
        name = fault.victim
        match fault.kind:
            case "kill":
                self._down.discard(name)
                self._due.pop(name, None)
                self.start(name)
            case "stop":
                self.signal(name, signal.SIGCONT)
            case "cut":
                self._proxies[name].accept()
            case "freeze":
                self._proxies[name].thaw()
            case "delay":
                self._proxies[name].delay(0.0)
            case "full":
                self.disks[name].free()

    def recover(self) -> None:
        """No fault is left. A client whose disk was full forgets what is settled when it starts again."""
        for name in self._unwell & set(self.clients):
            if name in self.sandbox.processes:
                self.sandbox.kill(name)
                self.start(name)
        self.until(lambda: not self._due, "everybody to be up")

    # --- what is left --------------------------------------------------------------------------------

    def journals_empty(self) -> bool:
        return not any((self.directory / "clients").glob("*/journal/*.update"))

    def staged(self) -> list[str]:
        """Files without a name that somebody holds though nothing is under way."""
        held = []
        for name, process in self.sandbox.processes.items():
            for link in Path(f"/proc/{process.popen.pid}/fd").glob("*"):
                with suppress(OSError):
                    target = str(link.readlink())
                    if target.startswith(str(self.directory)) and target.endswith("(deleted)"):
                        held.append(f"{name} holds {target}")
        return held

    def temporary(self) -> Iterator[Path]:
        """Files that were begun and never finished. The model store sweeps its own after an hour."""
        yield from self.directory.rglob("*.tmp")
        for path in self.directory.rglob(".incoming-*"):
            if path.parent != self.directory / "reducer" / "models":
                yield path

    def processes_left(self) -> list[str]:
        """Whoever is still in a session that one of our processes led."""
        left = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) in self.pids and fields[0] != "Z":
                    left.append(f"process {stat.parent.name} was left behind")
        return left

    def _mount_disks(self, stack: ExitStack) -> None:
        places = {
            "reducer": self.directory / "reducer",
            self.combiners[0]: self.directory / self.combiners[0],
            self.clients[0]: self.directory / "clients" / self.clients[0] / "journal",
        }
        try:
            for name, path in places.items():
                self.disks[name] = Disk(path)
                stack.callback(self.disks[name].close)
        except OSError as error:
            self.no_disks = str(error).splitlines()[0]
