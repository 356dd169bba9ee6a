"""What a task leaves in a worker's folder, which is its HOME and TMPDIR, goes before the next task comes.

What stays, and why that is right: files that startup() left, since they are the worker's own as its memory
is, which also goes on from task to task; folders, sockets and pipes, since libraries make them once in a
process and count on them, as Python's multiprocessing does with the socket by which its processes hand each
other data. They hold no bytes, and their number is bounded. The worker may be at work in there meanwhile, so
no path is followed twice: everything goes by descriptors.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

MAX_ENTRIES = 10_000
MAX_BYTES = 4 * 2**30
MAX_DEEP = 32
TOO_MUCH = f"more than {MAX_ENTRIES} files or {MAX_BYTES} bytes, or what can't be removed"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def files_in(folder: Path) -> frozenset[str] | None:
    """The files in a folder, by their paths in it; None if they are more than may stay."""
    return _swept(folder, None)


def clear(folder: Path, kept: frozenset[str]) -> bool:
    """Remove all files but those in ``kept``; False if that can't be done, or too much would remain."""
    return _swept(folder, kept) is not None


def _swept(folder: Path, kept: frozenset[str] | None) -> frozenset[str] | None:
    sweep = _Sweep(kept)
    try:
        at = os.open(folder, _FOLDER)
        try:
            sweep.folder(at, "", 0)
        finally:
            os.close(at)
    except OSError:
        return None
    return frozenset(sweep.stay)


class _Sweep:
    """One walk. ``kept`` are the files that stay; None for all. OSError ends it."""

    def __init__(self, kept: frozenset[str] | None) -> None:
        self._kept = kept
        self.stay: list[str] = []
        self._entries = self._bytes = 0

    def folder(self, at: int, path: str, deep: int) -> None:
        with os.scandir(at) as entries:
            for entry in entries:
                self._count(entries=1)
                if not entry.is_dir(follow_symlinks=False):
                    self._file(at, entry.name, path + entry.name)
                elif deep < MAX_DEEP:
                    below = os.open(entry.name, _FOLDER, dir_fd=at)
                    try:
                        self.folder(below, f"{path}{entry.name}/", deep + 1)
                    finally:
                        os.close(below)
                else:
                    raise OSError(TOO_MUCH)

    def _file(self, at: int, name: str, path: str) -> None:
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
        if stat.S_ISSOCK(found.st_mode) or stat.S_ISFIFO(found.st_mode):
            return
        if self._kept is None or path in self._kept:
            self._count(size=found.st_blocks * 512)
            self.stay.append(path)
        else:
            os.unlink(name, dir_fd=at)

    def _count(self, entries: int = 0, size: int = 0) -> None:
        self._entries += entries
        self._bytes += size
        if self._entries > MAX_ENTRIES or self._bytes > MAX_BYTES:
            raise OSError(TOO_MUCH)
