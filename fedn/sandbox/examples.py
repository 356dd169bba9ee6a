"""Examples that the sandbox runs: a compute package with two scripts beside it, and data for every client.

A folder is an example if it has a `fedn.yaml`, a `make_data.py` that writes ``client-1.…``, ``client-2.…``
for simulated clients, and a `seed.py` that writes the model to start from. Or it has a `run.py`, which does
everything itself on the network that it finds in its environment. `example.yaml` says how to run it; a
`report.py`, if there is one, is given the outcome. `fedn.cli.sandbox` calls these.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import fedn
from fedn.config import nearest, read_yaml
from fedn.domain.errors import FednError, InvalidConfig, InvalidInput
from fedn.domain.plan import plan_from
from fedn.packages.manifest import MANIFEST
from fedn.packages.packing import pack

ABOUT, MAKE_DATA, SEED, REPORT, RUN = "example.yaml", "make_data.py", "seed.py", "report.py", "run.py"
MODULES: Mapping[str, str] = {
    "keras": "keras", "torch": "torch", "sklearn": "sklearn", "plot": "matplotlib", "pandas": "pandas",
}  # fmt: skip
"""Of each extra that an example may ask for, the module that tells whether it is installed."""
CLIENTS, ROUNDS = 5, 10
LOG_LINES = 8


@dataclass(frozen=True, slots=True)
class Work:
    """What a sandbox trains: a model to start from and, unless its clients run an app, a package and data."""

    name: str
    seed: bytes
    plan: Mapping[str, Any] = field(default_factory=dict)
    package: bytes = b""
    data: tuple[Path, ...] = ()
    about: str = ""
    """What the data is, in a line."""


@dataclass(frozen=True, slots=True)
class Example:
    """An example's folder, and what its `example.yaml` says; see `find`."""

    folder: Path
    clients: int = CLIENTS
    rounds: int = ROUNDS
    extras: tuple[str, ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def runs_itself(self) -> bool:
        """Whether it has a `run.py`: then there is nothing to `prepare`."""
        return (self.folder / RUN).is_file()

    def check_installed(self) -> None:
        """Raise InvalidInput naming the extras that are not installed, and how to get them."""
        if missing := [extra for extra in self.extras if find_spec(MODULES[extra]) is None]:
            listed = ",".join(missing)
            remedy = f"`make sandbox EXAMPLE={self.name}` installs it, or pip install -e '.[{listed}]'"
            raise InvalidInput("--example", f"{self.name} needs {listed}, which is not installed", remedy)

    def prepare(self, clients: int, home: Path) -> Work:
        """Make data for ``clients`` and a seed model in ``home``, and pack the folder.

        Raises:
            InvalidInput: the folder is no package.
            FednError: a script failed, with the last lines that it printed.
        """
        self.check_installed()
        package = b"".join(pack(self.folder))
        home.mkdir(parents=True, exist_ok=True)
        seed = home / "seed.safetensors"
        printed = _run_all(self.folder, [(MAKE_DATA, str(clients), str(home)), (SEED, str(seed))])
        files = tuple(self._file(home, number) for number in range(1, clients + 1))
        about = (printed[0].splitlines() or [""])[-1]
        return Work(self.name, seed.read_bytes(), self.plan, package, files, about)

    @contextmanager
    def running(self, environ: Mapping[str, str], output: IO[Any], log: Path) -> Iterator[Script]:
        """Its `run.py` at work, with ``environ`` over the environment; it does not outlive the block.

        What it says on its standard error goes to ``log``.
        """
        self.check_installed()
        command = [sys.executable, str(self.folder / RUN)]
        environ = {**os.environ, **environ}
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environ
            ) as popen,
        ):
            try:
                yield Script(popen, self.folder / RUN, log)
            finally:
                popen.kill()

    def _file(self, home: Path, number: int) -> Path:
        found = sorted(home.glob(f"client-{number}.*"))
        if len(found) != 1:
            problem = f"made {len(found)} files for client {number}"
            raise InvalidInput(str(self.folder / MAKE_DATA), problem, f"write one client-{number}.…")
        return found[0].resolve()

    def tell(self, report: Mapping[str, Any], output: IO[Any]) -> None:
        """Have the example's own report written to ``output``, if it has one. Raises FednError."""
        if not (script := self.folder / REPORT).is_file():
            return
        done = subprocess.run(
            [sys.executable, str(script)], input=json.dumps(report), stdout=output, text=True, check=False
        )
        if done.returncode != 0:
            raise FednError(f"{script} ended with exit code {done.returncode}")


@dataclass(frozen=True, slots=True)
class Script:
    """An example's `run.py`, at work."""

    popen: subprocess.Popen[bytes]
    path: Path
    log: Path

    def check(self) -> None:
        """Raise FednError, with the last lines of its log, if it has failed."""
        if code := self.popen.poll():
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
            raise FednError(f"{self.path} ended with exit code {code}:\n{tail}")

    def wait(self) -> None:
        """Until it has ended. Raises FednError if it failed."""
        self.popen.wait()
        self.check()


def find(named: str) -> Example:
    """The example of that name in the source tree's examples/, or in a folder.

    Raises:
        InvalidInput: there is none, or it lacks a file; InvalidConfig: its `example.yaml` is wrong.
    """
    folder = _folder(named)
    for name in () if (folder / RUN).is_file() else (MANIFEST, MAKE_DATA, SEED):
        if not (folder / name).is_file():
            raise InvalidInput("--example", f"{folder} has no {name}", "see examples/README.md")
    file = folder / ABOUT
    said = read_yaml(file) if file.is_file() else {}
    known = ("clients", "extras", "plan", "rounds")
    for key in said:
        if key not in known:
            remedy = nearest(key, known) or f"known are {', '.join(known)}"
            raise InvalidConfig(key, f"is not known in {file}", remedy)
    return _checked(Example(folder, **said), file)


def _folder(named: str) -> Path:
    root = Path(fedn.__file__).parents[1] / "examples"
    there = sorted(file.parent.name for file in root.glob(f"*/{ABOUT}"))
    if named in there:
        return root / named
    if Path(named).is_dir():
        return Path(named).resolve()
    if not there:
        remedy = "they are in the source tree, in examples/: give the path of one's folder"
        raise InvalidInput("--example", f"{named!r} is no folder, and no examples are installed", remedy)
    remedy = nearest(named, there) or f"there are {', '.join(there)}"
    raise InvalidInput("--example", f"{named!r} is no example", f"{remedy}; or give a folder")


def _checked(example: Example, file: Path) -> Example:
    for key in ("clients", "rounds"):
        value = getattr(example, key)
        if type(value) is not int or value < 1:
            raise InvalidConfig(key, f"{value!r} is no number (in {file})", "give a whole number from 1 on")
    extras: object = example.extras
    if not isinstance(extras, list | tuple) or not all(extra in MODULES for extra in extras):
        remedy = f"give a list of some of {', '.join(MODULES)}"
        raise InvalidConfig("extras", f"{extras!r} are not known (in {file})", remedy)
    if not isinstance(example.plan, Mapping):
        raise InvalidConfig("plan", f"is no mapping (in {file})", "write lines of 'key: value'")
    plan_from(example.plan)
    return example


def _run_all(folder: Path, scripts: Sequence[tuple[str, ...]]) -> list[str]:
    """What each script printed; they run side by side. Raises FednError."""
    with ExitStack() as stack:
        started = [stack.enter_context(_running(folder, script)) for script in scripts]
        return [_ended(folder / script[0], popen) for script, popen in zip(scripts, started, strict=True)]


@contextmanager
def _running(folder: Path, script: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """A script that does not outlive the block."""
    pipe = subprocess.PIPE
    command = [sys.executable, *script]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
    ) as popen:
        try:
            yield popen
        finally:
            popen.kill()


def _ended(script: Path, popen: subprocess.Popen[str]) -> str:
    printed, complaint = popen.communicate()
    if popen.returncode != 0:
        tail = "\n".join(complaint.splitlines()[-LOG_LINES:])
        raise FednError(f"{script} ended with exit code {popen.returncode}:\n{tail}")
    return printed
