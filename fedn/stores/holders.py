"""What a process is called as the holder of a lease: host/process/machine/birth; and whether it is dead.

Used by who takes `fedn.ports.Leadership`: the reducer, and `fedn.stores.copying`.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from uuid import uuid4


def own_name() -> str:
    """What this process is called as the holder of a lease; no other ever was or will be."""
    pid = os.getpid()
    return f"{socket.gethostname()}/{pid}/{_machine()}/{_birth(pid)[1] or uuid4().hex}"


def shown(holder: str) -> str:
    """A holder as people know it."""
    host, slash, rest = holder.partition("/")
    return f"on {host} (process {rest.partition('/')[0]})" if slash else holder


def is_dead(holder: str) -> bool:
    """Whether a holder was a process of this machine, and is none any more; False if that can't be seen."""
    parts = holder.split("/")
    if len(parts) != 4 or not parts[1].isdecimal() or parts[2] != _machine():
        return False
    pid = int(parts[1])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    state, birth = _birth(pid)
    return state in ("Z", "X") or bool(birth and birth != parts[3])


def _machine() -> str:
    """This boot of this machine, as far as process numbers mean the same; if unknown, never the same."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return uuid4().hex


def _birth(pid: int) -> tuple[str, str]:
    """A process's state, and when it began; both empty where that can't be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except OSError:
        return "", ""
    words = fields.split()
    return words[0], words[19]
