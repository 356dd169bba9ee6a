"""Stored events in MongoDB, one document each, whose _id is its number; `fedn.stores.mongo` has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from pymongo import DeleteOne, ReplaceOne, UpdateOne

from fedn.domain.ids import ClientId
from fedn.ports import EventRow
from fedn.stores import mongo_documents as documents
from fedn.stores import rules
from fedn.stores.event_rows import Wanted, fields_text, forgetting, read_fields, traces
from fedn.stores.mongo_connection import MOST_ROWS, Document, MongoDatabase, Work


class MongoEvents:
    """Events in the database of a `MongoState`. ``fence`` gives the newest term, and holds it."""

    def __init__(self, database: MongoDatabase, fence: Callable[[Work], int]) -> None:
        self._database = database
        self._fence = fence

    def add(self, rows: Sequence[EventRow], term: int | None) -> None:
        changes = [ReplaceOne({"_id": row.number}, documents.event(row), upsert=True) for row in rows]

        def add(work: Work) -> None:
            if term is not None:
                rules.check_term(term, self._fence(work))
            self._database["events"].bulk_write(changes, ordered=False, session=work)

        if changes:
            self._database.transaction(add, rows=len(changes))

    def read(self, wanted: Wanted) -> Sequence[EventRow]:
        limit = documents.some(rules.check_limit(wanted.limit))
        order = -1 if wanted.newest else 1
        with self._database.answers(rows=limit):
            found = list(self._database["events"].find(_filter(wanted)).sort("_id", order).limit(limit))
        return [documents.read_event(one) for one in found[::order]]

    def trim(self, keep: int) -> None:
        with self._database.writes(rows=MOST_ROWS):
            events = self._database["events"]
            last = list(events.find({}, {"_id": 1}).sort("_id", -1).skip(keep).limit(1))
            if last:
                events.delete_many({"_id": {"$lte": last[0]["_id"]}})

    def drop(self, session: str) -> None:
        """Bounded and translated by the caller."""
        self._database["events"].delete_many({"session": session})

    def forget(self, client: ClientId, name: str) -> int:
        without, changes = forgetting(client, name), list[UpdateOne | DeleteOne]()
        either = "|".join(map(re.escape, traces(client, name)))
        with self._database.writes(rows=MOST_ROWS):
            events = self._database["events"]
            for one in events.find({"fields": {"$regex": either}}, {"fields": 1}):
                fields = read_fields(one["_id"], one["fields"])
                left, key = without(fields), {"_id": one["_id"]}
                if left is None:
                    changes.append(DeleteOne(key))
                elif left != fields:
                    changes.append(UpdateOne(key, {"$set": {"fields": fields_text(left)}}))
            if changes:
                events.bulk_write(changes, ordered=False)
        return len(changes)


def _filter(wanted: Wanted) -> Document:
    found: Document = {"_id": {"$gt": rules.clamp(wanted.after), "$lt": wanted.end}}
    if wanted.session:
        found["session"] = wanted.session
    if wanted.round is not None:
        found["round"] = rules.clamp(wanted.round)
    if wanted.names:
        found["event"] = {"$in": list(wanted.names)}
    return found
