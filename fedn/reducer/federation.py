"""The reducer itself: one term, the peers, the sessions. Lives on one event loop.

`service.py` reaches it from the web server's threads; the in-process federation calls it directly.
It routes: network events go to every session, release requests to the session they name.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fedn import plugins
from fedn.domain import messages as m
from fedn.domain.errors import Conflict, Revoked, StaleTerm, Unavailable
from fedn.domain.gauges import Gauges
from fedn.domain.identity import Role
from fedn.domain.ids import (
    ClientId,
    CombinerName,
    Digest,
    Incarnation,
    SessionId,
    check_id,
    compatible,
    incompatible,
)
from fedn.domain.plan import Plan
from fedn.domain.update import UpdateHeader
from fedn.ports import Buffer, CombinerInfo, Dial, ModelStore, Observed, Observer, SessionInfo, StateStore
from fedn.reducer.assignments import Assignments
from fedn.reducer.books import PAUSED, RUNNING, Books, create, logged
from fedn.reducer.draining import Draining
from fedn.reducer.driver import SessionDriver
from fedn.reducer.inquiries import Inquiries, Inquiry, Question
from fedn.reducer.log_book import LogBook
from fedn.reducer.moves import Moves
from fedn.reducer.network import Network, NetworkView, Station
from fedn.reducer.peers import Hooks, Peer, longest_gone
from fedn.reducer.planning import check as check_plan
from fedn.reducer.records import ack_from_record, settle_from_record
from fedn.reducer.retelling import about
from fedn.tasks import Tasks

log = logging.getLogger("fedn.reducer")

MAX_ENDED = 256
"""Sessions that have ended of which it is remembered who could not take part."""
GATHER_SECONDS = 0.02
"""Changes of the network within this time are told as one: a thousand clients that come back at once
would otherwise cost a thousand rosters."""
START_SECONDS = 10.0
"""Who starts a session waits at most so long for it to begin; it begins all the same, or says why not."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds and patience of a reducer; seconds."""

    combiner_grace: float = 3.0
    client_grace: float = 5.0
    max_sessions: int = 64
    max_combiners: int = 1000


def believed(_: Role, __: str, name: str) -> str:
    """In a network without identity everybody is who they say."""
    return name


class Reducer:
    """Implements ports.ReducerLink for its own process."""

    def __init__(
        self,
        state: StateStore,
        models: ModelStore,
        dial: Dial,
        observer: Observer,
        limits: Limits = Limits(),
        known_as: Callable[[Role, str, str], str | None] = believed,
    ) -> None:
        """``known_as``: what somebody of this role and id, who gives that name, is called here; None for no
        member of this network, who must be neither spoken with nor counted.
        """
        self.state = state
        self.models = models
        self.gauges = Gauges()
        self.gauges.add("sessions", limits.max_sessions, lambda: len(self._sessions))
        self.gauges.add("combiners", limits.max_combiners, lambda: len(self._peers))
        self.view = NetworkView(0, ())
        self.deposed = asyncio.Event()
        self._dial = dial
        self._observer = observer
        self._limits = limits
        self._known_as = known_as
        self._put_out: set[CombinerName] = set()
        self._term = 0
        self._peers: dict[CombinerName, Peer] = {}
        self._sessions: dict[SessionId, SessionDriver] = {}
        self._unfit: dict[SessionId, Mapping[ClientId, str]] = {}
        self._assignments = Assignments(self.gauges)
        self._early: dict[SessionId, dict[tuple[ClientId, int], tuple[CombinerName, UpdateHeader]]] = {}
        self._behind: list[tuple[CombinerName, UpdateHeader]] = []
        self.inquiries = Inquiries(state, models, observer, self._peers)
        self._starting: dict[SessionId, asyncio.Task[Exception | None]] = {}
        self._one_start = asyncio.Lock()
        self._tasks = Tasks(_failed)
        self._changed = asyncio.Event()
        self._gathering: asyncio.TimerHandle | None = None
        self._moves = Moves(self._peers, observer)
        self._log_book = LogBook()
        self._draining = Draining(state, self._peers, self._drains, self._tasks.start)

    async def start(self, term: int = 0) -> None:
        """Lead in ``term``, or in the next one: look for the combiners known from before, and go on with
        running sessions.
        """
        term = term or await asyncio.to_thread(self.state.take_term)
        sessions, known = await asyncio.to_thread(self._stored)
        self._term = term  # from here on nothing is waited for: combiners that register find all of it
        self._publish()
        self._observer.observe(Observed("reducer_started", {"term": self._term}))
        unfinished = [info for info in sessions if info.state in (RUNNING, PAUSED)]
        self._early = {info.session: {} for info in unfinished}
        for combiner in known[-self._limits.max_combiners :]:
            at = (combiner.registered_at, combiner.drained_at)
            self._add_peer(combiner.combiner, combiner.address, *at)
        if unfinished:
            self._tasks.start(self._resume(unfinished))

    def _stored(self) -> tuple[Sequence[SessionInfo], Sequence[CombinerInfo]]:
        """What is known from before: sessions, and combiners that are members, the newest last."""
        known = [
            combiner
            for combiner in self.state.combiners()
            if self._known_as(Role.COMBINER, combiner.combiner, combiner.combiner) is not None
        ]
        return self.state.sessions(), sorted(known, key=lambda combiner: combiner.registered_at)

    async def _resume(self, unfinished: list[SessionInfo]) -> None:
        """Once every known combiner is here or given up, so that what they still hold is seen first."""
        while not all(peer.decided for peer in self._peers.values()):
            self._changed.clear()
            await self._changed.wait()
        for info in unfinished:
            self._observer.observe(
                Observed("session_recovered", about(info, info.head.round, info.head.model))
            )
            self._begin(info)

    def _begin(self, info: SessionInfo) -> asyncio.Task[Exception | None]:
        """Run a session in a task of its own: one that can't go on must not keep the others."""
        task = self._starting[info.session] = self._tasks.start(self._begun(info))
        task.add_done_callback(lambda _: self._starting.pop(info.session, None))
        return task

    async def _begun(self, info: SessionInfo) -> Exception | None:
        """What kept the session from running here; its committed rounds stay."""
        try:
            await self._run(info)
            del self._starting[info.session]  # from here on a stop is the driver's
        except Exception as error:
            log.error("a session can't go on: %s", error, exc_info=error, extra={"session": info.session})
            await self._end(info.session, "failed", str(error))
            return error
        return None

    async def _end(self, session: SessionId, outcome: str, reason: str) -> None:
        """End a session that has not begun to run; who still holds something of it hears from the record."""
        waiting = logged("storing a session's end", session)
        await Books(self.state, session, self._term, waiting).close(outcome, reason)
        self._observer.observe(Observed(f"session_{outcome}", {"session": session, "reason": reason}))
        self._sessions.pop(session, None)
        for combiner, header in self._early.pop(session, {}).values():
            self._release_requested(combiner, header)
        for name, peer in self._peers.items():
            if peer.live:
                self._combiner_up(name, peer.station)

    async def close(self) -> None:
        """Stop everything; running sessions go on when a reducer starts again."""
        if self._gathering:
            self._gathering.cancel()
        self._moves.close()
        await self._tasks.close()
        await self.inquiries.close()
        for session in list(self._sessions.values()):
            await session.close()
        for peer in self._peers.values():
            await peer.close()

    # --- asked by combiners and clients (ports.ReducerLink) -------------------------------------------

    async def register(self, registration: m.Registration) -> Sequence[str]:
        """A combiner announces itself, or announces itself again. Whoever is revoked the registrar knows."""
        if not compatible(registration.protocol):
            raise incompatible("reducer", f"combiner {registration.combiner}", registration.protocol)
        name = CombinerName(check_id("combiner", registration.combiner))
        if name in self._put_out:
            raise Revoked(f"combiner {name} was revoked by an administrator of this network")
        peer = self._peers.get(name)
        if peer is None:
            forgotten = self._make_room()
            peer = self._add_peer(name, registration.address)
            if forgotten:
                await forgotten.close()
        elif (
            peer.live
            and peer.incarnation != registration.incarnation
            and peer.address != registration.address
        ):
            raise Conflict(
                f"another combiner named {name!r} is live at {peer.address}; give this one another --name"
            )
        known = peer.incarnation == registration.incarnation and peer.address == registration.address
        if not (known and peer.live):
            async with peer.storing:
                info = CombinerInfo(
                    name, registration.address, registration.incarnation, time.time(), peer.drained_at
                )
                await asyncio.to_thread(self.state.put_combiner, info)
            await peer.moved(registration.address)
        return ()

    def _make_room(self) -> Peer | None:
        """For one more combiner; returns the one that is forgotten for it. Raises Conflict."""
        if len(self._peers) < self._limits.max_combiners:
            return None
        needed = {name for session in self._sessions.values() for name in session.combiners}
        if (gone := longest_gone(self._peers.values(), needed)) is None:
            raise Conflict(f"{len(self._peers)} combiners are registered (max_combiners)")
        return self._peers.pop(gone.name)

    async def assign(self, client: ClientId, prefer: str, avoid: str) -> m.Assignment:
        """Which combiner a client is to attach to."""
        check_id("client", client)
        places = (session.place_of(client) for session in self._sessions.values())
        place = next(filter(None, places), "")
        return self._assignments.assign(self.view, client, prefer, avoid, place)

    async def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Buffer]:
        for chunk in self.models.read(request.digest, request.offset):
            yield chunk

    # --- asked by the registrar ------------------------------------------------------------------------

    def put_out(self, combiner: CombinerName) -> None:
        """A combiner was revoked: it is lost at once, and can't come back under this name."""
        self._put_out.add(combiner)
        if peer := self._peers.pop(combiner, None):
            self._tasks.start(peer.put_out())

    def redial(self) -> None:
        """Speak with every combiner over new links: the certificate that we show has changed."""
        for peer in self._peers.values():
            self._tasks.start(peer.redial())

    # --- asked by people -------------------------------------------------------------------------------

    async def drain(self, combiner: CombinerName) -> None:
        """Send no more clients there, and those that are there elsewhere; it stays so until `undrain`.

        Raises:
            NotFound: there is no such combiner.
            Conflict: no other could take its clients.
        """
        await self._draining.begin(combiner, lambda: self.view)

    async def undrain(self, combiner: CombinerName) -> None:
        """Let a combiner have clients again. Raises NotFound."""
        await self._draining.end(combiner)

    def _drains(self, peer: Peer) -> None:
        self._publish()
        if peer.drained_at:
            self._assignments.forget(peer.name)
        self._moves.draining(peer)

    async def start_session(self, name: str, model: Digest, size: int, plan: Plan) -> SessionInfo:
        """Create a session on a seed model and run it."""
        await asyncio.to_thread(check_plan, plan, self.state, self._network())
        async with self._one_start:
            info = await self._create(name, model, size, plan)
            beginning = self._begin(info)
        done, _ = await asyncio.wait({beginning}, timeout=START_SECONDS)
        if done and (error := beginning.result()):
            raise error
        return info

    async def _create(self, name: str, model: Digest, size: int, plan: Plan) -> SessionInfo:
        running = [s for s, driver in self._sessions.items() if not driver.ended.is_set()]
        if len(self._starting.keys() | running) >= self._limits.max_sessions:
            raise Conflict(f"{len(running)} sessions are running (max_sessions); stop one first")
        info = await asyncio.to_thread(create, self.state, self._term, name, model, size, plan)
        self._observer.observe(Observed("session_started", about(info, info.head.round, info.head.model)))
        return info

    async def stop_session(self, session: SessionId) -> SessionInfo:
        """Stop a running session; its committed rounds stay. One that has ended is left as it is."""
        if starting := self._starting.get(session):
            starting.cancel()
            await asyncio.wait({starting})
            await self._end(session, "cancelled", "stopped by request")
        elif session in self._sessions or session in self._early:
            driver = self._driver(session)
            driver.stop("stopped by request")
            await driver.ended.wait()
        elif (await asyncio.to_thread(self.state.session, session)).state in (RUNNING, PAUSED):
            await self._end(session, "cancelled", "stopped by request")  # its creation was given up too late
        return await asyncio.to_thread(self.state.session, session)

    async def pause_session(self, session: SessionId) -> SessionInfo:
        """Let a session's open round be committed, and no other begin. Raises Conflict when it has ended."""
        await self._driver(session).pause("paused by request")
        return await asyncio.to_thread(self.state.session, session)

    async def resume_session(self, session: SessionId) -> SessionInfo:
        """Go on with a paused session. Raises Conflict when it has ended."""
        await self._driver(session).resume()
        return await asyncio.to_thread(self.state.session, session)

    def _driver(self, session: SessionId) -> SessionDriver:
        if driver := self._sessions.get(session):
            return driver
        if session in self._early:
            raise Unavailable(
                "the reducer has just started and is still looking for its combiners; try again"
            )
        raise Conflict("the session has ended; start another one on its model")

    async def ask_clients(self, session: SessionId, question: Question) -> Inquiry:
        """Have the clients of a session, also of one that has ended, predict or evaluate."""
        return await self.inquiries.start(session, question, self._term)

    def progress(self, session: SessionId) -> Mapping[str, Any]:
        """What a session does just now; empty when it is not running here."""
        driver = self._sessions.get(session)
        return driver.progress if driver else {}

    def unfit(self, session: SessionId) -> Mapping[ClientId, str] | None:
        """Who could not take part in a session, and why; None where that is not known any more."""
        driver = self._sessions.get(session)
        return driver.unfit if driver else self._unfit.get(session)

    # --- inside ----------------------------------------------------------------------------------------

    async def _run(self, info: SessionInfo) -> None:
        driver = SessionDriver(
            info,
            self._term,
            state=self.state,
            models=self.models,
            selector=plugins.make("fedn.selectors", info.plan.selection),
            find=self._peers.get,
            observer=self._observer,
            orphan_grace=self._limits.client_grace,
        )
        self._sessions[info.session] = driver
        await driver.start(self._network)
        for combiner, header in self._early.pop(info.session, {}).values():
            driver.release_requested(combiner, header)
        self._tasks.start(self._forget_when_ended(driver))

    async def _forget_when_ended(self, driver: SessionDriver) -> None:
        await driver.ended.wait()
        await driver.settle_down()
        self._unfit[driver.session] = driver.unfit
        if len(self._unfit) > MAX_ENDED:
            del self._unfit[next(iter(self._unfit))]
        self._sessions.pop(driver.session, None)

    def _add_peer(
        self, name: CombinerName, address: str, seen: float | None = None, drained_at: float = 0.0
    ) -> Peer:
        hooks = Hooks(
            changed=self._network_changes,
            up=self._came_up,
            lost=self._combiner_lost,
            release=self._release_requested,
            deposed=self._depose,
            gauged=self._publish,
            logged=self._log_book.note,
            known_as=partial(self._known_as, Role.CLIENT),
        )
        grace = self._limits.combiner_grace
        peer = Peer(name, address, self._term, self._dial, grace, hooks, seen, drained_at)
        self._peers[name] = peer
        self._tasks.start(peer.run())
        self._publish()
        return peer

    def _network(self) -> Network:
        return {name: peer.station for name, peer in self._peers.items() if peer.live}

    def _publish(self) -> None:
        combiners = tuple(peer.view for _, peer in sorted(self._peers.items()))
        self.view = NetworkView(self._term, combiners, seen=self._moves.seen, logs=self._log_book.lines)

    def _network_changes(self) -> None:
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._network_changed)

    def _network_changed(self) -> None:
        """Tell the sessions of everything that has changed since, and then what was asked meanwhile."""
        if self._gathering:
            self._gathering.cancel()
            self._gathering = None
        self._publish()
        network = self._network()
        for station in network.values():
            self._assignments.arrived(station.clients)
        for session in list(self._sessions.values()):
            self._guard(session, partial(session.network_changed, network))
        self._changed.set()
        self._moves.soon()
        clients = sum(len(station.clients) for station in network.values())
        self._observer.observe(Observed("network_changed", {"combiners": len(network), "clients": clients}))
        behind, self._behind = self._behind, []
        for combiner, header in behind:
            self._release_requested(combiner, header)

    def _came_up(self, combiner: CombinerName, station: Station) -> None:
        self._moves.up(combiner, station.incarnation, len(station.clients))
        if peer := self._peers.get(combiner):
            self._tasks.start(peer.tell_draining())
        self._combiner_up(combiner, station)

    def _combiner_up(self, combiner: CombinerName, station: Station) -> None:
        """Rounds it still holds of sessions that have ended here are told how they ended."""
        known = self._sessions.keys() | self._early.keys()
        for session, number in sorted({(held.session, held.round) for held in station.held}):
            if session not in known:
                peer = self._peers.get(combiner)
                self._tasks.start(
                    ack_from_record(self.state, self._term, peer, station.incarnation, session, number)
                )

    def _combiner_lost(self, combiner: CombinerName, incarnation: Incarnation) -> None:
        if self._gathering:
            self._network_changed()  # nobody may look for the lost one's clients where they no longer are
        self._moves.lost(combiner)
        for session in list(self._sessions.values()):
            self._guard(session, partial(session.combiner_lost, combiner, incarnation))

    def _release_requested(self, combiner: CombinerName, header: UpdateHeader) -> None:
        """A client offers at a combiner that does not list it; where that one is has to be told first."""
        driver = self._sessions.get(header.session)
        if self._gathering:
            self._behind.append((combiner, header))
        elif header.session in self._early:
            self._early[header.session][header.client, header.round] = (combiner, header)  # it goes on soon
        elif driver is not None:
            self._guard(driver, partial(driver.release_requested, combiner, header))
        else:
            self._tasks.start(settle_from_record(self.state, self._term, self._peers.get(combiner), header))

    def _guard(self, session: SessionDriver, tell: Callable[[], None]) -> None:
        """What goes wrong in one session's decision ends that session, and nothing else."""
        try:
            tell()
        except Exception as error:
            log.exception("a session's machine failed", extra={"session": session.session})
            session.fail(f"internal fault: {error}")

    def _depose(self, error: StaleTerm) -> None:
        log.error("another reducer has taken over: %s", error.message)
        self.deposed.set()


def _failed(error: BaseException) -> None:
    log.error("reducer task failed: %s", error, exc_info=error)
