"""What all processes below this one take together, as /proc tells it (Linux; nowhere else is it known).

A keeper asks: it is the parent of what it keeps, and of whatever that leaves behind. Limits of the kernel's
own (`confine.limit`) hold for each process, or for all that a user runs, so they do not see a crowd.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

MAX_PROCESSES = 1024
MAX_THREADS = 16_384


@cache
def known() -> bool:
    """Whether this system tells which processes another one has started."""
    return Path(f"/proc/self/task/{os.getpid()}/children").exists()


def excess(memory: int) -> str:
    """What is too much: 'processes', or 'memory' if it is more than so many bytes (0: any); else ''."""
    pids, whole = _below()
    if not whole:
        return "processes"
    if memory and sum(map(_own, pids)) > memory and sum(map(_share, pids)) > memory:
        return "memory"
    return ""


def members() -> list[int]:
    """The processes below this one; of too many some. Empty where it is not known."""
    return _below()[0]


def _below() -> tuple[list[int], bool]:
    """Those below this process, and whether they are all there: beyond the limits nobody looks."""
    pids: list[int] = []
    visited = threads = 0
    at = os.getpid()
    while len(pids) <= MAX_PROCESSES:
        with suppress(OSError):  # it has ended
            for thread in Path(f"/proc/{at}/task").iterdir():
                threads += 1
                pids += _children(thread)
                if threads > MAX_THREADS:
                    return pids, False
        pids = list(dict.fromkeys(pids))
        if visited == len(pids):
            return pids, True
        at = pids[visited]
        visited += 1
    return pids, False


def _children(thread: Path) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in (thread / "children").read_text().split()]
    return []


def _own(pid: int) -> int:
    """Bytes that a process has in memory or swap, and in no file; what several share counts for each."""
    return _told(f"/proc/{pid}/status", ("RssAnon", "RssShmem", "VmSwap")) or 0


def _share(pid: int) -> int:
    """The same, each page divided by how many share it; takes longer to tell."""
    share = _told(f"/proc/{pid}/smaps_rollup", ("Pss_Anon", "Pss_Shmem", "SwapPss"))
    return _own(pid) if share is None else share


def _told(path: str, names: Sequence[str]) -> int | None:
    """The sum of these lines of a file, in bytes; None if it has not got the first of them."""
    with suppress(OSError, ValueError, IndexError):
        lines = (line.partition(":") for line in Path(path).read_text().splitlines())
        values = {name: value for name, _, value in lines if name in names}
        if names[0] in values:
            return sum(int(value.split()[0]) for value in values.values()) * 1024
    return None
