"""A trail's records in MongoDB: the very bytes that were hashed, whatever their length.

A document may have 16 MB, a record of a hundred thousand contributors more: what does not fit into its first
document follows in pieces. All writes belong to the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from fedn.domain.ids import SessionId
from fedn.domain.round import StoredRecord
from fedn.stores import rules
from fedn.stores.mongo_connection import Document, MongoDatabase, Work
from fedn.stores.mongo_documents import some

PIECE_BYTES = 8 * 2**20
Row: TypeAlias = tuple[int, str, bytes]
"""(round, stored digest, stored bytes)"""


class MongoRecords:
    """Rows of the trails in a database. Reading and writing is bounded and translated by the caller."""

    def __init__(self, database: MongoDatabase) -> None:
        self._records = database["records"]
        self._pieces = database["pieces"]

    def add(self, stored: StoredRecord, work: Work) -> None:
        self._insert(stored.record.session, [(stored.record.round, stored.digest, stored.raw)], work)

    def take_over(self, session: SessionId, rows: Sequence[Row], work: Work) -> None:
        """Add rows as they are; the very same that are there stay. Raises Conflict for others."""
        known = dict[int, Row]()
        for row in rows:
            if known.setdefault(row[0], row) != row:
                raise rules.other_record(session, row[0])
        wanted = {"session": session, "round": {"$in": list(known)}}
        for found in self._rows(wanted, len(known) or 1, work):
            if known.pop(found[0]) != found:
                raise rules.other_record(session, found[0])
        self._insert(session, list(known.values()), work)

    def raw(self, session: SessionId, round: int, work: Work | None = None) -> Row | None:
        rows = self._rows({"session": session, "round": round}, 1, work)
        return rows[0] if rows else None

    def near(self, session: SessionId, round: int, work: Work) -> dict[int, bytes]:
        """The bytes of a round and of the next one, as far as they are there."""
        wanted = {"session": session, "round": {"$in": [round, round + 1]}}
        return {number: raw for number, _, raw in self._rows(wanted, 2, work)}

    def page(self, session: SessionId, after: int, limit: int) -> list[Row]:
        """Rows of rounds > after, oldest first."""
        return self._rows({"session": session, "round": {"$gt": after}}, limit, None)

    def drop(self, session: SessionId, work: Work) -> None:
        for collection in (self._pieces, self._records):
            collection.delete_many({"session": session}, session=work)

    def _rows(self, wanted: Document, limit: int, work: Work | None) -> list[Row]:
        found = self._records.find(wanted, session=work).sort("round", 1).limit(some(limit))
        return [(int(one["round"]), one["digest"], self._whole(one, work)) for one in found]

    def _whole(self, found: Document, work: Work | None) -> bytes:
        raw: bytes = found["raw"]
        if found.get("pieces"):
            wanted = {"session": found["session"], "round": found["round"]}
            pieces = self._pieces.find(wanted, session=work).sort("piece", 1)
            raw += b"".join(piece["raw"] for piece in pieces)
        return raw

    def _insert(self, session: SessionId, rows: Sequence[Row], work: Work) -> None:
        records, pieces = [], []
        for number, digest, raw in rows:
            key = {"session": session, "round": number}
            rest = range(PIECE_BYTES, len(raw), PIECE_BYTES)
            records.append({**key, "digest": digest, "raw": raw[:PIECE_BYTES], "pieces": len(rest)})
            pieces += [
                {**key, "piece": place, "raw": raw[start : start + PIECE_BYTES]}
                for place, start in enumerate(rest)
            ]
        for collection, documents in ((self._records, records), (self._pieces, pieces)):
            if documents:
                collection.insert_many(documents, session=work)
