"""How long a client waits before it tries again."""

from __future__ import annotations

import random

FIRST = 0.1
MOST = 5.0
_DOUBLINGS = 10
"""More make no difference, and a thousand would overflow."""


def backoff(attempt: int) -> float:
    """Seconds to wait before try ``attempt`` + 1: doubling from 0.1 to 5, then cut by up to half."""
    pause = FIRST * 2.0 ** min(attempt, _DOUBLINGS)
    return random.uniform(0.5, 1.0) * min(MOST, pause)
