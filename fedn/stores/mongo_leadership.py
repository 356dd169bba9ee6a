"""Terms and the lease in MongoDB: one document, told the time by the server.

Every commit touches this document (`MongoDatabase.locked`), so a commit and a new term never pass unseen.
"""

from __future__ import annotations

from typing import Any

from pymongo import ReturnDocument

from fedn.domain.errors import StoreUnavailable
from fedn.ports import Lease
from fedn.stores import rules
from fedn.stores.mongo_connection import Document, MongoDatabase
from fedn.stores.mongo_schema import ABOUT, TERM

_SHOWN = {"value": 1, "holder": 1, "left": {"$subtract": ["$until", "$$NOW"]}}


class MongoLeadership:
    """Who leads. ``until`` is the server's time."""

    def __init__(self, database: MongoDatabase) -> None:
        self._database = database
        self._about = database[ABOUT]

    def take(self, holder: str, seconds: float, instead_of: str = "") -> Lease:
        free = {
            "_id": TERM,
            "$or": [
                {"holder": {"$in": ["", holder, instead_of]}},
                {"$expr": {"$lte": ["$until", "$$NOW"]}},
            ],
        }
        change = {"value": {"$add": ["$value", 1]}, "holder": {"$literal": holder}}
        with self._database.writes():
            taken = self._changed(free, [{"$set": change | {"until": _from_now(seconds)}}])
            found = taken or self._about.find_one({"_id": TERM}, _SHOWN)
        if found is None:
            raise StoreUnavailable(f"{self._database.where} has lost the document of its terms")
        left = seconds if taken else max(0.0, found["left"] / 1000)
        return Lease(found["holder"], int(found["value"]), left)

    def renew(self, lease: Lease, seconds: float) -> None:
        with self._database.writes():
            mine = {"_id": TERM, "value": lease.term, "holder": lease.holder}
            if self._changed(mine, [{"$set": {"until": _from_now(seconds)}}]):
                return
            found = self._about.find_one({"_id": TERM}) or {}
        raise rules.lease_lost(lease, int(found.get("value", 0)))

    def give_up(self, lease: Lease) -> None:
        with self._database.writes():
            mine = {"_id": TERM, "value": lease.term, "holder": lease.holder}
            self._about.update_one(mine, {"$set": {"holder": ""}})

    # --- terms

    def take_term(self) -> int:
        """The next term, whoever leads; who held the lease does not any more."""
        with self._database.writes():
            taken = self._changed({"_id": TERM}, {"$inc": {"value": 1}, "$set": {"holder": ""}})
        if taken is None:
            raise StoreUnavailable(f"{self._database.where} has lost the document of its terms")
        return int(taken["value"])

    def newest_term(self) -> int:
        with self._database.answers():
            found = self._about.find_one({"_id": TERM})
        return int(found["value"]) if found else 0

    def raise_term(self, term: int) -> None:
        with self._database.writes():
            self._about.update_one({"_id": TERM}, {"$max": {"value": term}})

    def _changed(self, wanted: Document, change: Any) -> Document | None:
        return self._about.find_one_and_update(wanted, change, return_document=ReturnDocument.AFTER)


def _from_now(seconds: float) -> dict[str, Any]:
    return {"$add": ["$$NOW", round(seconds * 1000)]}
