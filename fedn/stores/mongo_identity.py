"""Tokens, members and the audit log in MongoDB.

Every change reads, decides (`fedn.stores.identity_rules`) and writes in one transaction, which begins by
touching a document of its own: so changes happen one after the other, and the audit log has no gap and no
fork. Its entries are kept as the exact canonical bytes that were hashed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from bson import ObjectId
from pymongo import UpdateOne

from fedn.domain.identity import MEMBERS, AuditNote, Member, Role, StoredEntry, Token
from fedn.stores import identity_rules as rules
from fedn.stores import mongo_documents as documents
from fedn.stores.mongo_connection import MOST_ROWS, Document, MongoDatabase, Work
from fedn.stores.rules import check_limit, clamp

T = TypeVar("T")

_LOCK = "identity"


class MongoIdentity:
    """An IdentityStore in the database of a `MongoState`, which opens and closes it."""

    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._tokens = database["tokens"]
        self._members = database["members"]
        self._audit = database["audit"]

    def add_token(self, token: Token, note: AuditNote | None = None) -> None:
        token = rules.keepable_token(token)

        def add(work: Work) -> None:
            if found := self._tokens.find_one({"token": token.token}, session=work):
                rules.check_same(documents.read_token(found), token)
                return
            self._tokens.insert_one({"_id": ObjectId(), **documents.token(token)}, session=work)
            self._write([note], work)

        self._change(add)

    def token(self, token: str) -> Token:
        with self._database.answers():
            return self._token(token)

    def tokens(self, limit: int = 1000) -> Sequence[Token]:
        limit = documents.some(check_limit(limit))
        with self._database.answers(rows=limit):
            found = list(self._tokens.find().sort([("created_at", -1), ("_id", -1)]).limit(limit))
        return [documents.read_token(one) for one in found]

    def revoke_token(self, token: str, now: float, note: AuditNote | None = None) -> Token:
        def revoke(work: Work) -> Token:
            revoked = rules.revoked_token(known := self._token(token, work), now)
            if revoked != known:
                self._put_tokens([revoked], work)
                self._write([note], work)
            return revoked

        return self._change(revoke)

    def enroll(self, member: Member, now: float, note: AuditNote | None = None) -> Member:
        asked = rules.keepable_member(member)

        def enroll(work: Work) -> Member:
            known = self._find_member(asked.role, asked.member, work)
            token, member = rules.enrolled(
                self._token(asked.token, work), asked, known, self._alike(asked, work), now
            )
            self._put_tokens([token], work)
            self._put_members([member], work)
            self._write([note], work)
            return member

        return self._change(enroll)

    def renew(
        self, role: Role, member: str, renewed_at: float, expires_at: float, note: AuditNote | None = None
    ) -> Member:
        def renew(work: Work) -> Member:
            renewed = rules.renewed(self._member(role, member, work), renewed_at, expires_at)
            self._put_members([renewed], work)
            self._write([note], work)
            return renewed

        return self._change(renew)

    def member(self, role: Role, member: str) -> Member:
        with self._database.answers():
            return self._member(role, member)

    def members(self, limit: int = 1000) -> Sequence[Member]:
        return self._newest({}, "joined_at", check_limit(limit))

    def revoked(self, now: float, limit: int = 1000) -> Sequence[Member]:
        wanted = {"revoked_at": {"$gt": 0}, "expires_at": {"$gt": now}}
        return self._newest(wanted, "revoked_at", check_limit(limit))

    def revoke_member(self, role: Role, member: str, now: float, note: AuditNote | None = None) -> Member:
        return self._changed_member(role, member, lambda known: rules.revoked_member(known, now), note)

    def forget_name(self, role: Role, member: str, note: AuditNote | None = None) -> Member:
        return self._changed_member(role, member, rules.nameless, note)

    def revoke_joined(
        self, token: str, now: float, note: Callable[[Member], AuditNote] | None = None
    ) -> Sequence[Member]:
        def revoke(work: Work) -> Sequence[Member]:
            self._token(token, work)
            found = self._members.find({"token": token, "revoked_at": 0}, session=work)
            known = map(documents.read_member, found.sort([("joined_at", -1), ("_id", -1)]))
            revoked = [rules.revoked_member(member, now) for member in known]
            self._put_members(revoked, work)
            self._write(map(note, revoked) if note else (), work)
            return revoked

        return self._change(revoke, rows=MOST_ROWS)

    # --- the audit log

    def append_audit(self, note: AuditNote) -> StoredEntry:
        return self._change(lambda work: self._write([note], work)[0])

    def audit(self, after: int = 0, limit: int = 1000) -> Sequence[StoredEntry]:
        return [rules.read_audit(*row) for row in self.raw_audit(after, limit)]

    def raw_audit(self, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, str, bytes]]:
        limit = documents.some(check_limit(limit))
        with self._database.answers(rows=limit):
            found = list(self._audit.find({"_id": {"$gt": clamp(after)}}).sort("_id", 1).limit(limit))
        return [_row(one) for one in found]

    # --- from another store

    def import_identity(
        self,
        tokens: Sequence[Token] = (),
        members: Sequence[Member] = (),
        audit: Sequence[tuple[int, str, bytes]] = (),
    ) -> None:
        tokens = [rules.keepable_token(token) for token in tokens]
        members = [rules.importable_member(member) for member in members]

        def take_over(work: Work) -> None:
            self._put_tokens(tokens, work)
            self._put_members(members, work)
            self._import_entries(audit, work)

        self._change(take_over, rows=len(tokens) + len(members) + len(audit))

    def _import_entries(self, rows: Sequence[tuple[int, str, bytes]], work: Work) -> None:
        fresh = dict[int, tuple[int, str, bytes]]()
        for row in rows:
            if fresh.setdefault(row[0], row) != row:
                raise rules.other_entry(row[0])
        for known in map(_row, self._audit.find({"_id": {"$in": list(fresh)}}, session=work)):
            if fresh.pop(known[0]) != known:
                raise rules.other_entry(known[0])
        self._insert(fresh.values(), work)

    # --- inside

    def _change(self, work: Callable[[Work], T], rows: int = 0) -> T:
        def change(session: Work) -> T:
            self._database.locked(_LOCK, session)
            return work(session)

        return self._database.transaction(change, rows)

    def _changed_member(
        self, role: Role, member: str, decide: Callable[[Member], Member], note: AuditNote | None
    ) -> Member:
        """A member as ``decide`` says; if that is no change, there is no entry either."""

        def change(work: Work) -> Member:
            changed = decide(known := self._member(role, member, work))
            if changed != known:
                self._put_members([changed], work)
                self._write([note], work)
            return changed

        return self._change(change)

    def _token(self, token: str, work: Work | None = None) -> Token:
        found = self._tokens.find_one({"token": token}, session=work)
        if found is None:
            raise rules.no_token(token)
        return documents.read_token(found)

    def _member(self, role: Role, member: str, work: Work | None = None) -> Member:
        found = self._find_member(role, member, work)
        if found is None:
            raise rules.no_member(role, member)
        return found

    def _find_member(self, role: Role, member: str, work: Work | None) -> Member | None:
        found = self._members.find_one({"role": str(role), "member": member}, session=work)
        return None if found is None else documents.read_member(found)

    def _alike(self, member: Member, work: Work) -> list[Member]:
        """Members whose id is this one's name, and some of those whose name is its id."""
        by_id = [self._find_member(role, member.name, work) for role in MEMBERS]
        wanted = {"name": member.member, "revoked_at": 0}  # of two, one may be the member itself
        called = self._members.find(wanted, session=work).limit(2)
        return [*filter(None, by_id), *map(documents.read_member, called)]

    def _newest(self, wanted: Document, moment: str, limit: int) -> Sequence[Member]:
        limit = documents.some(limit)
        with self._database.answers(rows=limit):
            found = list(self._members.find(wanted).sort([(moment, -1), ("_id", -1)]).limit(limit))
        return [documents.read_member(one) for one in found]

    def _put_tokens(self, tokens: Sequence[Token], work: Work) -> None:
        changes = [_put({"token": token.token}, documents.token(token)) for token in tokens]
        if changes:
            self._tokens.bulk_write(changes, session=work)

    def _put_members(self, members: Sequence[Member], work: Work) -> None:
        changes = [
            _put({"role": str(member.role), "member": member.member}, documents.member(member))
            for member in members
        ]
        if changes:
            self._members.bulk_write(changes, session=work)

    def _write(self, notes: Iterable[AuditNote | None], work: Work) -> list[StoredEntry]:
        """Append the entries about a change, in its transaction."""
        found = self._audit.find_one({}, {"digest": 1}, sort=[("_id", -1)], session=work)
        newest = (int(found["_id"]), found["digest"]) if found else None
        written = list[StoredEntry]()
        for note in filter(None, notes):
            written.append(stored := rules.next_entry(newest, note))
            newest = stored.entry.number, stored.digest
        self._insert([(stored.entry.number, stored.digest, stored.raw) for stored in written], work)
        return written

    def _insert(self, rows: Iterable[tuple[int, str, bytes]], work: Work) -> None:
        added = [{"_id": number, "digest": digest, "raw": raw} for number, digest, raw in rows]
        if added:
            self._audit.insert_many(added, session=work)


def _row(found: Document) -> tuple[int, str, bytes]:
    return int(found["_id"]), found["digest"], found["raw"]


def _put(key: Document, document: Document) -> UpdateOne:
    """_id, by which equal times are ordered, stays that of the first time."""
    return UpdateOne(key, {"$set": document, "$setOnInsert": {"_id": ObjectId()}}, upsert=True)
