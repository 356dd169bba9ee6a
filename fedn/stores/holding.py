"""Leading a state store without being its reducer, for as long as a command writes there.

The lease is kept by a thread of its own, since one blob may take longer than the lease lasts. Who loses it
all the same is refused by the store, by its term.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fedn.domain.errors import Conflict, StaleTerm, StoreUnavailable
from fedn.ports import Leadership, Lease, StateStore
from fedn.stores.holders import is_dead, own_name, shown

SECONDS = 15.0
"""How long the lease lasts; so long a reducer waits for a command that was killed on another machine."""
RENEWALS = 3
"""How many times it is renewed while it lasts."""

log = logging.getLogger("fedn.stores")


class Lead:
    """A lease that is being kept."""

    def __init__(self, leadership: Leadership, lease: Lease, seconds: float) -> None:
        self.term = lease.term
        self._leadership = leadership
        self._lease = lease
        self._seconds = seconds
        self._lost: StaleTerm | None = None
        self._over = threading.Event()

    def check(self) -> None:
        """Raises StaleTerm once another leads."""
        if self._lost:
            raise StaleTerm(f"another leads these stores now ({self._lost.message}): nothing more is written")

    def keep(self) -> None:
        """Renew the lease until `end`. While the store is away nobody else can lead either."""
        while not self._over.wait(self._seconds / RENEWALS):
            try:
                self._leadership.renew(self._lease, self._seconds)
            except StoreUnavailable as error:
                log.debug("the lease can't be renewed: %s", error.message)
            except StaleTerm as error:
                self._lost = error
                return

    def end(self) -> None:
        self._over.set()


@contextmanager
def leading(state: StateStore, beyond: int, seconds: float = SECONDS) -> Iterator[Lead]:
    """Lead while this block runs, in a term higher than ``beyond``. Raises Conflict if another leads."""
    lease = _taken(state.leadership, seconds)
    if lease.term <= beyond:
        state.raise_term(beyond)
        lease = _taken(state.leadership, seconds)
    lead = Lead(state.leadership, lease, seconds)
    keeper = threading.Thread(target=lead.keep, name="lease", daemon=True)
    keeper.start()
    try:
        yield lead
    finally:
        lead.end()
        keeper.join()
        with suppress(StoreUnavailable):  # then it ends by itself
            state.leadership.give_up(lease)


def _taken(leadership: Leadership, seconds: float) -> Lease:
    own = own_name()
    lease = leadership.take(own, seconds)
    if lease.holder != own and is_dead(lease.holder):
        lease = leadership.take(own, seconds, lease.holder)
    if lease.holder != own:
        raise Conflict(
            f"{shown(lease.holder)} leads the target, a reducer or another copy, for {lease.left:.0f} s or "
            "longer. Nothing was changed; stop it, and run this again", holder=lease.holder,
        )  # fmt: skip
    return lease
