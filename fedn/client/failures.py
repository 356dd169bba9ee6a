"""How many failures one hour may write into the ledger, however many tasks a combiner sends to be refused.

`noting` asks here. The first of each reason has a line of its own, equal ones are counted. Beyond a number of
different reasons every failure is told with one and the same, so that nothing leaves without a line.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from fedn.domain import messages as m

MOST_AN_HOUR = 500
"""Different failures: with their longest reasons one file of a ledger lasts for some days."""
HOUR = 3600.0
TOO_MANY = "failed or refused, as too many before within an hour to tell why; this client's log says it"


@dataclass(slots=True)
class Again:
    """A failure that has a line, and what was told since that is equal to it."""

    message: m.TaskFailed
    messages: int = 0
    size: int = 0


class Failures:
    """Those of the last hour. For one event loop."""

    def __init__(self, most: int = MOST_AN_HOUR, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._began = clock()
        self._known: dict[tuple[str, str, str], Again] = {}

    def bounded(self, message: m.TaskFailed) -> m.TaskFailed:
        """The failure as it may leave: with its reason, unless too many others were told."""
        if _key(message) in self._known or len(self._known) < self._most:
            return message
        return replace(message, reason=TOO_MANY)

    def again(self, message: m.TaskFailed, size: int) -> bool:
        """Whether one like it has a line already; then it is counted."""
        known = self._known.get(_key(message))
        if known is not None:
            known.messages += 1
            known.size += size
        return known is not None

    def noted(self, message: m.TaskFailed) -> None:
        """It has a line."""
        self._known[_key(message)] = Again(message)

    def hour_over(self) -> bool:
        return self._clock() - self._began >= HOUR

    def forget(self) -> None:
        """A new hour begins: each reason may have its line again."""
        self._began = self._clock()
        self._known.clear()

    def counted(self) -> list[Again]:
        """What was counted since this was last asked."""
        found = [replace(again) for again in self._known.values() if again.messages]
        for again in self._known.values():
            again.messages = again.size = 0
        return found


def _key(message: m.TaskFailed) -> tuple[str, str, str]:
    session = "" if message.reason == TOO_MANY else message.session
    return session, str(message.kind), message.reason
