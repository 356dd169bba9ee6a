"""An environment of its own for a package that names requirements: made once, kept by what it holds.

It is a virtual environment in which the client's own libraries are visible behind those that the package
asked for. Only wheels are installed, so that nothing of a requirement runs while it is installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fedn.domain.errors import InvalidInput, Unavailable
from fedn.domain.ids import Digest, digest_of
from fedn.stores.disk import disk_errors, make_directory, write_durably

INSTALL_SECONDS = 1800.0
UNUSED_SECONDS = 30 * 86_400.0
"""An environment that nobody asked for in so long is removed when the next one is made."""
MAX_LOG_BYTES, TAIL_LINES, LINE_LETTERS = 2**20, 8, 300

_READY = "ready.json"
_PIP = ("-m", "pip", "install", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check",
        "--no-color", "--progress-bar", "off")  # fmt: skip


def environment(
    requirements: Sequence[str],
    cache: Path,
    say: Callable[[str], None],
    seconds: float = INSTALL_SECONDS,
) -> Path:
    """The Python of an environment that has ``requirements``; made in ``cache`` if it is not there.

    ``say`` hears in a sentence what takes so long. What the installer printed, up to 1 MiB, lies beside the
    environment as a .log. One process makes it at a time, others wait for it, all for at most ``seconds``.

    Raises:
        InvalidInput: naming the requirement that can't be installed, with the installer's last lines.
        Unavailable: it took too long.
        StoreUnavailable: ``cache`` can't be written.
    """
    wanted = tuple(sorted(set(requirements)))
    root = cache.absolute() / _digest(wanted)[:32]
    make_directory(cache.absolute())
    with _locked(root, seconds), disk_errors(cache):
        if not (root / _READY).is_file():
            _make(root, wanted, say, time.monotonic() + seconds)
            _remove_unused(cache)
        os.utime(root / _READY)
    return _python(root)


@contextmanager
def _locked(root: Path, seconds: float) -> Iterator[None]:
    try:
        held = FileLock(root.with_suffix(".lock")).acquire(seconds, poll_interval=0.2)
    except Timeout:
        raise Unavailable(f"another process still makes the environment {root}; try again later") from None
    with held:
        yield


def _digest(wanted: tuple[str, ...]) -> Digest:
    """What tells environments apart: what they hold, and which Python with which libraries is behind them."""
    return digest_of(json.dumps([wanted, sys.version, sys.prefix, _own_libraries()]).encode())


def _own_libraries() -> list[str]:
    """Folders of installed packages that this process finds, in its order."""
    return list(dict.fromkeys(p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")))


def _python(root: Path) -> Path:
    return root / "bin" / "python"


def _make(root: Path, wanted: tuple[str, ...], say: Callable[[str], None], until: float) -> None:
    """Make it in its place, since scripts in it know where they lie. Only at the end it is marked ready."""
    shutil.rmtree(root, ignore_errors=True)
    log = Log(root.with_suffix(".log"))
    say(f"making an environment for {', '.join(wanted)}; this takes a while, once")
    try:
        problem = log.run([sys.executable, "-m", "venv", str(root)], until)
        if not problem:
            problem = log.run([str(_python(root)), *_PIP, *wanted], until)
        if problem:
            raise _refused(wanted, problem, log)
        _show_own_libraries(root)
        write_durably(root / _READY, [json.dumps({"requirements": wanted}).encode()])
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    say("the environment is ready")


def _show_own_libraries(root: Path) -> None:
    """As a .pth file, which Python reads last: what the environment has itself comes first."""
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(root), "platbase": str(root)}))
    lines = [f"import site; site.addsitedir({path!r})\n" for path in _own_libraries()]
    (site / "zz_fedn_client.pth").write_text("".join(lines), encoding="utf-8")


def _refused(wanted: tuple[str, ...], problem: str, log: Log) -> InvalidInput:
    blamed = [text for text in wanted if canonicalize_name(Requirement(text).name) in log.names()]
    which = ", ".join(blamed or wanted)
    said = " / ".join(log.tail) or "it said nothing"
    return InvalidInput(f"requirements: {which}", f"{problem}: {said}", f"the whole log is {log.path}")


def _remove_unused(cache: Path) -> None:
    oldest = time.time() - UNUSED_SECONDS
    for ready in cache.glob(f"*/{_READY}"):
        with suppress(Timeout), FileLock(ready.parent.with_suffix(".lock")).acquire(0):
            if ready.stat().st_mtime < oldest:
                ready.unlink()  # first: without it the rest counts for nothing
                shutil.rmtree(ready.parent, ignore_errors=True)


class Log:
    """Runs commands and keeps what they print: the beginning in a file, the last lines here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._room = MAX_LOG_BYTES
        path.write_bytes(b"")

    def run(self, command: Sequence[str], until: float) -> str:
        """'' if it succeeded, else what went wrong. Raises Unavailable after ``until`` on the clock."""
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=_surroundings(), cwd=self.path.parent, start_new_session=True,
        )  # fmt: skip
        late = threading.Event()

        def stop() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(max(0.0, until - time.monotonic()), stop)
        timer.daemon = True
        timer.start()
        try:
            self._keep(process)
            code = process.wait()
        finally:
            timer.cancel()
            _kill(process)
        if late.is_set():
            raise Unavailable(f"the environment was not ready in time; the log so far is {self.path}")
        return f"the installer failed with exit code {code}" if code else ""

    def names(self) -> set[str]:
        """Words of the last lines, as names of packages."""
        words = re.findall(r"[A-Za-z0-9][A-Za-z0-9._-]*", " ".join(self.tail))
        return {canonicalize_name(word.rstrip("._-")) for word in words}

    def _keep(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout, self.path.open("ab") as file:
            while line := process.stdout.readline(MAX_LOG_BYTES):
                file.write(line[: self._room])
                self._room -= min(len(line), self._room)
                if text := "".join(c for c in line.decode("utf-8", "replace").strip() if c.isprintable()):
                    self.tail.append(text[:LINE_LETTERS])


def _kill(process: subprocess.Popen[bytes]) -> None:
    """It, and whatever it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _surroundings() -> Mapping[str, str]:
    """What an installer needs to know, such as proxies and its own settings; nothing of ours."""
    ours = ("FEDN_", "PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
