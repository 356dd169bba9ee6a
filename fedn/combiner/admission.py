"""Bounded work: so much at once, so much waiting in order, and `busy` beyond."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fedn.domain.errors import Busy
from fedn.domain.gauges import Gauges


class Places:
    """``limit`` places for one kind of work, and ``waiting`` more in the queue for them."""

    def __init__(self, gauges: Gauges, what: str, limit: int, waiting: int) -> None:
        self._what, self._limit, self._waiting_limit = what, limit, waiting
        self._free = asyncio.Semaphore(limit)
        self._taken = self._waiting = 0
        self._places = gauges.add(what, limit, lambda: self._taken)
        self._queue = gauges.add(f"{what}_waiting", waiting, lambda: self._waiting)

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """A place, for as long as the block; first come, first served.

        Raises:
            Busy: too many are waiting already.
        """
        await self._wait()
        self._taken += 1
        self._places.note(self._taken)
        try:
            yield
        finally:
            self._taken -= 1
            self._free.release()

    async def _wait(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        if self._waiting >= self._waiting_limit:
            raise Busy(
                f"{self._limit} {self._what} are in flight and {self._waiting} wait ({self._what}_waiting)"
            )
        self._waiting += 1
        self._queue.note(self._waiting)
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
