"""Before and beside the control loop: wait for the stores, stand by while another leads, lead, step down.

A lease in the state store says who leads (`fedn.ports.Leadership`). Whoever was killed on this machine is
seen to be dead, and not waited for; a leader elsewhere is replaced once its lease runs out. The term that
comes with the lease fences its holder: what an old leader still decides, stores and combiners refuse.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from fedn.domain.errors import FednError, StaleTerm, StoreUnavailable
from fedn.ports import Leadership, Lease

log = logging.getLogger("fedn.reducer")
T = TypeVar("T")

SERVED = ("mongodb:", "s3:")
"""Stores that are servers of their own, which may come up after us."""
AGAIN_SECONDS, TELL_SECONDS = 1.0, 5.0
"""Between tries, and between saying in the log that it is still waited for."""
LOOK_SECONDS = 1.0
"""A standby looks this often, at least, whether the lease has become free."""
RENEWALS = 3
"""How many times a lease is renewed while it lasts."""


async def opened(what: str, open_store: Callable[[str], T], url: str) -> T:
    """The store at ``url``; of a server that does not answer, once it does. Raises what `open_store` says."""
    waiting = Told(f"waiting for the {what}")
    while True:
        try:
            return await asyncio.to_thread(open_store, url)
        except StoreUnavailable as error:
            if not url.startswith(SERVED):
                raise
            waiting.tell(error.message)
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
    """This reducer as a leader: once `take` returns it leads, as long as `keep` runs."""

    def __init__(self, leadership: Leadership, seconds: float) -> None:
        self.lease: Lease | None = None
        self._leadership = leadership
        self._seconds = seconds
        self._holder = own_name()
        self._thread = ThreadPoolExecutor(1, "lease")  # a lease must not wait behind what it is for
        self._asked: asyncio.Future[Lease] | None = None

    async def take(self) -> int:
        """Stand by until nobody else leads; returns the term."""
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
            until = time.strftime("%H:%M:%S", time.localtime(time.time() + lease.left))
            standing_by.tell(f"reducer {shown(lease.holder)} leads until {until} or longer")
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
    """Says in the log why something waits: at once, when the reason changes, and now and then."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._reason = ""
        self._next = 0.0

    def tell(self, reason: str) -> None:
        now = time.monotonic()
        if reason != self._reason or now >= self._next:
            log.warning("%s: %s", self._what, reason)
            self._reason, self._next = reason, now + TELL_SECONDS


# --- who holds a lease: host/process/machine/birth


def own_name() -> str:
    """What this process is called as the holder of a lease; no other ever was or will be."""
    pid = os.getpid()
    return f"{socket.gethostname()}/{pid}/{_machine()}/{_birth(pid)[1] or uuid4().hex}"


def shown(holder: str) -> str:
    """A holder as people know it."""
    host, slash, rest = holder.partition("/")
    return f"on {host} (process {rest.partition('/')[0]})" if slash else holder


def is_dead(holder: str) -> bool:
    """Whether a holder was a process of this machine, and is none any more; False if that can't be seen."""
    parts = holder.split("/")
    if len(parts) != 4 or not parts[1].isdecimal() or parts[2] != _machine():
        return False
    pid = int(parts[1])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    state, birth = _birth(pid)
    return state in ("Z", "X") or bool(birth and birth != parts[3])


def _machine() -> str:
    """This boot of this machine, as far as process numbers mean the same; if unknown, never the same."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return uuid4().hex


def _birth(pid: int) -> tuple[str, str]:
    """A process's state, and when it began; both empty where that can't be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except OSError:
        return "", ""
    words = fields.split()
    return words[0], words[19]
