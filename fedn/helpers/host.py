"""What this process may say of itself and its machine: for people who look after a network.

Not more than that: no name, no address, no release of the system, which would help an attacker most.
"""

from __future__ import annotations

import os
import platform

import fedn
from fedn.domain.hosts import known
from fedn.domain.messages import Host


def this_host(runs: str = "") -> Host:
    """Versions, kind of system, processors and memory (bytes) that this process may use."""
    system = f"{platform.system()} {platform.machine()}".strip()
    return known(Host(fedn.__version__, platform.python_version(), system, _cpus(), _memory(), runs))


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


def _memory() -> int:
    """Of the machine; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
