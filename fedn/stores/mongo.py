"""The StateStore in MongoDB, for networks that outgrow one machine or want a standby.

A commit is one transaction that compares and sets the head, adds the record, and touches the document of the
term: so of a commit and a new term that meet, one waits for the other and sees it. The trail is kept as the
exact canonical bytes that were hashed; what is nested is kept as canonical JSON. How documents look is in
`fedn.stores.mongo_documents`, connections are in `fedn.stores.mongo_connection`, and the rules that it shares
with the other stores in `fedn.stores.rules`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from bson import ObjectId
from pymongo import DeleteOne, ReplaceOne

from fedn.domain.ids import ClientId, Digest, SessionId
from fedn.domain.round import Head, StoredRecord, head_of
from fedn.ports import CombinerInfo, EventRow, MetricRow, ModelInfo, PackageInfo, SessionInfo
from fedn.stores import mongo_documents as documents
from fedn.stores import rules
from fedn.stores.event_rows import Wanted
from fedn.stores.mongo_connection import MOST_ROWS, Document, MongoDatabase, Work
from fedn.stores.mongo_events import MongoEvents
from fedn.stores.mongo_identity import MongoIdentity
from fedn.stores.mongo_leadership import MongoLeadership
from fedn.stores.mongo_records import MongoRecords
from fedn.stores.mongo_schema import STEPS, TERM, Steps

_NEWEST = [("created_at", -1), ("_id", -1)]
METRICS_AT_ONCE = 2000
"""Rows of one transaction."""


class MongoState:
    """A StateStore in a database of its own. Several processes may use it; one reducer is in charge."""

    def __init__(
        self, url: str, *, read_only: bool = False, steps: Steps = STEPS,
        environ: Mapping[str, str] = os.environ,
    ) -> None:  # fmt: skip
        self._database = MongoDatabase(url, read_only=read_only, steps=steps, environ=environ)
        self._records = MongoRecords(self._database)
        self.identity = MongoIdentity(self._database)
        self.leadership = MongoLeadership(self._database)
        self._events = MongoEvents(self._database, self._fence)

    # --- term

    def take_term(self) -> int:
        return self.leadership.take_term()

    def newest_term(self) -> int:
        return self.leadership.newest_term()

    def raise_term(self, term: int) -> None:
        self.leadership.raise_term(term)

    # --- sessions and their trails

    def add_session(self, info: SessionInfo, genesis: StoredRecord) -> None:
        rules.check_genesis(info, genesis)
        added = {"_id": ObjectId(), **documents.session(info)}

        def add(work: Work) -> None:
            rules.check_term(genesis.record.term, self._fence(work))
            if self._database["sessions"].find_one({"session": info.session}, session=work):
                raise rules.session_exists(info.session)
            if self._database["pruned"].find_one({"_id": info.head.model}, session=work):
                raise rules.was_pruned(info.head.model)
            self._database["sessions"].insert_one(added, session=work)
            self._records.add(genesis, work)

        self._database.transaction(add)

    def set_session_state(self, session: SessionId, state: str, reason: str, term: int) -> None:
        def change(work: Work) -> None:
            rules.check_term(term, self._fence(work))
            changed = self._database["sessions"].update_one(
                {"session": session}, {"$set": {"state": state, "reason": reason}}, session=work
            )
            if not changed.matched_count:
                raise rules.no_session(session)

        self._database.transaction(change)

    def session(self, session: SessionId) -> SessionInfo:
        with self._database.answers():
            found = self._database["sessions"].find_one({"session": session})
        if found is None:
            raise rules.no_session(session)
        return documents.read_session(found)

    def sessions(self) -> Sequence[SessionInfo]:
        with self._database.answers():
            found = list(self._database["sessions"].find().sort(_NEWEST))
        return [documents.read_session(one) for one in found]

    def commit_round(self, stored: StoredRecord, term: int) -> Head:
        rules.check_bytes(stored)
        record, head = stored.record, head_of(stored)
        before = {
            "session": record.session, "head_record": record.parent,
            "head_round": rules.clamp(record.round) - 1,
        }  # fmt: skip

        def commit(work: Work) -> Head:
            rules.check_term(term, self._fence(work))
            moved = self._database["sessions"].update_one(
                before, {"$set": documents.head(head)}, session=work
            )
            if moved.matched_count:
                self._records.add(stored, work)
                self._drop_left_behind(stored, work)
                self._database["pruned"].delete_one({"_id": head.model}, session=work)
                return head
            return self._settle_repeat(stored, work)

        return self._database.transaction(commit)

    def _drop_left_behind(self, stored: StoredRecord, work: Work) -> None:
        of_round = {"session": stored.record.session, "round": stored.record.round}
        found = self._database["metrics"].find(of_round, {"kind": 1, "client": 1, "_id": 0}, session=work)
        keys = rules.left_behind(stored, [(one["kind"], one["client"]) for one in found])
        if keys:
            gone = [DeleteOne({**of_round, "kind": kind, "client": client}) for kind, client in keys]
            self._database["metrics"].bulk_write(gone, ordered=False, session=work)

    def _settle_repeat(self, stored: StoredRecord, work: Work) -> Head:
        """The head did not move: either these very bytes are in the trail already, or it is a conflict."""
        session = stored.record.session
        found = self._database["sessions"].find_one({"session": session}, session=work)
        if found is None:
            raise rules.no_session(session)
        head = documents.read_head(found)
        known = self._records.raw(session, rules.clamp(stored.record.round), work)
        if known is None or known[2] != stored.raw:
            rules.refuse_commit(stored, head)
        return head

    def record(self, session: SessionId, round: int) -> StoredRecord:
        with self._database.answers():
            row = self._records.raw(session, rules.clamp(round))
        if row is None:
            raise rules.no_record(session, round)
        return rules.read_stored(session, *row)

    def records(self, session: SessionId, after: int = -1, limit: int = 1000) -> Sequence[StoredRecord]:
        return [rules.read_stored(session, *row) for row in self.raw_records(session, after, limit)]

    def raw_records(
        self, session: SessionId, after: int = -1, limit: int = 1000
    ) -> Sequence[tuple[int, str, bytes]]:
        limit = rules.check_limit(limit)
        with self._database.answers(rows=limit):
            rows = self._records.page(session, rules.clamp(after), limit)
            if not rows:
                self._check_exists({session})
        return rows

    def remove_session(self, session: SessionId) -> None:
        with self._database.writes(rows=MOST_ROWS):
            rules.check_over(session, self.session(session).state)
            # Apart from the rest: they may be more than one transaction bears, and what has ended stays so.
            self._database["metrics"].delete_many({"session": session})
            self._events.drop(session)

        def remove(work: Work) -> None:
            self._fence(work)  # metrics that are being added meet this
            found = self._database["sessions"].find_one_and_delete({"session": session}, session=work)
            if found is None:
                raise rules.no_session(session)
            rules.check_over(session, found["state"])
            self._records.drop(session, work)
            self._database["metrics"].delete_many({"session": session}, session=work)  # added since

        self._database.transaction(remove, rows=MOST_ROWS)

    def import_session(self, info: SessionInfo, rows: Sequence[tuple[int, str, bytes]], term: int) -> None:
        imported, new = documents.session(info), ObjectId()

        def take_over(work: Work) -> None:
            rules.check_term(term, self._fence(work))
            self._records.take_over(info.session, rows, work)
            there = self._database["sessions"].find_one_and_update(
                {"session": info.session}, {"$set": imported, "$setOnInsert": {"_id": new}},
                upsert=True, session=work,
            )  # fmt: skip
            if there:
                head = documents.read_head(there)
                near = self._records.near(info.session, head.round, work)
                rules.check_head_goes_on(info.session, head, info.head, near)

        self._database.transaction(take_over, rows=len(rows))

    # --- metrics

    def add_metrics(self, rows: Iterable[MetricRow], term: int) -> None:
        """In several transactions if there are many: each must end in the time that the server gives one."""
        kept = list({tuple(key.values()): (key, row) for key, row in map(documents.metrics, rows)}.values())
        for start in range(0, len(kept), METRICS_AT_ONCE):
            self._add_some(kept[start : start + METRICS_AT_ONCE], term)

    def _add_some(self, rows: Sequence[tuple[Document, Document]], term: int) -> None:
        changes = [ReplaceOne(key, key | row, upsert=True) for key, row in rows]

        def add(work: Work) -> None:
            rules.check_term(term, self._fence(work))
            self._check_exists({SessionId(key["session"]) for key, _ in rows}, work)
            self._database["metrics"].bulk_write(changes, ordered=False, session=work)

        self._database.transaction(add, rows=len(rows))

    def metrics(self, session: SessionId, after: int = -1, limit: int = 10_000) -> Sequence[MetricRow]:
        limit = rules.check_limit(limit)
        wanted = {"session": session, "round": {"$gt": rules.clamp(after)}}
        order = [("round", 1), ("kind", 1), ("client", 1)]
        with self._database.answers(rows=limit):
            found = list(self._database["metrics"].find(wanted).sort(order).limit(documents.some(limit)))
            if not found:
                self._check_exists({session})
        return [documents.read_metrics(one) for one in found]

    def forget_metrics(self, client: ClientId) -> int:
        with self._database.writes(rows=MOST_ROWS):
            return int(self._database["metrics"].delete_many({"client": client}).deleted_count)

    # --- events

    def add_events(self, rows: Sequence[EventRow], term: int | None = None) -> None:
        self._events.add(rows, term)

    def events(
        self, after: int = 0, limit: int = 1000, session: str = "", round: int | None = None,
        names: Collection[str] = (), newest: bool = False, before: int | None = None,
    ) -> Sequence[EventRow]:  # fmt: skip
        return self._events.read(Wanted(after, limit, session, round, names, newest, before))

    def trim_events(self, keep: int) -> None:
        self._events.trim(keep)

    def forget_events(self, client: ClientId, name: str = "") -> int:
        return self._events.forget(client, name)

    # --- what was removed on purpose

    def mark_pruned(self, digests: Collection[Digest], at: float) -> None:
        rules.check_time(at)

        def mark(work: Work) -> None:
            self._fence(work)  # a session that begins on one of them meets this, and sees the mark
            marks = self._database["pruned"]
            there = {one["_id"] for one in marks.find({"_id": {"$in": list(digests)}}, session=work)}
            if fresh := [{"_id": digest, "at": float(at)} for digest in set(digests) - there]:
                marks.insert_many(fresh, session=work)

        self._database.transaction(mark, rows=len(digests))

    def unmark_pruned(self, digests: Collection[Digest]) -> None:
        with self._database.writes(rows=len(digests)):
            self._database["pruned"].delete_many({"_id": {"$in": list(digests)}})

    def pruned(self, digest: Digest) -> float | None:
        with self._database.answers():
            found = self._database["pruned"].find_one({"_id": digest})
        return None if found is None else float(found["at"])

    def pruned_marks(self, after: str = "", limit: int = 1000) -> Sequence[tuple[Digest, float]]:
        limit = documents.some(rules.check_limit(limit))
        with self._database.answers(rows=limit):
            found = list(self._database["pruned"].find({"_id": {"$gt": after}}).sort("_id", 1).limit(limit))
        return [(Digest(one["_id"]), float(one["at"])) for one in found]

    # --- models, packages, combiners

    def add_model(self, info: ModelInfo) -> None:
        new, changed = documents.model(info)

        def add(work: Work) -> None:
            self._fence(work)
            self._database["pruned"].delete_one({"_id": info.digest}, session=work)
            self._database["models"].update_one(
                {"digest": info.digest}, {"$set": changed, "$setOnInsert": {"_id": ObjectId(), **new}},
                upsert=True, session=work,
            )  # fmt: skip

        self._database.transaction(add)

    def models(self, limit: int = 1000) -> Sequence[ModelInfo]:
        return [documents.read_model(one) for one in self._newest("models", limit)]

    def add_package(self, info: PackageInfo) -> None:
        new, changed = documents.package(info)
        with self._database.writes():
            self._database["packages"].update_one(
                {"digest": info.digest}, {"$set": changed, "$setOnInsert": {"_id": ObjectId(), **new}},
                upsert=True,
            )  # fmt: skip

    def package(self, digest: Digest) -> PackageInfo:
        with self._database.answers():
            found = self._database["packages"].find_one({"digest": digest})
        if found is None:
            raise rules.no_package(digest)
        return documents.read_package(found)

    def packages(self, limit: int = 1000) -> Sequence[PackageInfo]:
        return [documents.read_package(one) for one in self._newest("packages", limit)]

    def put_combiner(self, info: CombinerInfo) -> None:
        with self._database.writes():
            self._database["combiners"].replace_one(
                {"_id": info.combiner}, documents.combiner(info), upsert=True
            )

    def combiners(self) -> Sequence[CombinerInfo]:
        with self._database.answers():
            found = list(self._database["combiners"].find().sort("_id", 1))
        return [documents.read_combiner(one) for one in found]

    def close(self) -> None:
        self._database.close()

    # --- inside

    def _newest(self, collection: str, limit: int) -> list[Document]:
        limit = documents.some(rules.check_limit(limit))
        with self._database.answers(rows=limit):
            return list(self._database[collection].find().sort(_NEWEST).limit(limit))

    def _fence(self, work: Work) -> int:
        """The newest term. Of two transactions that ask for it one waits for the other."""
        return int(self._database.locked(TERM, work)["value"])

    def _check_exists(self, sessions: Collection[SessionId], work: Work | None = None) -> None:
        for session in sessions:
            if not self._database["sessions"].find_one({"session": session}, {"_id": 1}, session=work):
                raise rules.no_session(session)
