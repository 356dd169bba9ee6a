"""One MongoDB database: how it is reached, what is asked of every write, and its failures in our words.

Writes are acknowledged by a majority of the replica set, from its journal; reads come from its primary and
see nothing that could be rolled back. `fedn.stores.mongo_schema` knows the collections, `fedn.stores.mongo`,
`mongo_identity` and `mongo_leadership` the questions.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import pymongo
from bson.errors import BSONError
from pymongo import MongoClient, ReadPreference, ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from fedn.domain.errors import Damaged, FednError, InvalidConfig, InvalidInput, LoginRefused, StoreUnavailable
from fedn.stores.mongo_schema import ABOUT, STEPS, Steps, check, prepare
from fedn.stores.mongo_url import SELECT_SECONDS, MongoUrl, read_url

Document: TypeAlias = dict[str, Any]
Work: TypeAlias = ClientSession
T = TypeVar("T")

CALL_SECONDS = 10.0
"""How long a call may take in all, with every try while a primary dies and another comes."""
GOODBYE_SECONDS = 1.0
ROWS_PER_SECOND = 500.0
"""A call that writes many rows is given a second more for so many."""
MOST_ROWS = 25_000
"""For more it is given no longer: MongoDB ends a transaction after a minute."""
BAD_LOGIN, NO_RIGHT = (18, 8000), 13
"""Codes of MongoDB: authentication failed, and not allowed."""

_TLS = {
    "certificate verify failed": "; is its authority in tlsCAFile of the address?",
    "SSL handshake failed": "; does it speak TLS?",
    "connection closed": "; does it want tls=true in the address?",
}
"""What to look at when a server is there, and no connection comes about."""
_MAJORITY = WriteConcern(w="majority", j=True)
_SNAPSHOT = ReadConcern("snapshot")


class MongoDatabase:
    """A connected database with our collections in it. Safe to use from many threads; close it when done.

    It reconnects by itself: a call that comes while no server answers raises StoreUnavailable, the next may
    go through.
    """

    def __init__(
        self, url: str, *, read_only: bool = False, steps: Steps = STEPS,
        environ: Mapping[str, str] = os.environ,
    ) -> None:  # fmt: skip
        """Raises InvalidConfig, Incompatible, StoreUnavailable and, read-only, NotFound."""
        self._url: MongoUrl = read_url(url, environ)
        self._read_only = read_only
        self._closed = False
        self._one_write = threading.Lock()  # threads that met in transactions would only retry
        self.where = f"the MongoDB database {self._url.database} at {self._url.hosts}"
        self._client: MongoClient[Document] = self._connected(self._url)
        self._database = self._client.get_database(
            self._url.database, read_preference=ReadPreference.PRIMARY, write_concern=_MAJORITY,
            read_concern=ReadConcern("majority"),
        )  # fmt: skip
        try:
            with self.answers(opening=True):
                self._check_server()
            with self.answers(
                opening=True, rows=MOST_ROWS
            ):  # new collections and indexes take a slow disk long
                if read_only:
                    check(self._database, self.where, len(steps))
                else:
                    prepare(self._database, self.where, steps)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Collection[Document]:
        return self._database[name]

    @contextmanager
    def answers(self, *, opening: bool = False, rows: int = 0) -> Iterator[None]:
        """Bounds the time of the calls inside, and puts what goes wrong in our words."""
        if self._closed:
            raise StoreUnavailable(f"{self.where} is closed")
        try:
            with pymongo.timeout(self._bound(rows)):
                yield
        except PyMongoError as error:
            raise self._translated(error, opening) from error
        except (BSONError, OverflowError, UnicodeError) as error:
            raise InvalidInput("value", f"can't be kept in MongoDB: {error!s:.200}") from error

    @contextmanager
    def writes(self, rows: int = 0) -> Iterator[None]:
        """As `answers`, for a write."""
        if self._read_only:
            raise StoreUnavailable(f"{self.where} is open for reading only")
        with self.answers(rows=rows):
            yield

    def transaction(self, work: Callable[[Work], T], rows: int = 0) -> T:
        """Do ``work`` all or not at all; it is called again when another writer was in the way.

        ``rows``: about how many it writes. A commit whose answer was lost is asked for again until that is
        known.
        """
        if not self._one_write.acquire(timeout=self._bound(rows)):
            raise StoreUnavailable(f"{self.where} is still busy with another write")
        try:
            with self.writes(rows), self._client.start_session() as session:
                return session.with_transaction(work, _SNAPSHOT, _MAJORITY, ReadPreference.PRIMARY)
        finally:
            self._one_write.release()

    def locked(self, name: str, work: Work) -> Document:
        """A document of ours, which no other transaction can have until this one ends.

        To read it would not do: of two transactions that read only, neither sees what the other writes.
        """
        touched = self[ABOUT].find_one_and_update(
            {"_id": name}, {"$inc": {"writes": 1}}, upsert=True, session=work,
            return_document=ReturnDocument.AFTER,
        )  # fmt: skip
        return touched or {}

    def close(self) -> None:
        self._closed = True
        with pymongo.timeout(GOODBYE_SECONDS):  # it tells the server, if that is there
            self._client.close()

    def _bound(self, rows: int) -> float:
        """How long a call may take. Where no primary is known it is not tried for long: others wait, too."""
        if self._client.topology_description.has_writable_server():
            return CALL_SECONDS + min(rows, MOST_ROWS) / ROWS_PER_SECOND
        return self._url.select_seconds

    def _connected(self, url: MongoUrl) -> MongoClient[Document]:
        try:
            return MongoClient(url.uri, **url.login, **url.missing(
                appname="fedn", connectTimeoutMS=int(SELECT_SECONDS * 1000),
            ), retryWrites=True, retryReads=True)  # fmt: skip
        except (PyMongoError, ValueError, OSError) as error:
            problem = url.safe(f"can't be used: {error}")
            raise InvalidConfig("state_store", problem, "check its options") from None

    def _check_server(self) -> None:
        """Transactions need a replica set; without one nothing here would hold."""
        hello = self._client.admin.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise InvalidConfig(
                "state_store", f"the MongoDB at {self._url.hosts} stands alone, and so has no transactions",
                "start mongod with --replSet rs0 and run rs.initiate() on it once; a set of one will do",
            )  # fmt: skip

    def _translated(self, error: PyMongoError, opening: bool) -> FednError:
        error = _single(error)
        code = error.code if isinstance(error, OperationFailure) else None
        if code in BAD_LOGIN:
            user = f"the user {self._url.user!r}" if self._url.user else "a user without a name"
            return self._refused(
                f"{self.where} refused {user}", "check user, password and authSource of the address",
                LoginRefused if opening else None,
            )  # fmt: skip
        if code == NO_RIGHT:
            user = f"the user {self._url.user!r}" if self._url.user else "anybody without a login"
            return self._refused(
                f"{self.where} does not let {user} do this",
                f"grant the role readWrite on {self._url.database}; name the user in the address",
                InvalidConfig if opening else None,
            )  # fmt: skip
        if isinstance(error, DuplicateKeyError):
            return Damaged(f"{self.where} holds a document that must not be there: {_cut(error)}")
        if isinstance(error, ConfigurationError):
            return InvalidConfig("state_store", self._url.safe(_cut(error)), "check its options")
        return StoreUnavailable(f"{self.where} did not answer: {self._why(error)}")

    @staticmethod
    def _refused(problem: str, remedy: str, at_start: type[InvalidConfig] | None) -> FednError:
        """Whoever starts can mend it; a session that runs waits until somebody has."""
        if at_start:
            return at_start("state_store", problem, remedy)
        return StoreUnavailable(f"{problem}; {remedy}")

    def _why(self, error: PyMongoError) -> str:
        if not self._client.topology_description.has_writable_server():
            return self._why_no_primary()
        if error.timeout:
            return "not in time"
        return _cut(error)

    def _why_no_primary(self) -> str:
        servers = list(self._client.topology_description.server_descriptions().values())
        if not servers:
            return "none of its servers is of the replica set that the address names"
        if any(server.server_type_name == "RSGhost" for server in servers):
            return "its replica set has not begun; run rs.initiate() on it once"
        errors = [_cut(server.error) for server in servers if server.error]
        if not errors:
            return "its replica set has no primary at the moment"
        hint = next((words for sign, words in _TLS.items() if sign in errors[0]), "")
        return errors[0] + hint


def _single(error: PyMongoError) -> PyMongoError:
    """Of many writes at once that failed the first one, since what is said of all of them says nothing."""
    failed = error.details.get("writeErrors") if isinstance(error, BulkWriteError) else None
    return OperationFailure(failed[0]["errmsg"], failed[0]["code"]) if failed else error


def _cut(error: BaseException) -> str:
    """The beginning of what the driver says; the rest is about its settings."""
    words = str(error).split(" (configured timeouts", 1)[0].split(", full error", 1)[0]
    return " ".join(words.split())[:200]
