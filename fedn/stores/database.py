"""One SQLite file: a single writer, pooled readers, and every failure in this system's words.

Knows connections and durability; `fedn.stores.schema` knows the tables, `fedn.stores.sqlite` and
`fedn.stores.identity_sqlite` the questions. Several processes may have the same file open: SQLite's
write-ahead log keeps readers and writers apart.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from fedn.domain.errors import Damaged, FednError, NotFound, StoreUnavailable
from fedn.stores.disk import disk_errors, make_directory, sync_directory
from fedn.stores.schema import SCHEMA_VERSION, check_version, prepare, transaction, version_of

BUSY_SECONDS = 2.0
"""How long a call waits for another process's write before it raises StoreUnavailable."""
IDLE_READERS = 8
"""Connections kept open for the next reader; more are opened when more threads read at once."""
OLDEST_SQLITE = (3, 37)
"""The first with STRICT tables."""


class Database:
    """Connections to one file. Safe to use from many threads; close it when done."""

    def __init__(
        self, path: Path, *, read_only: bool = False, oldest: int = 1, busy_seconds: float = BUSY_SECONDS
    ) -> None:  # fmt: skip
        """``oldest``: the first schema that is read; who opens it to write brings an older one forward."""
        self.path = path
        self._busy_seconds = busy_seconds
        self._write_lock = threading.Lock()
        self._pool_lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._version = SCHEMA_VERSION
        self._frozen = read_only and _is_frozen(path)
        self._writer: sqlite3.Connection | None = None
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreUnavailable(f"SQLite {sqlite3.sqlite_version} is too old: 3.37 or newer is needed")
        if read_only:
            self._check_existing(oldest)
        else:
            make_directory(path.absolute().parent)
            if not path.exists():
                self._create()
            self._writer = self._open_writer(path)

    @contextmanager
    def read(self, version: int = 1) -> Iterator[sqlite3.Connection]:
        """A connection for reading. Fetch everything before leaving, or the log can't be cut.

        Raises Incompatible if the file is open for reading only and older than ``version`` of the schema.
        """
        with _our_words(self.path):
            connection = self._borrow()
            try:
                if self._version < version:
                    self._version = check_version(connection, self.path, version)
                yield connection
            finally:
                self._give_back(connection)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The one writing connection, inside a transaction that is on disk when this block ends."""
        with self._write_lock, _our_words(self.path):
            connection = self._writer
            if connection is None:
                why = "closed" if self._closed else "open for reading only"
                raise StoreUnavailable(f"{self.path} is {why}", path=str(self.path))
            with transaction(connection):
                yield connection

    def close(self) -> None:
        """Close every connection; the writer last, so that it can fold the log into the file."""
        with self._write_lock, _our_words(self.path):
            with self._pool_lock:
                self._closed = True
                connections, self._idle = self._idle, []
            writer, self._writer = self._writer, None
            for connection in connections + ([writer] if writer else []):
                connection.close()

    def _borrow(self) -> sqlite3.Connection:
        with self._pool_lock:
            if self._closed:
                raise StoreUnavailable(f"{self.path} is closed")
            if self._idle:
                return self._idle.pop()
        return self._connect(self.path, "ro")

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._pool_lock:
            if not self._closed and len(self._idle) < IDLE_READERS:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self, path: Path, mode: str) -> sqlite3.Connection:
        frozen = "&immutable=1" if self._frozen else ""
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}{frozen}", uri=True, timeout=self._busy_seconds,
            isolation_level=None, check_same_thread=False,
        )  # fmt: skip
        connection.text_factory = _text
        return connection

    def _create(self) -> None:
        """Make a new file aside and give it its name when it is whole.

        Processes that open a new file at once would otherwise meet while it is switched to the
        write-ahead log, for which SQLite does not wait.
        """
        aside = self.path.with_name(f"{self.path.name}.{uuid4().hex}.new")
        try:
            with disk_errors(aside):
                aside.touch(0o600)  # it names people, and what lies beside it gets the same rights
            self._open_writer(aside).close()
            with suppress(OSError):  # another was quicker, or there are no hard links: then in place
                self.path.hardlink_to(aside)
            with disk_errors(self.path):
                sync_directory(aside.absolute().parent)
        finally:
            with disk_errors(aside):
                aside.unlink(missing_ok=True)

    def _open_writer(self, path: Path) -> sqlite3.Connection:
        with _our_words(path):
            connection = self._connect(path, "rwc")
            try:
                prepare(connection, path)
            except BaseException:
                connection.close()
                raise
            return connection

    def _check_existing(self, oldest: int) -> None:
        if not self.path.is_file():
            raise NotFound(f"there is no state store at {self.path}", path=str(self.path))
        try:
            with self.read() as connection:
                self._version = version_of(connection, self.path)
                if self._version == 0:
                    raise NotFound(f"the state store at {self.path} is empty", path=str(self.path))
                check_version(connection, self.path, oldest)
        except BaseException:
            self.close()
            raise


def _is_frozen(path: Path) -> bool:
    """Whether it lies on a file system that can't be written, and nobody uses it: a backup that is looked at.

    SQLite has to be told so, since it would make the log's index beside it.
    """
    log, index = (path.with_name(f"{path.name}-{kind}") for kind in ("wal", "shm"))
    try:
        read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        return bool(read_only) and not index.exists() and not (log.exists() and log.stat().st_size)
    except OSError:
        return False


@contextmanager
def _our_words(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _translated(path, error) from error
    except UnicodeDecodeError as error:  # SQLite quotes a damaged schema in its complaint about it
        raise Damaged(f"{path} is not a whole SQLite file: its schema is no text", path=str(path)) from error


def _translated(path: Path, error: sqlite3.Error) -> FednError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Damaged(f"{path} is not a whole SQLite file: {error}", path=str(path))
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        problem = f"{path} can't be written ({error}); if its disk is full, make room there and it goes on"
        return StoreUnavailable(problem, path=str(path))
    if code == sqlite3.SQLITE_CANTOPEN:
        problem = f"{path} can't be opened ({error}): SQLite needs it and its folder to be writable"
        return StoreUnavailable(f"{problem}; check their rights, or copy it with its -wal", path=str(path))
    return StoreUnavailable(f"{path} did not answer: {error}", path=str(path))


def _text(raw: bytes) -> str:
    """A damaged text must reach the check that finds it, not stop the reader on the way."""
    return raw.decode("utf-8", "replace")
