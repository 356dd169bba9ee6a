"""Work that waits for the disk, away from the event loop: one piece after the other, in the order of asking.

The driver's journal is written here, so that an update is kept only after all that was settled before is off
the disk, and what hangs on that is told afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fedn.domain.errors import FednError

T = TypeVar("T")
log = logging.getLogger("fedn.client")


class Aside:
    """One thread that works. For one event loop; to be closed."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "client-disk")
        self._last: asyncio.Future[None] | None = None

    async def result(self, work: Callable[[], T]) -> T:
        """What ``work`` returns or raises, after all that was asked for before."""
        return await asyncio.wrap_future(self._thread.submit(work))

    def do(self, work: Callable[[], None], otherwise: str) -> None:
        """Have it done; if it raises, the log says ``otherwise``, and why."""
        self._last = asyncio.wrap_future(self._thread.submit(_logged, work, otherwise))
        self._last.add_done_callback(self._done)

    def after(self, then: Callable[[], None]) -> None:
        """Call ``then`` in the event loop when all that is to be done so far is done; now, if it is."""
        if self._last is None:
            then()
        else:
            self._last.add_done_callback(lambda _: then())

    async def idle(self) -> None:
        """Return when all that is to be done so far is done."""
        if self._last is not None:
            await asyncio.wait([self._last])

    async def close(self) -> None:
        """Do what is left, and end."""
        await self.idle()
        await asyncio.to_thread(self._thread.shutdown)

    def _done(self, future: asyncio.Future[None]) -> None:
        if self._last is future:
            self._last = None


def _logged(work: Callable[[], None], otherwise: str) -> None:
    try:
        work()
    except FednError as error:
        log.error("%s: %s", otherwise, error.message)
    except Exception:
        log.exception("%s", otherwise)
