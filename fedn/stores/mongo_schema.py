"""The collections of a state store in MongoDB, a step for every version, and how a database takes them.

Steps that were released are never changed. Making collections and indexes is no transaction in MongoDB, so
a step has to bear being taken twice, also by two processes at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.database import Database
from pymongo.errors import OperationFailure

from fedn.domain.errors import Incompatible, InvalidConfig, NotFound

ABOUT = "fedn"
"""The collection that tells our databases from others'; it holds the two documents below."""
SCHEMA, TERM = "schema", "term"
THERE_ALREADY = 48
"""MongoDB's code for making a collection that exists."""

Step: TypeAlias = Mapping[str, Sequence[IndexModel]]
"""Collections with the indexes that they get."""
Steps: TypeAlias = Sequence[Step]


def _index(*keys: str, **options: Any) -> IndexModel:
    """An index on ``keys``; one that begins with - descends."""
    fields = [(key.lstrip("-"), DESCENDING if key.startswith("-") else ASCENDING) for key in keys]
    return IndexModel(fields, **options)


STEPS: Steps = (
    {
        # _id is made by who inserts: of equal times it says what was added last.
        "sessions": [_index("session", unique=True), _index("-created_at", "-_id")],
        # The digest is taken over raw, exactly as it is kept here.
        "records": [_index("session", "round", unique=True)],
        # What does not fit into the document of its record.
        "pieces": [_index("session", "round", "piece", unique=True)],
        "metrics": [_index("session", "round", "kind", "client", unique=True), _index("client")],
        "pruned": [],
        "models": [_index("digest", unique=True), _index("-created_at", "-_id")],
        "packages": [_index("digest", unique=True), _index("-created_at", "-_id")],
        "combiners": [],
        "tokens": [_index("token", unique=True), _index("-created_at", "-_id")],
        "members": [
            _index("role", "member", unique=True), _index("-joined_at", "-_id"), _index("name"),
            _index("token"),
            _index("-revoked_at", "-_id", partialFilterExpression={"revoked_at": {"$gt": 0}}),
        ],
        # As with records, the digest is taken over raw. _id is the entry's number.
        "audit": [],
    },
    # 2: what happened. _id is the event's number.
    {"events": [_index("session", "_id")]},
)  # fmt: skip


def prepare(database: Database[dict[str, Any]], where: str, steps: Steps = STEPS) -> None:
    """Check whose database it is and that it may be written, and take the steps that it lacks."""
    version = version_of(database, where, len(steps))  # before anything is changed
    about = database[ABOUT]
    if not version:
        about.update_one({"_id": SCHEMA}, {"$setOnInsert": {"version": 0}}, upsert=True)
        fresh = {"value": 0, "holder": "", "writes": 0}
        about.update_one({"_id": TERM}, {"$setOnInsert": fresh}, upsert=True)
    for number in range(version or 0, len(steps)):
        for name, indexes in steps[number].items():
            _collect(database, name)
            if indexes:
                database[name].create_indexes(list(indexes))
        about.update_one({"_id": SCHEMA, "version": number}, {"$set": {"version": number + 1}})
    # Who may not write learns it now, and not in the first round.
    about.update_one({"_id": SCHEMA}, {"$currentDate": {"opened_at": True}})


def check(database: Database[dict[str, Any]], where: str, newest: int = len(STEPS)) -> None:
    """For who only reads: it is ours, and of this version."""
    version = version_of(database, where, newest)
    if version is None:
        raise NotFound(f"{where} holds no state store")
    if version < newest:
        raise Incompatible(
            f"{where} has schema version {version}, from before fedn kept all of this: start this fedn's "
            "reducer on it once, which adds what is missing", version=version,
        )  # fmt: skip


def version_of(database: Database[dict[str, Any]], where: str, newest: int) -> int | None:
    """The schema version; None is an empty database. Refuses newer ones and other programs' databases."""
    found = database[ABOUT].find_one({"_id": SCHEMA})
    if found is None:
        names = {name for name in database.list_collection_names() if not name.startswith("system.")}
        if not names - {ABOUT}:
            return None
        found = database[ABOUT].find_one({"_id": SCHEMA}) or {}  # another may just have made them
    version = found.get("version")
    if not isinstance(version, int):
        raise InvalidConfig("state_store", f"{where} belongs to another program", "name another database")
    if version > newest:
        raise Incompatible(
            f"{where} has schema version {version}, this fedn knows up to {newest}: use a newer fedn or "
            "another database", version=version,
        )  # fmt: skip
    return int(version)


def _collect(database: Database[dict[str, Any]], name: str) -> None:
    try:
        database.create_collection(name, check_exists=False)
    except OperationFailure as error:
        if error.code != THERE_ALREADY:
            raise
