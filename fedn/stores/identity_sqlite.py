"""Tokens, members and the audit log in the state store's SQLite file.

Every change reads, decides (`fedn.stores.identity_rules`) and writes in one transaction that other
processes wait for. Entries of the audit log are kept as the exact canonical bytes that were hashed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import Damaged
from fedn.domain.identity import MEMBERS, AuditNote, Member, Role, StoredEntry, Token
from fedn.domain.ids import Digest
from fedn.stores import identity_rules as rules
from fedn.stores.database import Database
from fedn.stores.rules import check_limit, clamp
from fedn.stores.schema import IDENTITY_VERSION

_TOKEN = (
    "SELECT token, role, name, labels, uses, used, created_at, expires_at, created_by, secret_digest, "  # noqa: S105
    "revoked_at FROM tokens"
)
_MEMBER = (
    "SELECT role, member, name, labels, key, token, joined_at, renewed_at, expires_at, "
    "revoked_at FROM members"
)


class SqliteIdentity:
    """An IdentityStore in the file of a `SqliteState`, which opens and closes it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_token(self, token: Token, note: AuditNote | None = None) -> None:
        token = rules.keepable_token(token)
        with self._database.write() as connection:
            added = connection.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                _token_columns(token),
            )
            if added.rowcount:
                _write(connection, note)
            else:
                rules.check_same(_token(connection, token.token), token)

    def token(self, token: str) -> Token:
        with self._database.read(IDENTITY_VERSION) as connection:
            return _token(connection, token)

    def tokens(self, limit: int = 1000) -> Sequence[Token]:
        query = f"{_TOKEN} ORDER BY created_at DESC, rowid DESC LIMIT ?"
        return [_read_token(row) for row in self._rows(query, check_limit(limit))]

    def revoke_token(self, token: str, now: float, note: AuditNote | None = None) -> Token:
        with self._database.write() as connection:
            revoked = rules.revoked_token(known := _token(connection, token), now)
            if revoked != known:
                connection.execute(
                    "UPDATE tokens SET revoked_at = ? WHERE token = ?", (revoked.revoked_at, token)
                )
                _write(connection, note)
        return revoked

    def enroll(self, member: Member, now: float, note: AuditNote | None = None) -> Member:
        member = rules.keepable_member(member)
        with self._database.write() as connection:
            known = _find_member(connection, member.role, member.member)
            alike = _alike(connection, member)
            token, member = rules.enrolled(_token(connection, member.token), member, known, alike, now)
            connection.execute("UPDATE tokens SET used = ? WHERE token = ?", (token.used, token.token))
            _put(connection, member)
            _write(connection, note)
        return member

    def renew(
        self, role: Role, member: str, renewed_at: float, expires_at: float, note: AuditNote | None = None
    ) -> Member:
        with self._database.write() as connection:
            renewed = rules.renewed(_member(connection, role, member), renewed_at, expires_at)
            _put(connection, renewed)
            _write(connection, note)
        return renewed

    def member(self, role: Role, member: str) -> Member:
        with self._database.read(IDENTITY_VERSION) as connection:
            return _member(connection, role, member)

    def members(self, limit: int = 1000) -> Sequence[Member]:
        query = f"{_MEMBER} ORDER BY joined_at DESC, rowid DESC LIMIT ?"
        return [_read_member(row) for row in self._rows(query, check_limit(limit))]

    def revoked(self, now: float, limit: int = 1000) -> Sequence[Member]:
        query = (
            f"{_MEMBER} WHERE revoked_at > 0 AND expires_at > ? ORDER BY revoked_at DESC, rowid DESC LIMIT ?"
        )
        return [_read_member(row) for row in self._rows(query, now, check_limit(limit))]

    def revoke_member(self, role: Role, member: str, now: float, note: AuditNote | None = None) -> Member:
        with self._database.write() as connection:
            revoked = rules.revoked_member(known := _member(connection, role, member), now)
            if revoked != known:
                _put(connection, revoked)
                _write(connection, note)
        return revoked

    def revoke_joined(
        self, token: str, now: float, note: Callable[[Member], AuditNote] | None = None
    ) -> Sequence[Member]:
        query = f"{_MEMBER} WHERE token = ? AND revoked_at = 0 ORDER BY joined_at DESC, rowid DESC"
        with self._database.write() as connection:
            _token(connection, token)
            found = [_read_member(row) for row in connection.execute(query, (token,)).fetchall()]
            revoked = [rules.revoked_member(member, now) for member in found]
            for member in revoked:
                _put(connection, member)
                _write(connection, note and note(member))
        return revoked

    def append_audit(self, note: AuditNote) -> StoredEntry:
        with self._database.write() as connection:
            return _append(connection, note)

    def audit(self, after: int = 0, limit: int = 1000) -> Sequence[StoredEntry]:
        return [rules.read_audit(*row) for row in self.raw_audit(after, limit)]

    def raw_audit(self, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, str, bytes]]:
        query = "SELECT number, digest, raw FROM audit WHERE number > ? ORDER BY number LIMIT ?"
        return self._rows(query, max(0, clamp(after)), check_limit(limit))

    def forget_name(self, role: Role, member: str, note: AuditNote | None = None) -> Member:
        with self._database.write() as connection:
            nameless = rules.nameless(known := _member(connection, role, member))
            if nameless != known:
                _put(connection, nameless)
                _write(connection, note)
        return nameless

    def import_identity(
        self,
        tokens: Sequence[Token] = (),
        members: Sequence[Member] = (),
        audit: Sequence[tuple[int, str, bytes]] = (),
    ) -> None:
        tokens = [rules.keepable_token(token) for token in tokens]
        members = [rules.importable_member(member) for member in members]
        with self._database.write() as connection:
            connection.executemany(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (token) DO UPDATE "
                "SET role = excluded.role, name = excluded.name, labels = excluded.labels, "
                "uses = excluded.uses, used = excluded.used, created_at = excluded.created_at, "
                "expires_at = excluded.expires_at, created_by = excluded.created_by, "
                "secret_digest = excluded.secret_digest, revoked_at = excluded.revoked_at",
                map(_token_columns, tokens),
            )
            for member in members:
                _put(connection, member)
            for row in audit:
                _import_entry(connection, row)

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._database.read(IDENTITY_VERSION) as connection:
            return connection.execute(query, values).fetchall()


def _token(connection: sqlite3.Connection, token: str) -> Token:
    row = connection.execute(f"{_TOKEN} WHERE token = ?", (token,)).fetchone()
    if row is None:
        raise rules.no_token(token)
    return _read_token(row)


def _member(connection: sqlite3.Connection, role: Role, member: str) -> Member:
    found = _find_member(connection, role, member)
    if found is None:
        raise rules.no_member(role, member)
    return found


def _find_member(connection: sqlite3.Connection, role: Role, member: str) -> Member | None:
    row = connection.execute(f"{_MEMBER} WHERE role = ? AND member = ?", (str(role), member)).fetchone()
    return None if row is None else _read_member(row)


def _put(connection: sqlite3.Connection, member: Member) -> None:
    connection.execute(
        "INSERT INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (role, member) DO UPDATE SET "
        "name = excluded.name, labels = excluded.labels, key = excluded.key, token = excluded.token, "
        "joined_at = excluded.joined_at, renewed_at = excluded.renewed_at, "
        "expires_at = excluded.expires_at, revoked_at = excluded.revoked_at",
        (str(member.role), member.member, member.name, _json(member.labels), member.key, member.token,
         member.joined_at, member.renewed_at, member.expires_at, member.revoked_at),
    )  # fmt: skip


def _alike(connection: sqlite3.Connection, member: Member) -> list[Member]:
    """Members whose id is this one's name, and some of those whose name is its id."""
    by_id = [_find_member(connection, role, member.name) for role in MEMBERS]
    query = f"{_MEMBER} WHERE name = ? AND revoked_at = 0 LIMIT 2"  # one may be the member itself
    called = connection.execute(query, (member.member,)).fetchall()
    return [*filter(None, by_id), *map(_read_member, called)]


def _write(connection: sqlite3.Connection, note: AuditNote | None) -> None:
    """Append the entry about a change, in the transaction of the change."""
    if note:
        _append(connection, note)


def _append(connection: sqlite3.Connection, note: AuditNote) -> StoredEntry:
    newest = connection.execute("SELECT number, digest FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    stored = rules.next_entry(newest, note)
    connection.execute("INSERT INTO audit VALUES (?, ?, ?)", (stored.entry.number, stored.digest, stored.raw))
    return stored


def _import_entry(connection: sqlite3.Connection, row: tuple[int, str, bytes]) -> None:
    if connection.execute("INSERT OR IGNORE INTO audit VALUES (?, ?, ?)", row).rowcount:
        return
    known = connection.execute("SELECT number, digest, raw FROM audit WHERE number = ?", row[:1]).fetchone()
    if known != tuple(row):
        raise rules.other_entry(row[0])


def _token_columns(token: Token) -> tuple[object, ...]:
    return (token.token, str(token.role), token.name, _json(token.labels), token.uses, token.used,
            token.created_at, token.expires_at, token.created_by, token.secret_digest,
            token.revoked_at)  # fmt: skip


def _json(labels: Mapping[str, str]) -> str:
    return canonical_json(dict(labels)).decode()


def _read_token(row: Sequence[Any]) -> Token:
    token, role, name, labels, uses, used, created_at, expires_at, created_by, digest, revoked_at = row
    return Token(token, _role(role, "token", token), name, _labels(labels, "token", token), uses, used,
                 created_at, expires_at, created_by, Digest(digest), revoked_at)  # fmt: skip


def _read_member(row: Sequence[Any]) -> Member:
    role, member, name, labels, key, *rest = row
    return Member(_role(role, "member", member), member, name, _labels(labels, "member", member),
                  Digest(key), *rest)  # fmt: skip


def _role(text: str, what: str, name: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise Damaged(f"the stored role of {what} {name} can't be read") from None


def _labels(text: str, what: str, name: str) -> Mapping[str, str]:
    try:
        labels = json.loads(text)
        if isinstance(labels, dict):
            return labels
    except (ValueError, TypeError, RecursionError):
        pass
    raise Damaged(f"the stored labels of {what} {name} can't be read")
