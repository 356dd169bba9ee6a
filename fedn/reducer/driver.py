"""One session at work: maps its machine's commands to calls on combiners, stores and observers.

`federation.py` owns the session drivers and feeds them network events. Everything here runs on one
event loop; numerics and stores run in worker threads.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar, assert_never

from fedn import plugins
from fedn.aggregation.mean import PartMerger
from fedn.domain import messages as m
from fedn.domain.canonical import canonical_json
from fedn.domain.errors import Damaged, FednError, NotFound
from fedn.domain.ids import ClientId, CombinerName, Incarnation, SessionId, derived_seed
from fedn.domain.model import Layout
from fedn.domain.part import PartHeader
from fedn.domain.round import Head, RoundSpec, ValidationSpec
from fedn.domain.update import UpdateHeader, finite_metrics
from fedn.ports import (
    ClientSelector,
    CombinerLink,
    MetricRow,
    ModelStore,
    Observed,
    Observer,
    SessionInfo,
    StateStore,
    Vector,
)
from fedn.reducer import machine as mc
from fedn.reducer import round as rd
from fedn.reducer.books import PAUSED, RUNNING, Books, Hindrances
from fedn.reducer.merging import Committer, Part, check_part, read_inline, read_layout
from fedn.reducer.network import Network
from fedn.reducer.peers import Peer
from fedn.reducer.records import ack_from_record, settle_from_record, summary
from fedn.reducer.validating import gather_metrics

log = logging.getLogger("fedn.reducer")

T = TypeVar("T")

PARTS_IN_FLIGHT = 2
"""Large parts that are fetched at once; each takes eight bytes of memory per averaged element."""
Find = Callable[[CombinerName], Peer | None]


class SessionDriver:
    """Runs one session from its head to its end."""

    def __init__(
        self,
        info: SessionInfo,
        term: int,
        *,
        state: StateStore,
        models: ModelStore,
        selector: ClientSelector,
        find: Find,
        observer: Observer,
        orphan_grace: float,
    ) -> None:
        self.session: SessionId = info.session
        self._plan = info.plan
        self._head = info.head
        self._term = term
        self._store = state
        self._models = models
        self._selector = selector
        self._find = find
        self._observer = observer
        self._grace = orphan_grace
        self._pause_reason = info.reason if info.state == PAUSED else ""
        self._config = canonical_json(dict(info.plan.config)).decode()
        self._aggregator = plugins.load("fedn.aggregators", info.plan.aggregator)()
        self._committer = Committer(state, models, term, info.session, info.plan)
        self._layout: Layout | None = None
        self._inline = b""
        self._machine: mc.State | None = None
        self._merger: PartMerger | None = None
        self._fetched: dict[rd.PartKey, Vector] = {}
        self._fetching = asyncio.Semaphore(PARTS_IN_FLIGHT)
        self._opened: dict[rd.PartKey, asyncio.Event] = {}
        self._parts: dict[rd.PartKey, asyncio.Task[None]] = {}
        self._hindrances = Hindrances(lambda reason: self._tell("waiting", reason=reason))
        self._books = Books(state, info.session, term, partial(self._hindrances.note, "reducer"))
        self._metrics: list[MetricRow] = []
        self._received: dict[ClientId, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()

    # --- told by federation.py -----------------------------------------------------------------------

    async def start(self, network: Callable[[], Network]) -> None:
        """Begin, or go on after a restart, with the network as it is once the model is read."""
        self._layout = await self._books.patiently(read_layout, self._models, self._head)
        self._inline = await self._books.patiently(read_inline, self._models, self._head)
        unvalidated = await self._books.patiently(self._validation_missing)
        self._apply(mc.start(self.session, self._plan, self._head, network(), self._grace,
                             self._pause_reason, unvalidated))  # fmt: skip

    def network_changed(self, network: Network) -> None:
        self._decide(mc.NetworkChanged(network))

    def combiner_lost(self, combiner: CombinerName, incarnation: Incarnation) -> None:
        self._hindrances.note(combiner, "")
        self._decide(mc.CombinerLost(combiner, incarnation, self._now()))

    def release_requested(self, combiner: CombinerName, header: UpdateHeader) -> None:
        self._decide(mc.ReleaseRequested(combiner, header))

    async def pause(self, reason: str) -> None:
        """Begin no further round, also after a restart. Raises Conflict when the session has ended."""
        await self._books.note(PAUSED, reason)
        self._pause_reason = reason
        self._tell("session_paused", reason=reason)
        self._decide(mc.PauseAsked(reason))

    async def resume(self) -> None:
        """Go on with rounds. Raises Conflict when the session has ended."""
        await self._books.note(RUNNING, "")
        self._pause_reason = ""
        self._tell("session_resumed")
        self._decide(mc.ResumeAsked())

    def stop(self, reason: str) -> None:
        self._decide(mc.StopAsked(reason))

    def fail(self, reason: str) -> None:
        """End the session because of a fault of ours."""
        self._decide(mc.CommitFailed(reason))

    @property
    def progress(self) -> Mapping[str, Any]:
        """What the session does just now, for people: state, reason, round, expected and received updates."""
        phase = self._machine.phase if self._machine else mc.Waiting("starting")
        shown: dict[str, Any] = {
            "state": type(phase).__name__.lower(),
            "reason": self._hindrances.joined(getattr(phase, "reason", "")),
        }
        if isinstance(phase, mc.Running | mc.Committing):
            shown |= {"round": phase.round.number, "expected": self._expected}
            shown["received"] = len(self._received)
            shown["refused"], shown["lost"] = dict(phase.round.refused), dict(phase.round.lost)
        return shown

    @property
    def _expected(self) -> int:
        """How many clients the open round lists."""
        phase = self._machine.phase if self._machine else None
        return len(phase.round.place) if isinstance(phase, mc.Running | mc.Committing) else 0

    def place_of(self, client: ClientId) -> str:
        """The combiner that waits for this client's update in the open round; '' if none does."""
        phase = self._machine.phase if self._machine else None
        return phase.round.awaited_at(client) if isinstance(phase, mc.Running) else ""

    async def settle_down(self) -> None:
        """After the end: let the last acknowledgements go out."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Stop without ending the session: a restarted reducer goes on with it."""
        if self._timer:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- machine -------------------------------------------------------------------------------------

    def _decide(self, event: mc.Event) -> None:
        if self._machine is not None:
            self._apply(mc.step(self._machine, event))

    def _apply(self, outcome: mc.Outcome) -> None:
        self._machine, commands = outcome
        if self._timer:
            self._timer.cancel()
        wake = mc.next_wake(self._machine)
        if wake is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(wake, lambda: self._decide(mc.Tick(self._now())))
        for command in commands:
            self._do(command)

    def _do(self, command: mc.Command) -> None:
        match command:
            case rd.OpenPart(key, clients):
                self._parts[key] = self._spawn(self._run_part(self._round, key, clients))
            case rd.FetchPart(key, header):
                self._spawn(self._fetch(self._round, key, header))
            case rd.MergePart(key):
                self._merge(key)
            case rd.AbortPart(key, reason, reoffer):
                abort = m.AbortRound(self._term, self.session, self._round, key.part, reason, reoffer)
                self._spawn(self._abort(key, abort))
            case rd.AskRelease(combiner, client):
                self._spawn(self._release(self._round, combiner, client))
            case rd.Admit(key, client):
                self._spawn(self._admit(self._round, key, client))
            case rd.Settle(combiner, client, round_, counted, reason):
                settle = m.SettleUpdate(self._term, client, self.session, round_, counted, reason)
                self._ask(combiner, lambda link: link.settle(settle))
            case mc.SelectClients(round_, clients, limit):
                seed = derived_seed(self._plan.seed, round_, "selection")
                self._spawn(self._select(clients, limit, seed))
            case mc.CommitRound():
                self._spawn(self._commit(command))
            case mc.AckRound(combiner, round_, counted):
                ack = m.AckRound(self._term, self.session, round_, counted)
                self._ask(combiner, lambda link: link.ack(ack))
            case mc.SettleFromRecord(combiner, header):
                self._spawn(self._when_durable(
                    settle_from_record(self._store, self._term, self._find(combiner), header)
                ))  # fmt: skip
            case mc.AckFromRecord(combiner, incarnation, round_):
                self._spawn(self._when_durable(ack_from_record(
                    self._store, self._term, self._find(combiner), incarnation, self.session, round_
                )))  # fmt: skip
            case mc.Validate():
                self._spawn(self._validate(self._head, self._inline))
            case mc.Announce(phase):
                self._announce(phase)
            case mc.DropSums():
                self._merger, self._fetched, self._received, self._opened = None, {}, {}, {}
            case _:
                assert_never(command)

    async def _when_durable(self, telling: Coroutine[None, None, None]) -> None:
        """That a session is over is told only once it is durable: a client may delete its copy then."""
        if self._machine and isinstance(self._machine.phase, mc.Ended):
            await self._books.closed.wait()
        await telling

    async def _select(self, clients: tuple[ClientId, ...], limit: int, seed: int) -> None:
        try:
            chosen = self._selector.select(clients, limit, seed)
        except Exception as error:  # a plug-in's fault ends the session that chose it
            log.exception("the selector failed", extra={"session": self.session})
            self.fail(f"selector {self._plan.selection!r} failed: {error}")
        else:
            self._decide(mc.ClientsSelected(tuple(chosen)))

    # --- rounds --------------------------------------------------------------------------------------

    @property
    def _round(self) -> int:
        return self._head.round + 1

    async def _run_part(self, number: int, key: rd.PartKey, clients: tuple[ClientId, ...]) -> None:
        """Follow one part to its end, across broken links, until its combiner is lost."""
        peer, layout = self._find(key.combiner), self._layout
        if peer is None or layout is None:
            return
        plan, head = self._plan, self._head
        spec = RoundSpec(
            self._term, self.session, number, key.part, head.model, head.model_size, layout.digest, clients,
            self._config, plan.seed, plan.round_deadline, plan.aggregator,
            key.incarnation, self._inline,
        )  # fmt: skip
        opened = self._opened.setdefault(key, asyncio.Event())
        try:
            wanted = partial(self._wanted, number, key)

            def ask(link: CombinerLink) -> AsyncIterator[m.RoundEvent]:
                return self._hindrances.noted(key.combiner, link.run_round(spec))

            async for event in peer.stream(key.incarnation, ask, wanted):
                opened.set()
                self._follow(number, key, event)
        except FednError as error:
            log.error("a part failed: %s", error.message, extra={"combiner": key.combiner, "round": number})
            await asyncio.sleep(random.uniform(0.5, 1.0))  # it is opened again at once, and may fail again
            self._decide(mc.PartAborted(number, key, self._now()))
        finally:
            opened.set()

    def _wanted(self, number: int, key: rd.PartKey) -> bool:
        """Whether a part is still to be followed: it may be aborted, or its round over, meanwhile."""
        phase = self._machine.phase if self._machine else None
        if not isinstance(phase, mc.Running) or phase.round.number != number:
            return False
        return phase.round.legs[key].phase is rd.Phase.RUNNING

    def _follow(self, number: int, key: rd.PartKey, event: m.RoundEvent) -> None:
        match event:
            case m.UpdateReceived(client, examples, metrics):
                self._note_update(number, client, examples, metrics)
            case m.PartSealed(header, inline):
                if self._layout is not None:
                    check_part(header, inline, self.session, number, key, self._layout)
                self._take_inline(key, header, inline)
                self._decide(mc.PartSealed(number, key, header, self._now()))
            case m.RoundAborted():
                self._decide(mc.PartAborted(number, key, self._now()))
            case m.RoundOpened():
                pass  # the machine listed the same clients, or adopted the combiner's list

    def _note_update(
        self, number: int, client: ClientId, examples: int, metrics: Mapping[str, float]
    ) -> None:
        self._received[client] = examples
        clean = finite_metrics(metrics)
        if clean:
            self._metrics.append(MetricRow(self.session, number, "train", client, examples, clean))
        self._tell("update_received", round=number, client=client, examples=examples,
                   received=len(self._received), expected=self._expected)  # fmt: skip

    def _take_inline(self, key: rd.PartKey, header: PartHeader, inline: bytes) -> None:
        if inline and len(inline) == header.size:
            part = Part(header)
            part.write(inline)
            self._fetched[key] = part.vector()

    async def _fetch(self, number: int, key: rd.PartKey, header: PartHeader) -> None:
        """Get a part's bytes, resuming after a broken link; a part that is damaged is asked for again."""
        peer = self._find(key.combiner)
        if peer is not None and header.size and key not in self._fetched:
            try:
                part = Part(header)
                async with self._fetching:
                    await peer.call(key.incarnation, lambda link: part.receive(
                        link.fetch_part(m.FetchRequest(header.digest, part.offset))))  # fmt: skip
                vector = part.vector()
            except (NotFound, Damaged) as error:
                log.error(
                    "part unusable: %s", error.message, extra={"combiner": key.combiner, "round": number}
                )
                self._decide(mc.PartAborted(number, key, self._now()))
                return
            self._fetched[key] = vector
        self._decide(mc.PartFetched(number, key))

    def _merge(self, key: rd.PartKey) -> None:
        if self._merger is None and self._layout is not None:
            self._merger = PartMerger(self._layout, self._plan.averaging, self._aggregator)
        vector = self._fetched.pop(key, None)
        header = self._leg_header(key)
        if vector is not None and header is not None and self._merger is not None:
            self._merger.merge(key.combiner, vector, header.weight)

    def _leg_header(self, key: rd.PartKey) -> PartHeader | None:
        phase = self._machine.phase if self._machine else None
        if not isinstance(phase, mc.Running | mc.Committing):
            return None
        return phase.round.legs[key].header

    async def _commit(self, command: mc.CommitRound) -> None:
        """Retries while a store is out of reach; any other failure ends the session with its reason."""
        if self._merger is None or self._layout is None:
            self._decide(mc.CommitFailed("no update was merged"))
            return
        layout, now = self._layout, time.time()
        rows, self._metrics = self._metrics, []
        try:
            # Metrics first: after the record nobody would send them again.
            mean, _ = await asyncio.gather(
                asyncio.to_thread(self._merger.report), self._books.patiently(self._store.add_metrics, rows)
            )
            head = await self._books.patiently(self._committer.commit, command, self._head, layout, mean, now)
        except FednError as error:
            self._decide(mc.CommitFailed(error.message))
            return
        except Exception as error:
            log.exception("a commit failed", extra={"session": self.session, "round": command.round})
            self._decide(mc.CommitFailed(f"internal fault: {error}"))
            return
        self._head, self._inline = head, read_inline(self._models, head)
        contributors = sum(len(part.contributors) for part in command.parts)
        self._tell("round_committed", round=head.round, rounds=self._plan.rounds, model=head.model,
                   contributors=contributors, refused=[a.client for a in command.refused],
                   lost=[a.client for a in command.lost])  # fmt: skip
        self._decide(mc.RoundCommitted(head))

    async def _abort(self, key: rd.PartKey, abort: m.AbortRound) -> None:
        """Stop following the part first, so that a late RunRound does not open it after all."""
        if following := self._parts.pop(key, None):
            following.cancel()
            await asyncio.wait([following])
        if peer := self._find(key.combiner):
            await self._when_durable(_ignored(peer.call(key.incarnation, lambda link: link.abort(abort))))

    async def _release(self, number: int, combiner: CombinerName, client: ClientId) -> None:
        peer = self._find(combiner)
        if peer is None:
            return
        for key, opened in list(self._opened.items()):
            if key.combiner == combiner:
                await opened.wait()  # a release must not overtake the part that it asks about
        ask = m.ReleaseUpdate(self._term, self.session, number, client)
        if answer := await peer.call(peer.incarnation, lambda link: link.release(ask)):
            self._decide(mc.ReleaseAnswered(number, client, answer.folded))

    async def _admit(self, number: int, key: rd.PartKey, client: ClientId) -> None:
        peer = self._find(key.combiner)
        if peer is None:
            return
        if opened := self._opened.get(key):
            await opened.wait()
        ask = m.AdmitClient(self._term, self.session, number, key.part, client)
        if answer := await peer.call(key.incarnation, lambda link: link.admit(ask)):
            self._decide(mc.AdmitAnswered(number, key, client, answer.admitted))

    # --- validation ----------------------------------------------------------------------------------

    async def _validate(self, head: Head, inline: bytes) -> None:
        """Have every combiner's clients evaluate a committed model; store and tell what they report."""

        def spec_for(clients: tuple[ClientId, ...]) -> ValidationSpec:
            return ValidationSpec(
                self._term, self.session, head.round, head.model, head.model_size, clients,
                self._config, self._plan.seed, self._plan.validation_deadline, inline,
            )  # fmt: skip

        network = self._machine.network if self._machine else {}
        try:
            rows = await gather_metrics(filter(None, map(self._find, network)), spec_for)
            await self._books.patiently(self._store.add_metrics, rows)
            self._tell("round_validated", round=head.round, **summary(rows))
        except FednError as error:
            log.warning("validation of round %s failed: %s", head.round, error.message)
        finally:
            self._decide(mc.ValidationEnded(head.round))

    def _validation_missing(self) -> bool:
        """Whether the last round has no validation metrics: it was under way when a reducer died."""
        if not self._plan.validate or not self._head.round:
            return False
        rows = self._store.metrics(self.session, after=self._head.round - 1)
        return not any(row.kind == "validate" for row in rows)

    # --- telling -------------------------------------------------------------------------------------

    def _announce(self, phase: mc.Phase) -> None:
        match phase:
            case mc.Running(round_, "", False):
                listed = sorted(c for leg in round_.legs.values() for c in leg.clients)
                self._tell(
                    "round_opened", round=round_.number, rounds=self._plan.rounds, expected=len(listed)
                )
            case mc.Running(round_, reason):
                self._tell("waiting", round=round_.number, reason=reason)
            case mc.Waiting(reason) | mc.Paused(reason):
                self._tell("waiting", round=self._round, reason=reason)
            case mc.Ended(outcome, reason):
                self._spawn(self._close_books(outcome, reason))
            case mc.Planning() | mc.Committing() | mc.Finishing():
                pass
            case _:
                assert_never(phase)

    async def _close_books(self, outcome: str, reason: str) -> None:
        """The end is durable before it is told."""
        await self._books.close(outcome, reason)
        self._tell(f"session_{outcome}", reason=reason)
        self.ended.set()

    def _tell(self, event: str, **fields: Any) -> None:
        self._observer.observe(Observed(event, {"session": self.session, **fields}))

    # --- odds ----------------------------------------------------------------------------------------

    def _ask(self, combiner: CombinerName, ask: Callable[[CombinerLink], Awaitable[None]]) -> None:
        """A call whose answer nobody waits for."""
        if peer := self._find(combiner):
            self._spawn(_ignored(peer.call(peer.incarnation, ask)))

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[None]) -> None:
        """A task that failed in a way that nobody foresaw: it is logged, and the session goes on."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("session task failed: %s", error, exc_info=error, extra={"session": self.session})

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _ignored(call: Coroutine[Any, Any, object]) -> None:
    await call
