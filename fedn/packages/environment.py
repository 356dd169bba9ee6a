"""An environment of its own for a package that names requirements: made once, kept by what it holds.

It is a virtual environment in which the client's own libraries are visible behind those that the package
asked for. Only wheels are installed, so that nothing of a requirement runs while it is installed. `kept`
bounds what all of them take; who asks says how commands are run (`Installer`), and can end them.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fedn.domain.errors import InvalidInput, Unavailable
from fedn.domain.ids import Digest, digest_of
from fedn.packages import kept
from fedn.stores.disk import disk_errors, make_directory, write_durably

INSTALL_SECONDS = 1800.0
LOOK_SECONDS = 2.0
"""How often it is looked at what an installation takes on disk."""
TAIL_LINES, LINE_LETTERS, TAIL_BYTES = 8, 300, 4096
SCARCE_BYTES = 2**20
"""Less room than this, and whatever went wrong went wrong for want of it."""

_PIP = ("-m", "pip", "install", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check",
        "--no-color", "--progress-bar", "off")  # fmt: skip
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))


class Ended(Protocol):
    """How a command ended; ``words`` is the end of a sentence about it."""

    @property
    def status(self) -> int | None: ...
    @property
    def words(self) -> str: ...


class Running(Protocol):
    """A command under way."""

    def wait(self, seconds: float) -> Ended | None:
        """How it ended, if it does within so many seconds."""


class Installer(Protocol):
    """Runs what makes an environment, so that whoever wants it can end it."""

    def check(self) -> None:
        """Raise if nobody wants the environment any more."""

    def begin(self) -> None:
        """Told before anything is fetched; what it raises keeps that from happening."""

    def running(
        self, command: Sequence[str], variables: Mapping[str, str], log: Path
    ) -> AbstractContextManager[Running]:
        """A command, beside ``log``, which takes its output; nothing of it is left after the block.

        Raises as `check` does.
        """


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment that stays until it is closed, or the process ends."""

    python: Path
    _hold: int

    def close(self) -> None:
        os.close(self._hold)


def environment(
    requirements: Sequence[str],
    cache: Path,
    say: Callable[[str], None],
    installer: Installer,
    seconds: float = INSTALL_SECONDS,
    most: int = kept.MOST_BYTES,
) -> Environment:
    """An environment that has ``requirements``; made in ``cache`` if it is not there. To be closed.

    ``say`` hears in a sentence what takes so long. What the installer printed last, up to 1 MiB, lies beside
    the environment as a .log. One process makes it at a time, others wait, all for at most ``seconds``.
    Those in ``cache`` take at most ``most`` bytes: the least recently used that nobody has open go.

    Raises:
        InvalidInput: naming the requirement that can't be installed, with the installer's last lines; or
            there is no room for it in ``most`` bytes. And what ``installer`` raises.
        Unavailable: it took too long.
        StoreUnavailable: ``cache`` can't be written, or its disk is full.
    """
    wanted = tuple(sorted(set(requirements)))
    root = cache.absolute() / _digest(wanted)[:32]
    make_directory(cache.absolute())
    until = time.monotonic() + seconds
    with kept.locked(root, seconds, installer.check), disk_errors(cache):
        if not (root / kept.READY).is_file():
            say(f"making an environment for {', '.join(wanted)}; this takes a while, once")
            _Making(root, wanted, installer, until, most).make()
            say("the environment is ready")
        return Environment(_python(root), kept.hold(root))


def _digest(wanted: tuple[str, ...]) -> Digest:
    """What tells environments apart: what they hold, and which Python with which libraries is behind them."""
    return digest_of(json.dumps([wanted, sys.version, sys.prefix, _own_libraries()]).encode())


def _own_libraries() -> list[str]:
    """Folders of installed packages that this process finds, in its order."""
    return list(dict.fromkeys(p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")))


def _python(root: Path) -> Path:
    return root / "bin" / "python"


class _Making:
    """One environment on its way."""

    def __init__(
        self, root: Path, wanted: tuple[str, ...], installer: Installer, until: float, most: int
    ) -> None:
        self._root = root
        self._wanted = wanted
        self._installer = installer
        self._until = until
        self._most = most
        self._log = root.with_suffix(".log")
        self._aside = root / "tmp"

    def make(self) -> None:
        """Make it in its place, since scripts in it know where they lie; at the end it is marked ready."""
        shutil.rmtree(self._root, ignore_errors=True)
        kept.remove_log(self._log)
        try:
            self._aside.mkdir(parents=True)
            self._look()
            self._run([sys.executable, "-m", "venv", str(self._root)])
            self._installer.begin()
            self._run([str(_python(self._root)), *_PIP, *self._wanted])
            shutil.rmtree(self._aside)
            _show_own_libraries(self._root)
            told = {"requirements": self._wanted, "bytes": self._look()}
            write_durably(self._root / kept.READY, [json.dumps(told).encode()])
        except BaseException:
            shutil.rmtree(self._root, ignore_errors=True)
            raise

    def _run(self, command: Sequence[str]) -> None:
        with self._installer.running(command, _surroundings(self._aside), self._log) as running:
            while (ended := running.wait(min(LOOK_SECONDS, self._left()))) is None:
                if not self._left():
                    raise Unavailable(f"the environment was not ready in time; the log so far is {self._log}")
                self._look()
        if ended.status != 0:
            raise self._failed(ended.words)

    def _left(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def _look(self) -> int:
        """Bytes that it takes so far; others make room for them. Raises InvalidInput if that can't be."""
        size = kept.size_of(self._root)
        if size + kept.make_room(self._root.parent, self._most - size, besides=self._root) > self._most:
            problem = f"take more than there is room for: {self._most} bytes for the environments of packages"
            raise InvalidInput(f"requirements: {', '.join(self._wanted)}", problem)
        return size

    def _failed(self, how: str) -> Exception:
        tail = _tail(self._log)
        if any(words in line for line in tail for words in _FULL) or _scarce(self._root.parent):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        names = _names(tail)
        blamed = [text for text in self._wanted if canonicalize_name(Requirement(text).name) in names]
        said = " / ".join(tail) or "it said nothing"
        field = f"requirements: {', '.join(blamed or self._wanted)}"
        return InvalidInput(field, f"the installer {how}: {said}", f"the whole log is {self._log}")


def _show_own_libraries(root: Path) -> None:
    """As a .pth file, which Python reads last: what the environment has itself comes first."""
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(root), "platbase": str(root)}))
    lines = [f"import site; site.addsitedir({path!r})\n" for path in _own_libraries()]
    (site / "zz_fedn_client.pth").write_text("".join(lines), encoding="utf-8")


def _tail(log: Path) -> list[str]:
    """The last lines of a log, without what can't be printed."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    lines = ("".join(c for c in line.strip() if c.isprintable()) for line in text.splitlines())
    return [line[:LINE_LETTERS] for line in lines if line][-TAIL_LINES:]


def _names(lines: Sequence[str]) -> set[str]:
    """Words of these lines, as names of packages."""
    words = re.findall(r"[A-Za-z0-9][A-Za-z0-9._-]*", " ".join(lines))
    return {canonicalize_name(word.rstrip("._-")) for word in words}


def _scarce(folder: Path) -> bool:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < SCARCE_BYTES


def _surroundings(aside: Path) -> Mapping[str, str]:
    """What an installer needs to know, such as proxies and its own settings; nothing of ours.

    What it writes aside is where the environment is, and goes with it.
    """
    ours = ("FEDN_", "PYTHON", "VIRTUAL_ENV")
    mine = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**mine, "TMPDIR": str(aside)}
