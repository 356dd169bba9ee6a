"""The tables of a state store's file, a step for every version, and how a file takes the steps it lacks.

Steps that were released are never changed: files that took them are out there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from fedn.domain.errors import Incompatible, InvalidConfig, StoreUnavailable

APPLICATION_ID = 0x6665646E
"""'fedn' in ASCII; tells our files from other programs'."""
IDENTITY_VERSION = 2
"""The first with tokens, members and the audit log."""
PACKAGE_VERSION = 3
"""The first with compute packages."""

PRUNED_VERSION = 4
"""The first that remembers which models were removed on purpose."""
EVENTS_VERSION = 7
"""The first that keeps events."""

STEPS = (
    # 1: sessions and their trails
    (
        "CREATE TABLE term (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL) STRICT",
        "INSERT INTO term VALUES (1, 0)",
        """CREATE TABLE sessions (
            session TEXT NOT NULL UNIQUE, name TEXT NOT NULL, plan TEXT NOT NULL, state TEXT NOT NULL,
            reason TEXT NOT NULL, created_at REAL NOT NULL, head_round INTEGER NOT NULL,
            head_record TEXT NOT NULL, head_model TEXT NOT NULL, head_model_size INTEGER NOT NULL) STRICT""",
        # The digest is taken over raw, exactly as it is kept here.
        """CREATE TABLE records (
            session TEXT NOT NULL, round INTEGER NOT NULL, digest TEXT NOT NULL, raw BLOB NOT NULL,
            UNIQUE (session, round)) STRICT""",
        """CREATE TABLE metrics (
            session TEXT NOT NULL, round INTEGER NOT NULL, kind TEXT NOT NULL, client TEXT NOT NULL,
            examples INTEGER NOT NULL, metrics TEXT NOT NULL,
            PRIMARY KEY (session, round, kind, client)) STRICT, WITHOUT ROWID""",
        """CREATE TABLE models (
            digest TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, name TEXT NOT NULL, origin TEXT NOT NULL,
            created_at REAL NOT NULL) STRICT""",
        "CREATE INDEX models_newest ON models (created_at)",
        """CREATE TABLE combiners (
            combiner TEXT NOT NULL PRIMARY KEY, address TEXT NOT NULL, incarnation TEXT NOT NULL,
            registered_at REAL NOT NULL) STRICT""",
        f"PRAGMA application_id = {APPLICATION_ID}",
    ),
    # 2: who is who
    (
        """CREATE TABLE tokens (
            token TEXT NOT NULL UNIQUE, role TEXT NOT NULL, name TEXT NOT NULL, labels TEXT NOT NULL,
            uses INTEGER NOT NULL, used INTEGER NOT NULL, created_at REAL NOT NULL,
            expires_at REAL NOT NULL, created_by TEXT NOT NULL, secret_digest TEXT NOT NULL,
            revoked_at REAL NOT NULL) STRICT""",
        "CREATE INDEX tokens_newest ON tokens (created_at)",
        """CREATE TABLE members (
            role TEXT NOT NULL, member TEXT NOT NULL, name TEXT NOT NULL, labels TEXT NOT NULL,
            key TEXT NOT NULL, token TEXT NOT NULL, joined_at REAL NOT NULL, renewed_at REAL NOT NULL,
            expires_at REAL NOT NULL, revoked_at REAL NOT NULL, UNIQUE (role, member)) STRICT""",
        "CREATE INDEX members_newest ON members (joined_at)",
        "CREATE INDEX members_revoked ON members (revoked_at) WHERE revoked_at > 0",
        # As with records, the digest is taken over raw.
        "CREATE TABLE audit (number INTEGER PRIMARY KEY, digest TEXT NOT NULL, raw BLOB NOT NULL) STRICT",
    ),
    # 3: compute packages, and members by name
    (
        """CREATE TABLE packages (
            digest TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, name TEXT NOT NULL,
            manifest TEXT NOT NULL, created_at REAL NOT NULL) STRICT""",
        "CREATE INDEX packages_newest ON packages (created_at)",
        "CREATE INDEX members_called ON members (name)",
    ),
    # 4: what was removed on purpose
    ("CREATE TABLE pruned (digest TEXT NOT NULL PRIMARY KEY, at REAL NOT NULL) STRICT, WITHOUT ROWID",),
    # 5: which reducer leads
    (
        """CREATE TABLE lease (
            one INTEGER PRIMARY KEY CHECK (one = 1), holder TEXT NOT NULL, until REAL NOT NULL) STRICT""",
        "INSERT INTO lease VALUES (1, '', 0)",
    ),
    # 6: which combiners drain
    ("ALTER TABLE combiners ADD COLUMN drained_at REAL NOT NULL DEFAULT 0",),
    # 7: what happened
    (
        """CREATE TABLE events (
            number INTEGER PRIMARY KEY, at REAL NOT NULL, event TEXT NOT NULL, session TEXT NOT NULL,
            round INTEGER NOT NULL, fields TEXT NOT NULL) STRICT""",
        "CREATE INDEX events_of_session ON events (session, number)",
    ),
)
SCHEMA_VERSION = len(STEPS)

# One statement, so that all three are of one moment even while another process creates the tables.
_WHOSE = """SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema)
    FROM pragma_user_version, pragma_application_id"""


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Check whose file it is, make writes durable, and take the steps that the file lacks, all or none."""
    version = version_of(connection, path)  # before anything is changed: it may be somebody else's
    # Asked first: setting it needs the whole file, which another process may be using.
    mode = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != ("wal",) and connection.execute("PRAGMA journal_mode = wal").fetchone() != ("wal",):
        raise StoreUnavailable(f"{path} is on a file system without shared memory, which SQLite's log needs")
    connection.execute("PRAGMA synchronous = FULL")
    if version == SCHEMA_VERSION:
        return
    with transaction(connection):
        version = version_of(connection, path)  # another process may have been quicker
        for statement in chain.from_iterable(STEPS[version:]):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """The schema version; 0 is a new file. Refuses newer ones and other programs' files."""
    version, application, tables = connection.execute(_WHOSE).fetchone()
    if application != APPLICATION_ID and (version or tables):
        raise InvalidConfig("state_store", f"{path} belongs to another program", "give another path")
    if version > SCHEMA_VERSION:
        raise Incompatible(
            f"{path} has schema version {version}, this fedn knows up to {SCHEMA_VERSION}: "
            "use a newer fedn or another file", path=str(path), version=version,
        )  # fmt: skip
    return int(version)


def check_version(connection: sqlite3.Connection, path: Path, needed: int) -> int:
    """The schema version, if it is not below ``needed``; a file that is only read may be."""
    version = version_of(connection, path)
    if version < needed:
        raise Incompatible(
            f"{path} has schema version {version}, from before fedn kept this: start this fedn's reducer "
            "on it once, which adds what is missing", path=str(path), version=version,
        )  # fmt: skip
    return version


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything in this block or nothing, on disk when it ends."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
