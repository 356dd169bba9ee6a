"""Who has fallen silent. Pure: `entrance.py` knows the clients and the clock."""

from __future__ import annotations

from collections.abc import Iterable

from fedn.domain.ids import ClientId

MISSED_BEATS = 2
"""A client that is expected and not heard for so many beats counts as gone."""
LOOKS_EACH_BEAT = 4


def silent(
    heard: Iterable[tuple[ClientId, float]], since: float, now: float, beat: float
) -> list[tuple[ClientId, float]]:
    """Who of those expected has been silent for too long, and for how many seconds.

    ``heard`` says when each said something last, or was asked. Nobody is blamed for the time before
    ``since``, in which this process itself did not listen.
    """
    quiet = ((client, now - max(at, since)) for client, at in heard)
    return [(client, seconds) for client, seconds in quiet if seconds >= MISSED_BEATS * beat]
