"""A session and its stores: created there, patient while one is out of reach, its end the last word."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TypeVar

from fedn.domain.errors import Conflict, FednError, LinkBroken, StoreUnavailable, Unavailable
from fedn.domain.ids import Digest, SessionId
from fedn.domain.plan import Plan
from fedn.domain.round import GENESIS_PARENT, RoundRecord, head_of, store_record
from fedn.ports import MetricRow, SessionInfo, StateStore

log = logging.getLogger("fedn.reducer")
T = TypeVar("T")

RUNNING, PAUSED = "running", "paused"
"""States of a stored session that a restarted reducer goes on with."""
PAUSE_FIRST, PAUSE_MOST = 0.1, 5.0
"""Seconds between tries."""


def create(store: StateStore, term: int, name: str, model: Digest, size: int, plan: Plan) -> SessionInfo:
    """Keep a new session on a seed model, with its round-0 record. Blocking."""
    session = SessionId(f"s-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}")
    now = time.time()
    genesis = store_record(RoundRecord(
        session=session, round=0, parent=GENESIS_PARENT, base_model=model, model=model, model_size=size,
        plan=plan.as_dict(), plan_digest=plan.digest, term=term, committed_at=now,
    ))  # fmt: skip
    info = SessionInfo(session, name[:200] or session, plan, RUNNING, "", now, head_of(genesis))
    store.add_session(info, genesis)
    return info


Waiting = Callable[[str], None]
"""Told why something has to be tried again, and with an empty reason that it went."""


async def patiently(waiting: Waiting, work: Callable[..., T], *arguments: object) -> T:
    """Read or write in a worker thread, again and again while a store is out of reach or full."""
    pause = PAUSE_FIRST
    while True:
        try:
            done = await asyncio.to_thread(work, *arguments)
            waiting("")
            return done
        except StoreUnavailable as error:
            waiting(error.message)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(PAUSE_MOST, pause * 2)


def logged(what: str, session: SessionId) -> Waiting:
    """Says in the log why ``what`` has to wait."""

    def waiting(reason: str) -> None:
        if reason:
            log.warning("%s is tried again: %s", what, reason, extra={"session": session})

    return waiting


class Books:
    """One session's books. ``closed`` is set once the session's end is durable."""

    def __init__(self, store: StateStore, session: SessionId, term: int, waiting: Waiting) -> None:
        self.closed = asyncio.Event()
        self._store = store
        self._session = session
        self._term = term
        self._waiting = waiting
        self._ending = False
        self._one_at_a_time = asyncio.Lock()

    async def patiently(self, work: Callable[..., T], *arguments: object) -> T:
        """As the function of this name, with the session's own word for why it waits."""
        return await patiently(self._waiting, work, *arguments)

    async def measured(self, rows: Sequence[MetricRow]) -> None:
        """Keep what clients measured."""
        await self.patiently(self._store.add_metrics, rows, self._term)

    async def note(self, state: str, reason: str) -> None:
        """Keep that the session runs or is paused. Raises Conflict when it has ended."""
        async with self._one_at_a_time:
            if self._ending:
                raise Conflict("the session has ended; start another one on its model")
            await self.patiently(self._store.set_session_state, self._session, state, reason, self._term)

    async def close(self, outcome: str, reason: str) -> None:
        """Keep how the session ended; nothing else is noted after that."""
        self._ending = True
        async with self._one_at_a_time:
            await self.patiently(self._store.set_session_state, self._session, outcome, reason, self._term)
        self.closed.set()


class Hindrances:
    """What keeps a session waiting beside its own rounds, such as a full disk, by whose it is."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """``tell`` is told each reason once, and again only when it comes back."""
        self._tell = tell
        self._reasons: dict[str, str] = {}

    def note(self, source: str, reason: str) -> None:
        """Empty: nothing hinders there any more."""
        if not reason:
            self._reasons.pop(source, None)
        elif self._reasons.get(source) != reason:
            self._reasons[source] = reason
            self._tell(reason)

    def blame(self, combiner: str, error: FednError) -> None:
        """Note what a combiner answered instead of what it was asked for, or that it did not."""
        what = (
            f" is out of reach ({error.message})" if isinstance(error, LinkBroken) else f": {error.message}"
        )
        self.note(combiner, f"combiner {combiner}{what}")

    async def noted(self, combiner: str, events: AsyncIterator[T]) -> AsyncIterator[T]:
        """A combiner's stream; why it has to be asked for again is noted until its next event."""
        try:
            async for event in events:
                self.note(combiner, "")
                yield event
        except Unavailable as error:
            self.blame(combiner, error)
            raise

    @property
    def reasons(self) -> dict[str, str]:
        """What is noted just now, by whose it is."""
        return dict(self._reasons)

    def joined(self, reason: str) -> str:
        """``reason`` and all that is noted, as one sentence for people."""
        return "; ".join(filter(None, [reason, *self._reasons.values()]))
