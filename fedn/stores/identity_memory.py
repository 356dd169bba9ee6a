"""The memory twin of the identity store: the same promises as `fedn.stores.identity_sqlite`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from fedn.domain.identity import Member, Role, StoredEntry, Token
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

    def add_token(self, token: Token) -> None:
        token = rules.keepable_token(token)
        with self._lock:
            rules.check_same(self._tokens.setdefault(token.token, token), token)

    def token(self, token: str) -> Token:
        with self._lock:
            return self._token(token)

    def tokens(self, limit: int = 1000) -> Sequence[Token]:
        with self._lock:
            return _newest(self._tokens.values(), lambda token: token.created_at, limit)

    def revoke_token(self, token: str, now: float) -> Token:
        with self._lock:
            self._tokens[token] = revoked = rules.revoked_token(self._token(token), now)
            return revoked

    def enroll(self, member: Member, now: float) -> Member:
        member = rules.keepable_member(member)
        with self._lock:
            known = self._members.get((member.role, member.member))
            token, member = rules.enrolled(self._token(member.token), member, known, now)
            self._tokens[token.token] = token
            return self._put(member)

    def renew(self, role: Role, member: str, renewed_at: float, expires_at: float) -> Member:
        with self._lock:
            return self._put(rules.renewed(self._member(role, member), renewed_at, expires_at))

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

    def revoke_member(self, role: Role, member: str, now: float) -> Member:
        with self._lock:
            return self._put(rules.revoked_member(self._member(role, member), now))

    def revoke_joined(self, token: str, now: float) -> Sequence[Member]:
        with self._lock:
            self._token(token)
            found = [each for each in self._members.values() if each.token == token and not each.revoked_at]
            revoked = [self._put(rules.revoked_member(each, now)) for each in found]
        return _newest(revoked, lambda member: member.joined_at, max(1, len(revoked)))

    def append_audit(
        self, at: float, actor: str, event: str, subject: str, details: Mapping[str, Any]
    ) -> StoredEntry:
        with self._lock:
            newest = self._audit[-1][:2] if self._audit else None
            stored = rules.next_entry(newest, at, actor, event, subject, details)
            self._audit.append((stored.entry.number, stored.digest, stored.raw))
            return stored

    def audit(self, after: int = 0, limit: int = 1000) -> Sequence[StoredEntry]:
        return [rules.read_audit(*row) for row in self.raw_audit(after, limit)]

    def raw_audit(self, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, str, bytes]]:
        after, limit = max(0, after), check_limit(limit)
        with self._lock:
            return self._audit[after : after + limit]  # entry n is at n - 1

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
