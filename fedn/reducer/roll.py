"""Who is in this network, in memory.

The control loop asks for every client that it hears of, and must not wait for a store: one that is out of
reach would stop all rounds. Only the reducer that leads lets members in and puts them out, so its
`registrar.py` can tell what changes; the rest is read now and then.
"""

from __future__ import annotations

from threading import Lock

from fedn.domain.identity import Member, Role
from fedn.ports import IdentityStore

ALL = 2**31 - 1


class Roll:
    """Names of members; of one that was revoked only that. Safe to use from many threads."""

    def __init__(self) -> None:
        self._names: dict[tuple[Role, str], str | None] = {}
        self._lock = Lock()

    def read(self, store: IdentityStore) -> None:
        """Everybody who is stored."""
        for member in store.members(ALL):
            self.note(member)

    def note(self, member: Member) -> None:
        """A member as it was stored just now. Nothing that is told late undoes a revocation."""
        key = member.role, member.member
        with self._lock:
            if self._names.get(key, "") is not None:
                self._names[key] = None if member.revoked_at else member.name

    def known_as(self, role: Role, member: str, _: str) -> str | None:
        """What somebody that the reducer hears of is called; None for no member: revoked, or never joined."""
        return self._names.get((role, member))
