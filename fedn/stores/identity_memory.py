"""The memory twin of the identity store: the same promises as `fedn.stores.identity_sqlite`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from fedn.domain.identity import AuditNote, Member, Role, StoredEntry, Token
from fedn.stores import identity_rules as rules
from fedn.stores.rules import check_limit

_T = TypeVar("_T")


class MemoryIdentity:
    """An IdentityStore in dictionaries behind one lock. Durable as long as the object lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[str, Token] = {}
        self._members: dict[tuple[Role, str], Member] = {}
        self._audit: list[tuple[int, str, bytes]] = []

    def add_token(self, token: Token, note: AuditNote | None = None) -> None:
        token = rules.keepable_token(token)
        with self._lock:
            if known := self._tokens.get(token.token):
                rules.check_same(known, token)
                return
            self._write(note)
            self._tokens[token.token] = token

    def token(self, token: str) -> Token:
        with self._lock:
            return self._token(token)

    def tokens(self, limit: int = 1000) -> Sequence[Token]:
        with self._lock:
            return _newest(self._tokens.values(), lambda token: token.created_at, limit)

    def revoke_token(self, token: str, now: float, note: AuditNote | None = None) -> Token:
        with self._lock:
            revoked = rules.revoked_token(known := self._token(token), now)
            if revoked != known:
                self._write(note)
            self._tokens[token] = revoked
            return revoked

    def enroll(self, member: Member, now: float, note: AuditNote | None = None) -> Member:
        member = rules.keepable_member(member)
        with self._lock:
            known = self._members.get((member.role, member.member))
            alike = [
                each for each in self._members.values()
                if each.member == member.name or each.name == member.member
            ]  # fmt: skip
            token, member = rules.enrolled(self._token(member.token), member, known, alike, now)
            self._write(note)
            self._tokens[token.token] = token
            return self._put(member)

    def renew(
        self, role: Role, member: str, renewed_at: float, expires_at: float, note: AuditNote | None = None
    ) -> Member:
        with self._lock:
            renewed = rules.renewed(self._member(role, member), renewed_at, expires_at)
            self._write(note)
            return self._put(renewed)

    def member(self, role: Role, member: str) -> Member:
        with self._lock:
            return self._member(role, member)

    def members(self, limit: int = 1000) -> Sequence[Member]:
        with self._lock:
            return _newest(self._members.values(), lambda member: member.joined_at, limit)

    def revoked(self, now: float, limit: int = 1000) -> Sequence[Member]:
        with self._lock:
            found = [each for each in self._members.values() if each.revoked_at and each.expires_at > now]
        return _newest(found, lambda member: member.revoked_at, limit)

    def revoke_member(self, role: Role, member: str, now: float, note: AuditNote | None = None) -> Member:
        with self._lock:
            revoked = rules.revoked_member(known := self._member(role, member), now)
            if revoked != known:
                self._write(note)
            return self._put(revoked)

    def revoke_joined(
        self, token: str, now: float, note: Callable[[Member], AuditNote] | None = None
    ) -> Sequence[Member]:
        with self._lock:
            self._token(token)
            found = [each for each in self._members.values() if each.token == token and not each.revoked_at]
            found = _newest(found, lambda member: member.joined_at, max(1, len(found)))
            revoked = [rules.revoked_member(each, now) for each in found]
            if note:
                self._write(*map(note, revoked))
            return [self._put(member) for member in revoked]

    def append_audit(self, note: AuditNote) -> StoredEntry:
        with self._lock:
            return self._write(note)[0]

    def audit(self, after: int = 0, limit: int = 1000) -> Sequence[StoredEntry]:
        return [rules.read_audit(*row) for row in self.raw_audit(after, limit)]

    def raw_audit(self, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, str, bytes]]:
        limit = check_limit(limit)
        with self._lock:
            return [row for row in self._audit if row[0] > after][:limit]

    def forget_name(self, role: Role, member: str, note: AuditNote | None = None) -> Member:
        with self._lock:
            nameless = rules.nameless(known := self._member(role, member))
            if nameless != known:
                self._write(note)
            return self._put(nameless)

    def import_identity(
        self,
        tokens: Sequence[Token] = (),
        members: Sequence[Member] = (),
        audit: Sequence[tuple[int, str, bytes]] = (),
    ) -> None:
        tokens = [rules.keepable_token(token) for token in tokens]
        members = [rules.importable_member(member) for member in members]
        with self._lock:
            rows = {row[0]: row for row in self._audit}
            for row in audit:
                if rows.setdefault(row[0], row) != row:
                    raise rules.other_entry(row[0])
            self._audit = sorted(rows.values())
            self._tokens |= {token.token: token for token in tokens}
            self._members |= {(member.role, member.member): member for member in members}

    def _write(self, *notes: AuditNote | None) -> list[StoredEntry]:
        """Chain these notes, or none if one can't be kept: so this goes before whatever they are about."""
        written = list[StoredEntry]()
        newest = self._audit[-1][:2] if self._audit else None
        for note in filter(None, notes):
            written.append(stored := rules.next_entry(newest, note))
            newest = (stored.entry.number, stored.digest)
        self._audit += [(stored.entry.number, stored.digest, stored.raw) for stored in written]
        return written

    def _token(self, token: str) -> Token:
        try:
            return self._tokens[token]
        except KeyError:
            raise rules.no_token(token) from None

    def _member(self, role: Role, member: str) -> Member:
        try:
            return self._members[role, member]
        except KeyError:
            raise rules.no_member(role, member) from None

    def _put(self, member: Member) -> Member:
        self._members[member.role, member.member] = member
        return member


def _newest(items: Iterable[_T], moment: Callable[[_T], float], limit: int) -> list[_T]:
    """The newest first; of equal times the one added last comes first, as in sqlite."""
    return sorted(reversed(list(items)), key=moment, reverse=True)[: check_limit(limit)]
