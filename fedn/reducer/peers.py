"""The reducer's connection to one combiner: keeps watching it, knows its roster, notices its end.

`federation.py` owns the peers and is told through `Hooks`; `driver.py` calls through `Peer.call`, which
waits while a combiner is briefly out of reach and gives up when that process is lost.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from fedn.domain import messages as m
from fedn.domain.errors import FednError, Incompatible, StaleTerm, Unauthenticated, Unavailable
from fedn.domain.hosts import MAX_NUMBER, known
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, Incarnation, compatible
from fedn.domain.update import UpdateHeader
from fedn.ports import CombinerLink, Dial
from fedn.reducer.network import CombinerView, Station

log = logging.getLogger("fedn.reducer")
T = TypeVar("T")

RETRY_FIRST, RETRY_MOST = 0.05, 1.0
"""Seconds between tries to reach a combiner again."""
MAX_CLIENTS = 100_000
"""Of one combiner; more are not taken in."""
DRAINING = "this combiner is being drained; ask the reducer for another one"
"""What its clients are told."""
RETRY_FOR = 60.0
"""Seconds after which only a new registration makes the reducer try again."""


@dataclass(frozen=True)
class Hooks:
    """Whom a peer tells. All are called on the event loop and must not block."""

    changed: Callable[[], None]
    up: Callable[[CombinerName, Station], None]
    lost: Callable[[CombinerName, Incarnation], None]
    release: Callable[[CombinerName, UpdateHeader], None]
    deposed: Callable[[StaleTerm], None]
    gauged: Callable[[], None] = lambda: None
    """Only what people see has changed."""
    logged: Callable[[str, tuple[m.LogLine, ...]], None] = lambda _, __: None
    """A member, as role:name, has logged something."""
    known_as: Callable[[ClientId, str], str | None] = lambda _, name: name
    """What a client that gives this name is called; None if no such client is in the network."""


class Peer:
    """One combiner by name; its process may change (`incarnation`), its address too."""

    def __init__(
        self,
        name: CombinerName,
        address: str,
        term: int,
        dial: Dial,
        grace: float,
        hooks: Hooks,
        seen: float | None = None,
        drained_at: float = 0.0,
    ) -> None:
        """``seen``: when it was heard of last (Unix time), if that is not just now; ``drained_at``: since
        when it is to have no clients, 0 if it may have some.
        """
        self.name = name
        self.address = address
        self.incarnation = Incarnation("")
        self.live = False
        self.lost = False
        self.seen = time.time() if seen is None else seen
        self.drained_at = drained_at
        self.storing = asyncio.Lock()
        """Held while its row is written: a registration must not undo a draining that is being stored."""
        self._term = term
        self._dial = dial
        self._grace = grace
        self._hooks = hooks
        self._clients: dict[ClientId, m.ClientInfo] = {}
        self._held: tuple[m.RoundHeld, ...] = ()
        self._gauges: tuple[m.Gauge, ...] = ()
        self._host = m.UNSAID
        self._traffic: dict[ClientId, m.Traffic] = {}
        self._received = self._sent = 0
        self._had: tuple[m.ClientInfo, ...] = ()
        self._drains = False
        self._telling = asyncio.Lock()
        self._link = dial(address, name)
        self._closed = False
        self._away_told = False
        self._moved = asyncio.Event()
        self._kicked = asyncio.Event()
        self._giving_up: asyncio.TimerHandle | None = None

    @property
    def station(self) -> Station:
        return Station(self.incarnation, frozenset(self._clients), self._held)

    @property
    def view(self) -> CombinerView:
        at = (self.name, self.address, self.incarnation, self.live)
        about = (self._host, self.seen, self.drained_at)
        if not self.live:
            return CombinerView(*at, (), (), *about, had=self._had)
        clients, traffic = tuple(self._clients.values()), dict(self._traffic)
        amounts = (self._received, self._sent, traffic)
        return CombinerView(*at, clients, self._gauges, *about, *amounts, self._had)

    @property
    def roster(self) -> tuple[m.ClientInfo, ...]:
        """Its clients, also while it is briefly out of reach."""
        return () if self.lost else tuple(self._clients.values())

    @property
    def had(self) -> tuple[m.ClientInfo, ...]:
        """The clients that it had when it went out of reach, or began to drain."""
        return self._had

    @property
    def decided(self) -> bool:
        """Whether it is known to be here or gone, rather than still being tried for the first time."""
        return self.live or self.lost

    async def moved(self, address: str) -> None:
        """It registered: try at once, at its new address if that changed."""
        self.seen = time.time()
        if address != self.address:
            self.address = address
            await self.redial()
        self._kicked.set()

    async def redial(self) -> None:
        """Go on over a new link; what was under way on the old one is called again."""
        old, self._link = self._link, self._dial(self.address, self.name)
        await old.close()

    def drain(self, at: float) -> None:
        """From then on it is to have no clients; 0: it may have some again. `tell_draining` tells it."""
        self._had = tuple(self._clients.values()) if at and self.live else self._had if at else ()
        self.drained_at = at

    async def tell_draining(self) -> None:
        """Have its process do as is wanted now; nothing while it is out of reach, or does so already."""
        async with self._telling:
            wanted = bool(self.drained_at)
            if self.live and self._drains != wanted:
                command = m.DrainRequest(self._term, DRAINING if wanted else "", over=not wanted)
                await self.call(self.incarnation, lambda link: link.drain(command))
                self._drains = wanted

    async def put_out(self) -> None:
        """It was revoked: it is lost at once, and not looked for any more."""
        self._closed = True
        if not self.lost:
            self._down()
            self._give_up()
        await self.close()

    async def run(self) -> None:
        """Watch until it is closed."""
        loop = asyncio.get_running_loop()
        self._down()
        pause, since = RETRY_FIRST, loop.time()
        while not self._closed:
            self._kicked.clear()
            try:
                async for event in self._link.watch(m.WatchRequest(PROTOCOL_VERSION, self._term)):
                    if self._closed:
                        return
                    pause, since = RETRY_FIRST, loop.time()
                    self._handle(event)
            except StaleTerm as error:
                self._hooks.deposed(error)
                return
            except FednError as error:
                if not self._closed:
                    self._log_away(error)
                if isinstance(error, Incompatible):
                    since = -RETRY_FOR
            except Exception:
                log.exception("watching failed", extra={"combiner": self.name})
            self._down()
            wait = pause * random.uniform(0.5, 1.0) if loop.time() - since < RETRY_FOR else None
            pause = min(RETRY_MOST, pause * 2)
            try:
                await asyncio.wait_for(self._kicked.wait(), wait)
            except TimeoutError:
                continue

    async def call(self, incarnation: Incarnation, ask: Callable[[CombinerLink], Awaitable[T]]) -> T | None:
        """Ask this very process, again after a broken link; None once it is lost."""
        pause = RETRY_FIRST
        while await self._reachable(incarnation):
            try:
                return await ask(self._link)
            except (Unavailable, Unauthenticated):  # the latter when our certificate ends: there is a new one
                pause = await paused(pause, RETRY_MOST)
            except StaleTerm as error:
                self._hooks.deposed(error)
                break
        return None

    async def stream(
        self,
        incarnation: Incarnation,
        ask: Callable[[CombinerLink], AsyncIterator[T]],
        wanted: Callable[[], bool] = lambda: True,
    ) -> AsyncIterator[T]:
        """Follow a stream of this very process, calling again after a broken link.

        Until it ends, the process is lost, or it is not ``wanted`` any more.
        """
        pause = RETRY_FIRST
        while await self._reachable(incarnation) and wanted():
            try:
                async for item in ask(self._link):
                    pause = RETRY_FIRST
                    yield item
                return
            except (Unavailable, Unauthenticated):
                pause = await paused(pause, RETRY_MOST)
            except StaleTerm as error:
                self._hooks.deposed(error)
                return

    async def close(self) -> None:
        self._closed = True
        self._kicked.set()
        if self._giving_up:
            self._giving_up.cancel()
        await self._link.close()

    async def _reachable(self, incarnation: Incarnation) -> bool:
        while True:
            if self.live:
                return self.incarnation == incarnation
            if self.lost or self.incarnation != incarnation:
                return False
            self._moved.clear()
            await self._moved.wait()

    def _log_away(self, error: FednError) -> None:
        """Once, not at every try; the loss and the return have lines of their own."""
        if not self._away_told:
            log.info("combiner out of reach: %s", error.message, extra={"combiner": self.name})
        self._away_told = True

    def _handle(self, event: m.CombinerEvent) -> None:
        match event:
            case m.Snapshot():
                self._up(event)
            case m.ClientAttached(info):
                if len(self._clients) < MAX_CLIENTS and (member := self._known(info)):
                    self._clients[info.client] = member
                    self._traffic.pop(info.client, None)
                    self._hooks.changed()
            case m.ClientDetached(client):
                self._clients.pop(client, None)
                self._traffic.pop(client, None)
                self._hooks.changed()
            case m.ReleaseRequested(header):
                if self._known(m.ClientInfo(header.client, "")):
                    self._hooks.release(self.name, header)
            case _:
                self._show(event)

    def _show(self, event: m.GaugesChanged | m.TrafficChanged | m.LinesLogged) -> None:
        """What is for people to see alone."""
        match event:
            case m.GaugesChanged(gauges):
                self._gauges = gauges
                self._hooks.gauged()
            case m.TrafficChanged(received, sent, clients):
                self._received, self._sent = min(received, MAX_NUMBER), min(sent, MAX_NUMBER)
                self._traffic |= {one.client: one for one in clients if one.client in self._clients}
                self._hooks.gauged()
            case m.LinesLogged(client, lines):
                if not client or client in self._clients:
                    self._hooks.logged(f"client:{client}" if client else f"combiner:{self.name}", lines)

    def _up(self, snapshot: m.Snapshot) -> None:
        if not compatible(snapshot.protocol):
            raise Incompatible(
                f"combiner {self.name} speaks protocol {snapshot.protocol}, not {PROTOCOL_VERSION}"
            )
        if snapshot.combiner != self.name:
            raise Incompatible(f"{self.address} is combiner {snapshot.combiner!r}, not {self.name!r}")
        if self._giving_up:
            self._giving_up.cancel()
            self._giving_up = None
        before, was_lost = self.incarnation, self.lost
        self.incarnation, self._held = snapshot.incarnation, snapshot.rounds
        here = filter(None, map(self._known, snapshot.clients))
        self._clients = {info.client: info for info in islice(here, MAX_CLIENTS)}
        self._gauges = ()
        self._host, self._drains = known(snapshot.host), snapshot.draining
        self._traffic, self._received, self._sent = {}, 0, 0
        self.live, self.lost, self._away_told = True, False, False
        self._moved.set()
        if before and before != snapshot.incarnation and not was_lost:
            self._hooks.lost(self.name, before)
        self._had = self._had if self.drained_at else ()
        log.info("combiner is up", extra={"combiner": self.name})
        self._hooks.up(self.name, self.station)
        self._hooks.changed()

    def _known(self, info: m.ClientInfo) -> m.ClientInfo | None:
        """The client as the network knows it; a combiner that speaks for a stranger is not believed."""
        client = info.client
        name = self._hooks.known_as(client, info.name)
        if name is None:
            log.warning("not a member of this network", extra={"combiner": self.name, "client": client[:64]})
            return None
        at = info.attached_at if math.isfinite(info.attached_at) else 0.0
        return replace(info, name=name, host=known(info.host), attached_at=min(max(at, 0.0), time.time()))

    def _down(self) -> None:
        was_live, self.live = self.live, False
        if self._giving_up is None and not self.lost:
            self._giving_up = asyncio.get_running_loop().call_later(self._grace, self._give_up)
        if was_live:
            self.seen = time.time()
            self._had = self._had if self.drained_at else tuple(self._clients.values())
            self._hooks.changed()

    def _give_up(self) -> None:
        if self._giving_up:
            self._giving_up.cancel()
        self._giving_up = None
        self.lost = True
        self._moved.set()
        log.warning("combiner lost", extra={"combiner": self.name})
        self._hooks.lost(self.name, self.incarnation)
        self._hooks.changed()


async def paused(seconds: float, most: float) -> float:
    """Wait about ``seconds``; returns how long to wait the next time, at ``most``."""
    await asyncio.sleep(seconds * random.uniform(0.5, 1.0))
    return min(most, seconds * 2)


def longest_gone(peers: Iterable[Peer], needed: Container[CombinerName]) -> Peer | None:
    """Which combiner to forget when there is no room: of those that are lost, not needed, the one seen last
    the longest ago; None if there is none.
    """
    gone = [peer for peer in peers if peer.lost and peer.name not in needed]
    return min(gone, key=lambda peer: peer.seen, default=None)
