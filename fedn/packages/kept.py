"""How much the environments of packages may take on disk: who is used least goes, who is at work never.

`environment` makes them. Several processes may share a cache; what one of them holds, none of them removes.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fedn.domain.errors import Unavailable

READY = "ready.json"
"""In each environment that is whole; its time is when the environment was last asked for."""
MOST_BYTES = 20 * 2**30
UNUSED_SECONDS = 30 * 86_400.0
"""An environment that nobody asked for in so long is removed when the next one is made."""
MAX_LOGS = 32
"""Of environments that could not be made, or are not there any more."""
_POLL_SECONDS = 0.2


@contextmanager
def locked(root: Path, seconds: float, check: Callable[[], None]) -> Iterator[None]:
    """While one process makes or removes the environment, others wait, for as long as ``check`` lets them.

    Raises Unavailable after ``seconds``, and what ``check`` does.
    """
    lock, until = FileLock(root.with_suffix(".lock")), time.monotonic() + seconds
    while not lock.is_locked:
        check()
        with suppress(Timeout):
            lock.acquire(min(_POLL_SECONDS, max(0.0, until - time.monotonic())))
        if not lock.is_locked and time.monotonic() >= until:
            raise Unavailable(f"another process still makes the environment {root}; try again later")
    try:
        yield
    finally:
        lock.release()


def hold(root: Path) -> int:
    """A descriptor: until it is closed, or this process ends, nobody removes the environment."""
    file = os.open(root / READY, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.utime(root / READY)
        fcntl.flock(file, fcntl.LOCK_SH)
    except BaseException:
        os.close(file)
        raise
    return file


def make_room(cache: Path, most: int, besides: Path) -> int:
    """Remove the least recently used until the rest takes ``most`` bytes; what it still takes.

    What is long unused goes anyway, and what a process that was killed left half made. The environment
    ``besides`` is not looked at.
    """
    others = sorted((path for path in cache.iterdir() if path.is_dir() and path != besides), key=_used)
    oldest = time.time() - UNUSED_SECONDS
    sizes = {path: size_of(path) for path in others}
    in_vain = sum(size for path, size in sizes.items() if _held(path)) > most  # whatever else went
    for path in others:
        unwanted = (sum(sizes.values()) > most and not in_vain) or _used(path) < oldest
        if unwanted and _remove(path):
            del sizes[path]
    _remove_logs(cache)
    return sum(sizes.values())


def size_of(root: Path) -> int:
    """Bytes that an environment takes: as noted in it, or counted while it is being made."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return int(json.loads((root / READY).read_bytes())["bytes"])
    size, folders = 0, [root]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as found:
            for entry in found:
                size += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
    return size


def _used(root: Path) -> float:
    """When it was last asked for; 0 for one that is not whole."""
    with suppress(OSError):
        return (root / READY).stat().st_mtime
    return 0.0


def _remove(root: Path) -> bool:
    """Whether it is gone; not if it is being made, or somebody holds it."""
    with suppress(Timeout), FileLock(root.with_suffix(".lock")).acquire(0):
        if not _held(root):
            (root / READY).unlink(missing_ok=True)  # first: without it the rest counts for nothing
            shutil.rmtree(root, ignore_errors=True)
            return True
    return False


def _held(root: Path) -> bool:
    try:
        file = os.open(root / READY, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _remove_logs(cache: Path) -> None:
    with suppress(FileNotFoundError):  # another process is at it, too
        logs = [path for path in cache.glob("*.log") if not path.with_suffix("").is_dir()]
        for path in sorted(logs, key=lambda log: log.stat().st_mtime)[:-MAX_LOGS]:
            remove_log(path)


def remove_log(path: Path) -> None:
    """A log, and the older half of it."""
    for half in path.parent.glob(f"{path.name}*"):
        half.unlink(missing_ok=True)
