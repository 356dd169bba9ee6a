"""Tells a combiner's gauges to whoever watches it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fedn.domain.gauges import Gauges
from fedn.domain.messages import Gauge

TELL_SECONDS = 1.0


async def tell(gauges: Gauges, publish: Callable[[tuple[Gauge, ...]], None]) -> None:
    """For ever: what has changed, at most once a second."""
    told = gauges.read()
    while True:
        await asyncio.sleep(TELL_SECONDS)
        if (now := gauges.read()) != told:
            publish(now)
            told = now
