"""Tells a combiner's gauges, traffic and log to whoever watches it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fedn.combiner.traffic import Meter
from fedn.domain.gauges import Gauges
from fedn.domain.messages import CombinerEvent, GaugesChanged, LinesLogged
from fedn.logs import Kept

TELL_SECONDS = 1.0


async def tell(
    gauges: Gauges, meter: Meter, log: Kept | None, publish: Callable[[CombinerEvent], None]
) -> None:
    """For ever: what has changed, at most once a second."""
    told = gauges.read()
    while True:
        await asyncio.sleep(TELL_SECONDS)
        if (now := gauges.read()) != told:
            publish(GaugesChanged(now))
            told = now
        if changes := meter.changes():
            publish(changes)
        if log and (lines := log.fresh()):
            publish(LinesLogged("", lines))
