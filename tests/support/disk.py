"""A disk that can be full: a file system of its own. Mounting it takes a privilege."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOMY = 2 * 2**30
TRIES = 20


class Disk:
    """A tmpfs at ``path``. Use as a context manager; in the end the directory itself has what was on it.

    Raises OSError where mounting is not permitted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "fedn-test", str(path))

    def __enter__(self) -> Disk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fill(self) -> None:
        """Not one byte more: as large as what is on it. Raises OSError if that grows too fast."""
        for tries_left in reversed(range(TRIES)):
            room = os.statvfs(self.path)
            used = max(1, room.f_blocks - room.f_bfree)  # 0 would mean no limit
            try:
                self._resize(used * room.f_frsize)
                break
            except OSError:  # more was written between looking and resizing
                if not tries_left:
                    raise
        with (self.path / "filler").open("wb", buffering=0) as filler:
            try:
                while filler.write(bytes(65536)):
                    pass
            except OSError:
                pass  # as it should be

    def make_room(self) -> None:
        self._resize(ROOMY)
        (self.path / "filler").unlink()

    def freeze(self) -> None:
        """Nobody can write to it any more."""
        _run("mount", "-o", "remount,ro", str(self.path))

    def close(self) -> None:
        """Unmount it, even if what is on it can't be kept."""
        copy = self.path.with_name(f"{self.path.name}.copy")
        try:
            shutil.copytree(self.path, copy)
        finally:
            _run("umount", str(self.path))
        self.path.rmdir()
        copy.rename(self.path)

    def _resize(self, size: int) -> None:
        _run("mount", "-o", f"remount,size={size}", str(self.path))


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())
