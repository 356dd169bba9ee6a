"""A port for a process that is killed and comes back to where it was."""

from __future__ import annotations

from contextlib import suppress
from random import SystemRandom

from fedn.domain.errors import InvalidInput
from fedn.sandbox.processes import free_port


def settled_port() -> int:
    """A free port that no outgoing connection will be given while its owner is down."""
    for _ in range(100):
        with suppress(InvalidInput):
            return free_port(SystemRandom().randrange(20_000, 32_000))
    raise OSError("no free port from 20000 to 32000")
