"""How much of its machine a client's training may use: set once, and inherited by all that it starts."""

from __future__ import annotations

import logging
import os
import resource
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

log = logging.getLogger("fedn.client")

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
           "TF_NUM_INTRAOP_THREADS")  # fmt: skip
"""What numerical libraries read when they are loaded; a value that is there stays."""


def limit_cpus(most: int, client: str) -> None:
    """Keep this process, all its threads and whatever it starts to ``most`` processors; 0 for no limit.

    Which ones is drawn from ``client``, so that several clients of a machine don't share the same few.
    """
    if not most:
        return
    for name in THREADS:
        os.environ.setdefault(name, str(most))
    if not hasattr(os, "sched_setaffinity"):
        log.warning("cpus: this system can't keep a process to some processors; threads are limited alone")
        return
    chosen = choose(sorted(os.sched_getaffinity(0)), most, client)
    for task in Path("/proc/self/task").iterdir():  # libraries have threads already
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), chosen)


def choose(cpus: list[int], most: int, client: str) -> list[int]:
    """At most ``most`` of ``cpus``, next to each other from where ``client`` falls."""
    first = int.from_bytes(sha256(client.encode()).digest()[:4], "big") % len(cpus)
    return [*cpus[first:], *cpus[:first]][:most]


def limit_memory(most: int) -> None:
    """Let this process have ``most`` bytes of memory of its own, beyond which it gets no more; 0 for any."""
    if most:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
