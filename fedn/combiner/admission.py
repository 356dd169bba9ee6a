"""Bounded work: so much at once, so much waiting in order, and `busy` beyond; of each client only a share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from fedn.domain.errors import Busy
from fedn.domain.gauges import Gauges


class Share:
    """What one client has of it: how many places it asked for, and which it may take."""

    def __init__(self, places: int) -> None:
        self.asked = 0
        self.free = asyncio.Semaphore(places)


class Places:
    """``limit`` places for one kind of work, and ``waiting`` more in the queue for them.

    Of these one client may take ``each``, and ask for ``asked`` at once, so that others come in, too.
    """

    def __init__(
        self, gauges: Gauges, what: str, limit: int, waiting: int, each: int = 1, asked: int = 8
    ) -> None:
        self._what, self._limit, self._waiting_limit = what, limit, waiting
        self._each, self._asked = max(1, each), asked
        self._shares: dict[str, Share] = {}
        self._free = asyncio.Semaphore(limit)
        self._taken = self._waiting = 0
        self._places = gauges.add(what, limit, lambda: self._taken)
        self._queue = gauges.add(f"{what}_waiting", waiting, lambda: self._waiting)

    @asynccontextmanager
    async def taken(self, who: str = "") -> AsyncIterator[None]:
        """A place, for as long as the block; first come, first served. Without ``who`` it is nobody's share.

        Raises:
            Busy: too many are waiting already, or too many of this client.
        """
        with self._share(who) as own:
            await self._wait(own)
            self._taken += 1
            self._places.note(self._taken)
            try:
                yield
            finally:
                self._taken -= 1
                self._free.release()
                own.release()

    @contextmanager
    def _share(self, who: str) -> Iterator[asyncio.Semaphore]:
        if not who:
            yield asyncio.Semaphore()
            return
        share = self._shares.setdefault(who, Share(self._each))
        if share.asked >= self._asked:
            raise Busy(f"{who} has asked for {share.asked} {self._what} at once; the most is {self._asked}")
        share.asked += 1
        try:
            yield share.free
        finally:
            share.asked -= 1
            if not share.asked:
                del self._shares[who]

    async def _wait(self, own: asyncio.Semaphore) -> None:
        """Both a place of one's own share, and one of all."""
        at_once = not own.locked() and not self._free.locked()
        if not at_once and self._waiting >= self._waiting_limit:
            raise Busy(
                f"{self._taken} {self._what} are in flight and {self._waiting} wait ({self._what}_waiting)"
            )
        if at_once:
            await own.acquire()
            await self._free.acquire()
            return
        self._waiting += 1
        self._queue.note(self._waiting)
        try:
            await own.acquire()
            try:
                await self._free.acquire()
            except BaseException:
                own.release()
                raise
        finally:
            self._waiting -= 1
