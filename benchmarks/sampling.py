"""Peak memory and processor time of other processes, from /proc.

Anonymous resident memory (RssAnon in /proc/PID/status, what smaps_rollup calls Anonymous): what a
process can't give back. Pages of files, also of unlinked temporary ones, belong to the file cache.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

EVERY_SECONDS = 0.005


def anonymous_bytes(pid: int) -> int:
    """Anonymous resident memory of a process; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next(
        (int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:")), 0
    )


def processor_seconds(pids: Sequence[int]) -> float:
    """User and system time of these processes so far. Steadier than the clock where others run too."""
    ticks = 0
    for pid in pids:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(after_name[11]) + int(after_name[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Peaks:
    """The most that each process held while the block ran. Use as a context manager."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.peaks = dict.fromkeys(pids, 0)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(EVERY_SECONDS):
            for pid, peak in self.peaks.items():
                self.peaks[pid] = max(peak, anonymous_bytes(pid))
