"""A file that says that a reducer stands by, while it does: health checks look at it, since no port is open.

`leading.py` hangs it out and takes it down, `fedn health --standby` reads it. One that was left behind by a
killed process is soon too old to be believed.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

FRESH_SECONDS = 15.0
"""It is written each second, unless the state store keeps us waiting."""
WORDS_BYTES = 1000

log = logging.getLogger("fedn.reducer")


class StandbySign:
    """The file at ``path``; none if that is empty."""

    def __init__(self, path: str = "") -> None:
        self._path = Path(path) if path else None
        self._failed = False

    def hang_out(self, words: str) -> None:
        """Say in it, as of now, why this reducer stands by. One that can't be written is told of once."""
        if self._path is None:
            return
        try:
            written = self._path.with_name(f"{self._path.name}.new")
            written.write_text(words, encoding="utf-8")
            written.replace(self._path)
        except OSError as error:
            if not self._failed:
                log.warning("standby_file %s can't be written: %s", self._path, error.strerror)
            self._failed = True

    def take_down(self) -> None:
        with suppress(OSError):
            if self._path is not None:
                self._path.unlink()


def read_sign(path: Path) -> str:
    """Why a reducer stands by, if it said so just now; else ''."""
    try:
        age = time.time() - path.stat().st_mtime
        with path.open("rb") as file:
            words = file.read(WORDS_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
    return words if abs(age) < FRESH_SECONDS else ""
