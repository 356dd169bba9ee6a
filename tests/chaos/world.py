"""A federation of real processes with links and disks that can be broken, and everybody's supervisor.

`schedule` says what to break, `lanes` keeps sessions going, `audit` judges what came out.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from random import Random

sys.path.append(str(Path(__file__).parents[1] / "support"))  # for a start as a script

from disk import Disk
from ports import settled_port
from proxy import Proxy
from schedule import Fault

from fedn.sandbox.processes import HOST, Sandbox

HERE = Path(__file__).parent
CERTIFICATE_SECONDS = 60
"""Short enough that certificates are renewed, and end, amid the faults."""


def names(tier: str, count: int) -> list[str]:
    return [f"{tier}-{n + 1}" for n in range(count)]


class World:
    """Use as a context manager; `begin` faults and end them, and call `supervise` often in between.

    With ``homes`` every client prefers a combiner; ``patience`` bounds every wait. With ``tls`` it is a
    network of its own, whose certificates last a minute.
    """

    def __init__(
        self, directory: Path, combiners: int, clients: int, mutation: str, homes: bool, patience: float,
        tls: bool = False,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.patience = patience
        self.combiners, self.clients = names("combiner", combiners), names("client", clients)
        self.deaths: list[str] = []
        self.pids: set[int] = set()
        self.disks: dict[str, Disk] = {}
        self.no_disks = ""
        self.clients_killed = 0
        launcher = [sys.executable, str(HERE / "launch.py"), str(directory / "notes"), mutation]
        self.sandbox = Sandbox(directory, 0, clients, settled_port(), f"{HERE / 'app.py'}:app", tls)
        self.sandbox.program = lambda name: launcher
        self._homes = homes
        self._ports = {name: settled_port() for name in self.combiners}
        self._proxies: dict[str, Proxy] = {}
        self._due: dict[str, float] = {}
        self._unwell: set[str] = set()
        self._stack = ExitStack()

    def __enter__(self) -> World:
        with ExitStack() as stack:
            self._mount_disks(stack)
            for name, port in {"reducer": self.sandbox.port, **self._ports}.items():
                self._proxies[name] = stack.enter_context(Proxy(f"{HOST}:{port}"))
            stack.callback(self.sandbox.stop)
            for name in ["reducer", *self.combiners, *self.clients]:
                self.start(name)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def network(self) -> Path | None:
        """The folder of its network, if it has one."""
        return self.sandbox.secured.network if self.sandbox.tls else None

    # --- processes -----------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start it, with the addresses and the directories that it had."""
        scheme = "https" if self.sandbox.tls else "http"
        reducer = f"--reducer={scheme}://{self._proxies['reducer'].address}"
        if name == "reducer":
            process = self.sandbox.start_reducer(f"--certificate-hours={CERTIFICATE_SECONDS / 3600}")
        elif name in self._ports:
            where = (f"--port={self._ports[name]}", f"--advertise={self._proxies[name].address}")
            process = self.sandbox.start_combiner(name, *where, reducer)
        else:
            index = self.clients.index(name)
            home = self.combiners[index % len(self.combiners)]
            flags = (f"--combiner={home}",) if self._homes else ()
            process = self.sandbox.start_client(index, reducer, *flags)
        self.pids.add(process.popen.pid)

    def signal(self, name: str, number: signal.Signals) -> bool:
        """False if it is dead already; `supervise` sees to that."""
        process = self.sandbox.processes.get(name)
        if process is None or process.popen.poll() is not None:
            return False
        process.popen.send_signal(number)
        return True

    def kill(self, name: str) -> bool:
        if alive := self.signal(name, signal.SIGKILL):
            self.sandbox.kill(name)
            self.clients_killed += name in self.clients
        return alive

    def supervise(self) -> None:
        """Start again, a moment later, whatever ended by itself; nothing should but on a full disk."""
        for name, process in list(self.sandbox.processes.items()):
            code = process.popen.poll()
            if code is not None:
                if name not in self._unwell:
                    self.deaths.append(f"{name} ended by itself with exit code {code}:\n{process.tail()}")
                self.sandbox.kill(name)
                self._due[name] = time.monotonic() + 0.5
        for name in [n for n, due in self._due.items() if due <= time.monotonic()]:
            del self._due[name]
            self.start(name)

    def until(self, ready: Callable[[], object], what: str, patience: float = 0.0) -> None:
        """Wait for ``ready`` to be true, whatever ends meanwhile."""
        patience = patience or self.patience
        deadline = time.monotonic() + patience
        while not ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {patience:g} s in vain for {what}")
            self.supervise()
            time.sleep(0.02)

    def log(self, name: str) -> str:
        return (self.directory / "logs" / f"{name}.log").read_text(errors="replace")

    # --- faults --------------------------------------------------------------------------------------

    def begin(self, fault: Fault, rng: Random) -> Callable[[], object] | None:
        """Make it; what is returned ends it. None: the victim is dead, said nothing yet, or has no disk."""
        name = fault.victim
        proxy, disk = self._proxies.get(name), self.disks.get(name)
        match fault.kind:
            case "kill" if self.kill(name):
                return partial(self.start, name)
            case "stop" if self.signal(name, signal.SIGSTOP):
                return partial(self.signal, name, signal.SIGCONT)
            case "cut" if proxy:
                proxy.refuse()
                proxy.cut(rng.choice([0.5, 1.0]), rng)
                return proxy.accept
            case "freeze" if proxy:
                proxy.freeze()
                return proxy.thaw
            case "delay" if proxy:
                proxy.delay(rng.uniform(0.05, 0.5))
                return partial(proxy.delay, 0.0)
            case "repeat" if proxy and proxy.repeat(rng):
                return lambda: None  # it ends by itself
            case "full" if disk:
                self._unwell.add(name)
                disk.fill()
                return disk.make_room
        return None

    def recover(self) -> None:
        """No fault is left. A client whose disk was full forgets what is settled when it starts again."""
        for name in self._unwell & set(self.clients):
            if self.kill(name):
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

    def temporary(self) -> list[str]:
        """Files that were begun and never finished. The model store sweeps its own after an hour."""
        store = self.directory / "reducer" / "models"
        begun = [*self.directory.rglob("*.tmp"), *self.directory.rglob(".incoming-*")]
        return [str(path) for path in begun if path.parent != store]

    def processes_left(self) -> list[str]:
        """Whoever is still in a session that one of our processes led."""
        left = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) in self.pids and fields[0] != "Z":
                    left.append(f"process {stat.parent.name}")
        return left

    def _mount_disks(self, stack: ExitStack) -> None:
        places = {
            "reducer": self.directory / "reducer",
            self.combiners[0]: self.directory / self.combiners[0],
            self.clients[0]: self.directory / "clients" / self.clients[0] / "journal",
        }
        try:
            for name, path in places.items():
                self.disks[name] = stack.enter_context(Disk(path))
        except OSError as error:
            self.no_disks = str(error).splitlines()[0]
