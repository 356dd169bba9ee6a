"""Writes the audit log: what was done, at once, and what was refused, a bounded share of it.

`gate.py` and `registrar.py` write here; the chain itself is the store's (`fedn.ports.IdentityStore`).
"""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

from fedn.domain.errors import FednError
from fedn.domain.identity import AuditNote, Principal, Role
from fedn.domain.rates import Rate
from fedn.ports import IdentityStore

log = logging.getLogger(__name__)

EVERY_SECONDS = 60.0
"""Of refusals of one kind, to one address and actor, the log has one entry in so long, with their number."""
ENTRIES_PER_SECOND, ENTRIES_AT_ONCE = 0.2, 100
"""Entries about refusals of those who have shown who they are, and as many about strangers: neither may
fill the disk, and strangers must not use up the entries of the others."""
ELSEWHERE = "many"
"""Instead of an address, in the entry that counts what would have been too many entries."""
TEXT = 300

Scalar = str | int | float | bool


class _Key(NamedTuple):
    """Refusals that are counted together. ``actor`` is '' for everybody who has not shown who they are."""

    address: str
    event: str
    actor: str = ""


@dataclass(slots=True)
class _Counted:
    """Refusals since ``at``, when the log heard of them last."""

    at: float
    actor: str
    subject: str
    more: int = 0


class Auditor:
    """Thread-safe. Raises what the store raises, except about refusals, which are refusals all the same."""

    def __init__(self, store: IdentityStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._lock = Lock()
        self._counted: dict[_Key, _Counted] = {}
        self._rates = {known: Rate(ENTRIES_PER_SECOND, ENTRIES_AT_ONCE) for known in (True, False)}

    def write(self, actor: Principal | str, event: str, subject: str, **details: Scalar) -> None:
        """One entry, durable when this returns."""
        self._store.append_audit(self.note(actor, event, subject, **details))

    def note(self, actor: Principal | str, event: str, subject: str, **details: Scalar) -> AuditNote:
        """What `write` would write now, for the store to keep in one step with the change it is about."""
        short = {name: value[:TEXT] if isinstance(value, str) else value for name, value in details.items()}
        if isinstance(actor, Principal) and actor.token:
            short["by"] = actor.token  # several tokens may have one name
        return AuditNote(self._clock(), str(actor)[:TEXT], event, subject[:TEXT], short)

    def refused(
        self, address: str, event: str, actor: Principal | str, subject: str, reason: str,
        *, known: bool = False,
    ) -> None:  # fmt: skip
        """Write, or count, that somebody at ``address`` was refused.

        ``known``: that it was ``actor`` is not only what they say. All others are counted by address alone.
        """
        now, first = self._clock(), False
        key = _Key(address, event, str(actor) if known else "")
        with self._lock:
            due = self._due(now)
            if counted := self._counted.get(key):
                counted.more += 1
            elif first := self._rates[known].take(now):
                self._counted[key] = _Counted(now, str(actor), subject)
            else:
                self._count_elsewhere(event, now, 1)
        self._write_counts(due)
        if first:
            self._try(str(actor), event, subject, address=address, reason=reason, count=1)

    def flush(self, all_of_it: bool = False) -> None:
        """Write the counts whose minute is over. Call it now and then, and with True at the end."""
        with self._lock:
            due = self._due(self._clock(), 0.0 if all_of_it else EVERY_SECONDS)
        self._write_counts(due)

    def _due(self, now: float, seconds: float = EVERY_SECONDS) -> list[tuple[_Key, _Counted]]:
        """What is to be written now. Who was quiet for a minute is forgotten."""
        due = []
        for key, counted in list(self._counted.items()):
            if now - counted.at < seconds:
                continue
            del self._counted[key]
            if not counted.more:
                continue
            if key.address == ELSEWHERE or seconds == 0.0 or self._rates[key.actor != ""].take(now):
                due.append((key, counted))
                self._counted[key] = _Counted(now, counted.actor, counted.subject)
            else:
                self._count_elsewhere(key.event, now, counted.more)
        return due

    def _count_elsewhere(self, event: str, now: float, more: int) -> None:
        self._counted.setdefault(_Key(ELSEWHERE, event), _Counted(now, ELSEWHERE, "")).more += more

    def _write_counts(self, due: list[tuple[_Key, _Counted]]) -> None:
        for key, counted in due:
            self._try(counted.actor, key.event, counted.subject,
                      address=key.address, reason="again", count=counted.more)  # fmt: skip

    def _try(self, actor: str, event: str, subject: str, **details: Scalar) -> None:
        try:
            self.write(actor, event, subject, **details)
        except FednError as error:
            log.error("a refusal is not in the audit log: %s", error.message)


def stranger(address: str) -> Principal:
    """Somebody who has not said who they are."""
    return Principal(Role.NOBODY, address)


def address_of(remote: str | None) -> str:
    """The address to count somebody by; of IPv6 the network of 64 bits, which one has to oneself."""
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
