"""What whoever watches a combiner is told: all there is at first, then every change.

`driver.py` publishes what happens to clients; gauges, traffic and log are told from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from fedn.combiner.runs import Listeners
from fedn.combiner.traffic import Meter
from fedn.domain.gauges import Gauges
from fedn.domain.messages import CombinerEvent, GaugesChanged, LinesLogged
from fedn.logs import Kept
from fedn.tasks import Tasks

TELL_SECONDS = 1.0


class Watchers(Listeners[CombinerEvent]):
    """Streams of those who watch. Nothing is measured for them before there is one."""

    def __init__(self, gauges: Gauges, traffic: Meter, log: Kept | None) -> None:
        super().__init__()
        self._gauges = gauges
        self._traffic = traffic
        self._log = log
        self._telling: asyncio.Task[None] | None = None

    def begin(self, tasks: Tasks) -> None:
        """Somebody watches: from the first time on, tell what changes in one of ``tasks``."""
        if self._telling is None:
            self._telling = tasks.start(self._tell())

    def measured(self) -> Iterator[CombinerEvent]:
        """All there is of gauges, traffic and log, for one who has just begun to watch."""
        yield GaugesChanged(self._gauges.read())
        yield self._traffic.everything()
        if self._log and (lines := self._log.all()):
            yield LinesLogged("", lines)

    async def _tell(self) -> None:
        """For ever: what has changed, at most once a second."""
        told = self._gauges.read()
        while True:
            await asyncio.sleep(TELL_SECONDS)
            if (now := self._gauges.read()) != told:
                self.publish(GaugesChanged(now))
                told = now
            if changes := self._traffic.changes():
                self.publish(changes)
            if self._log and (lines := self._log.fresh()):
                self.publish(LinesLogged("", lines))
