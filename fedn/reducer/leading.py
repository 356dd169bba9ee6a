"""Before and beside the control loop: wait for the stores, stand by while another leads, lead, step down.

A lease in the state store says who leads (`fedn.ports.Leadership`). Whoever was killed on this machine is
seen to be dead, and not waited for; a leader elsewhere is replaced once its lease runs out. The term that
comes with the lease fences its holder: what an old leader still decides, stores and combiners refuse.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from fedn.domain.errors import FednError, LoginRefused, StaleTerm, StoreUnavailable
from fedn.ports import Leadership, Lease
from fedn.reducer.standby_sign import StandbySign
from fedn.stores.holders import is_dead, own_name, shown

log = logging.getLogger("fedn.reducer")
T = TypeVar("T")

LOGIN_SECONDS = 20.0
"""How long a store may refuse our login at the start: whoever prepares it may be about to add that."""
SERVED = ("mongodb:", "s3:")
"""Stores that are servers of their own, which may come up after us."""
AGAIN_SECONDS, TELL_SECONDS = 1.0, 5.0
"""Between tries, and between saying in the log that it is still waited for."""
LOOK_SECONDS = 1.0
"""A standby looks this often, at least, whether the lease has become free."""
RENEWALS = 3
"""How many times a lease is renewed while it lasts."""


async def opened(
    what: str, open_store: Callable[[str], T], url: str, login_seconds: float = LOGIN_SECONDS
) -> T:
    """The store at ``url``; of a server that does not answer, once it does. Raises what `open_store` says.

    A login that is refused is tried again for ``login_seconds``.
    """
    waiting, until = Told(f"waiting for the {what}"), float("inf")
    while True:
        try:
            return await asyncio.to_thread(open_store, url)
        except StoreUnavailable as error:
            if not url.startswith(SERVED):
                raise
            waiting.tell(error.message)
        except LoginRefused as error:
            until = min(until, time.monotonic() + login_seconds)
            if time.monotonic() >= until:
                raise
            waiting.tell(f"{error.message} (given up after {login_seconds:.0f} s)")
        await asyncio.sleep(AGAIN_SECONDS)


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What ``work`` gives; None if ``stop`` is set first, which ends it."""
    task, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, stopping):
            each.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)


class Leader:
    """This reducer as a leader: once `take` returns it leads, as long as `keep` runs.

    Until then it hangs out ``sign``, if there is one: it has no port to ask.
    """

    def __init__(self, leadership: Leadership, seconds: float, sign: StandbySign | None = None) -> None:
        self.lease: Lease | None = None
        self._sign = sign or StandbySign()
        self._leadership = leadership
        self._seconds = seconds
        self._holder = own_name()
        self._thread = ThreadPoolExecutor(1, "lease")  # a lease must not wait behind what it is for
        self._asked: asyncio.Future[Lease] | None = None

    async def take(self) -> int:
        """Stand by until nobody else leads; returns the term."""
        try:
            return await self._stand_by()
        finally:
            self._sign.take_down()

    async def _stand_by(self) -> int:
        standing_by, dead = Told("standing by"), ""
        while True:
            try:
                lease = await self._take(dead)
            except StoreUnavailable as error:
                standing_by.tell(error.message)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            if lease.holder == self._holder:
                self.lease = lease
                return lease.term
            if lease.holder != dead and is_dead(lease.holder):
                dead = lease.holder
                continue
            leads = f"reducer {shown(lease.holder)} leads"
            self._sign.hang_out(leads)
            standing_by.tell(leads, again=False)  # it may be so for weeks
            await asyncio.sleep(min(max(lease.left, 0.05), LOOK_SECONDS))

    async def _take(self, dead: str) -> Lease:
        """Whoever is stopped meanwhile may have been given the lease all the same: `give_up` looks."""
        work = partial(self._leadership.take, self._holder, self._seconds, dead)
        self._asked = asyncio.get_running_loop().run_in_executor(self._thread, work)
        lease = await asyncio.shield(self._asked)
        self._asked = None
        return lease

    async def keep(self) -> None:
        """Renew the lease, for ever. While the store is away nothing can be decided, nor anybody else lead.

        Raises StaleTerm once another leads.
        """
        unheard = Told("the lease can't be renewed, and until it is no round is committed")
        while self.lease:
            await asyncio.sleep(self._seconds / RENEWALS)
            try:
                await self._ask(self._leadership.renew, self.lease, self._seconds)
            except StoreUnavailable as error:
                unheard.tell(error.message)
            except StaleTerm as error:
                self.lease = None
                raise deposed(error.message) from None

    async def give_up(self) -> None:
        """Let another one lead at once, if this one still did."""
        lease, self.lease = self.lease, None
        try:
            if self._asked and (granted := await self._asked).holder == self._holder:
                lease = granted
            if lease:
                await self._ask(self._leadership.give_up, lease)
        except FednError as error:
            log.warning("the lease is not given up, and ends by itself: %s", error.message)
        finally:
            self._thread.shutdown(wait=False)

    async def _ask(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def deposed(why: str) -> StaleTerm:
    """Another leads; whoever starts this process again has a standby."""
    problem = f"another reducer leads this network now ({why})"
    return StaleTerm(f"{problem}, and this one ends; started again it stands by")


class Told:
    """Says in the log why something waits: at once, when the reason changes, and now and then again."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._reason = ""
        self._next = 0.0

    def tell(self, reason: str, *, again: bool = True) -> None:
        now = time.monotonic()
        if reason != self._reason or (again and now >= self._next):
            log.warning("%s: %s", self._what, reason)
            self._reason, self._next = reason, now + TELL_SECONDS
