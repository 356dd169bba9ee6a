"""The memory twin of leadership: the same promises as `fedn.stores.leadership_sqlite`."""

from __future__ import annotations

import threading
import time

from fedn.ports import Lease
from fedn.stores import rules


class MemoryLeadership:
    """Who leads, behind the lock of the store whose ``term`` this is."""

    def __init__(self, lock: threading.Lock) -> None:
        self.term = 0
        self._lock = lock
        self._holder = ""
        self._until = 0.0

    def take(self, holder: str, seconds: float, instead_of: str = "") -> Lease:
        with self._lock:
            now = time.monotonic()
            if self._holder not in ("", holder, instead_of) and now < self._until:
                return Lease(self._holder, self.term, self._until - now)
            self.term, self._holder, self._until = self.term + 1, holder, now + seconds
            return Lease(holder, self.term, seconds)

    def renew(self, lease: Lease, seconds: float) -> None:
        with self._lock:
            if (lease.holder, lease.term) != (self._holder, self.term):
                raise rules.lease_lost(lease, self.term)
            self._until = time.monotonic() + seconds

    def give_up(self, lease: Lease) -> None:
        with self._lock:
            if (lease.holder, lease.term) == (self._holder, self.term):
                self._holder = ""

    def take_term(self) -> int:
        with self._lock:
            self.term, self._holder = self.term + 1, ""
            return self.term
