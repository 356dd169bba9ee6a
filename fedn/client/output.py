"""What user code prints, kept on this machine: the last of it, in two files of half a megabyte.

`keeper` writes it, several processes perhaps to the same file; `tail` is for people.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

KEPT_BYTES = 2**20
"""Of one log, older and newer half together."""
TAIL_BYTES = 4096


class Output:
    """A log that forgets its older half when it is full. What can't be written is dropped."""

    def __init__(self, path: Path, most: int = KEPT_BYTES) -> None:
        self._path = path
        self._half = most // 2
        self._file = -1

    def write(self, data: bytes) -> None:
        """Append; of more than fits, the end stays."""
        with suppress(OSError):  # a full disk must not stop what is being kept
            self._open()
            if os.fstat(self._file).st_size + len(data) > self._half:
                self._path.replace(older(self._path))
                self._open()
            os.write(self._file, data[-self._half :])

    def _open(self) -> None:
        """Anew if another process has moved the file away meanwhile."""
        if self._file >= 0:
            with suppress(FileNotFoundError):
                if self._path.stat().st_ino == os.fstat(self._file).st_ino:
                    return
            os.close(self._file)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def older(path: Path) -> Path:
    """Where the older half of a log lies."""
    return path.with_name(path.name + ".1")


def tail(path: Path, most: int = TAIL_BYTES) -> str:
    """The last ``most`` bytes of a log as text; '' if there is none."""
    data = b""
    for half in (path, older(path)):
        with suppress(OSError), half.open("rb") as file:
            file.seek(max(0, half.stat().st_size - most + len(data)))
            data = file.read(most - len(data)) + data
        if len(data) >= most:
            break
    return data.decode("utf-8", "replace")
