"""Has clients check, before their first round, that they can do a session's work.

Between `driver.py`, whose machine sees only clients that are fit, and the combiners; who is fit is decided
in `preflight.py`. What fit clients found (numbers alone) is kept with the session's metrics, as kind 'check'
of round 0, so a restarted reducer does not ask them again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeGuard

from fedn.domain import messages as m
from fedn.domain.errors import FednError
from fedn.domain.ids import ClientId, CombinerName, SessionId
from fedn.domain.round import ValidationSpec
from fedn.domain.update import finite_metrics
from fedn.ports import MetricRow, StateStore
from fedn.reducer.network import Network
from fedn.reducer.peers import Peer
from fedn.reducer.preflight import Preflight
from fedn.tasks import Tasks

log = logging.getLogger("fedn.reducer")

KIND = "check"
TOGETHER_SECONDS = 30.0
"""So long the first round waits for clients that are still checking."""
AGAIN_SECONDS = 5.0
"""Until a client that did not answer is asked again."""


class Checking:
    """One session's checks. ``changed`` is called when somebody may take part, or is found not to."""

    def __init__(
        self,
        session: SessionId,
        store: StateStore,
        find: Callable[[CombinerName], Peer | None],
        spec_for: Callable[[tuple[ClientId, ...]], ValidationSpec],
        tell: Callable[..., None],
        changed: Callable[[], None],
    ) -> None:
        self._session = session
        self._store = store
        self._find = find
        self._spec_for = spec_for
        self._tell = tell
        self._changed = changed
        self._state = Preflight()
        self._network: Network = {}
        self._closed = False
        self._tasks = Tasks()
        self._timer: asyncio.TimerHandle | None = None
        self._wait: asyncio.TimerHandle | None = None

    def read_known(self) -> None:
        """Who was found fit before a restart. Blocking."""
        rows = (row for row in self._store.metrics(self._session) if row.round == 0 and row.kind == KIND)
        known = frozenset(row.client for row in rows)
        self._state = Preflight(fit=known, together=not known)

    def seen(self, network: Network) -> Network:
        """The network has changed: check whoever is new; returns it as the session may see it."""
        self._network = network
        if not self._closed:
            self._ask()
        return self.view

    @property
    def view(self) -> Network:
        return self._state.view(self._network)

    @property
    def reason(self) -> str:
        return self._state.reason

    @property
    def unfit(self) -> Mapping[ClientId, str]:
        """Who can't take part, and why."""
        return self._state.unfit

    def _ask(self) -> None:
        self._state, asks = self._state.to_ask(self._network)
        for combiner, clients in asks.items():
            self._tasks.start(self._asked(combiner, clients))
        if asks and self._state.together and self._wait is None:
            self._wait = asyncio.get_running_loop().call_later(TOGETHER_SECONDS, self._hurry)

    def _hurry(self) -> None:
        self._state = self._state.hurried()
        self._changed()

    async def _asked(self, combiner: CombinerName, clients: tuple[ClientId, ...]) -> None:
        """Follow one combiner's clients until each has answered, left, or taken too long."""
        open_ = set(clients)
        try:
            if peer := self._find(combiner):
                spec = self._spec_for(clients)
                async for event in peer.stream(peer.incarnation, lambda link: link.run_validation(spec)):
                    if _answers(event) and event.client in open_:
                        open_.discard(event.client)
                        await self._heard(event, spec.term)
        except FednError as error:
            log.info("checks at %s ended: %s", combiner, error.message, extra={"session": self._session})
        finally:
            self._state = self._state.unanswered(frozenset(open_))
            if not self._closed:
                self._again_later()
                self._changed()

    async def _heard(self, event: m.ModelValidated | m.ClientFailed, term: int) -> None:
        if isinstance(event, m.ClientFailed):
            self._state = self._state.failed(event.client, event.reason)
            self._tell("client_unfit", client=event.client, reason=event.reason)
        else:
            facts = finite_metrics(event.metrics)
            row = MetricRow(self._session, 0, KIND, event.client, event.examples, facts)
            with suppress(FednError):  # not kept: it is checked once more after a restart
                await asyncio.to_thread(self._store.add_metrics, [row], term)
            self._state = self._state.passed(event.client)
            self._tell("client_fit", client=event.client, examples=event.examples, found=facts)
        self._changed()

    def _again_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._again)

    def _again(self) -> None:
        self._timer = None
        self._ask()

    def stop(self) -> None:
        """The session has ended: nobody is asked any more."""
        self._closed = True
        for timer in filter(None, (self._timer, self._wait)):
            timer.cancel()
        self._tasks.cancel()

    async def close(self) -> None:
        self.stop()
        await self._tasks.close()


def _answers(event: m.ValidationEvent) -> TypeGuard[m.ModelValidated | m.ClientFailed]:
    """Whether it says that a client can or can't. One that left has said neither."""
    return isinstance(event, m.ModelValidated) or (isinstance(event, m.ClientFailed) and not event.left)
