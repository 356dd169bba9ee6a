"""A file of the first version becomes one of today: all of it or nothing, whoever opens it how often."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlite_files import child, run_raw

from fedn.domain.errors import Incompatible, StoreUnavailable
from fedn.domain.ids import SessionId
from fedn.identity.audit import verify_audit
from fedn.stores import schema
from fedn.stores.memory import MemoryModels
from fedn.stores.sqlite import SqliteState
from fedn.stores.trail import verify_trail
from fedn.testing.contracts.samples import build_trail, join_token, joining, note_of, successor
from fedn.testing.contracts.state_store import package, together

MNIST = SessionId("mnist")

# As the first version wrote it; files like this are out there, so this text never changes.
VERSION_1 = (
    "CREATE TABLE term (one INTEGER PRIMARY KEY CHECK (one = 1), value INTEGER NOT NULL) STRICT",
    "INSERT INTO term VALUES (1, 0)",
    """CREATE TABLE sessions (
        session TEXT NOT NULL UNIQUE, name TEXT NOT NULL, plan TEXT NOT NULL, state TEXT NOT NULL,
        reason TEXT NOT NULL, created_at REAL NOT NULL, head_round INTEGER NOT NULL,
        head_record TEXT NOT NULL, head_model TEXT NOT NULL, head_model_size INTEGER NOT NULL) STRICT""",
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
    "PRAGMA application_id = 1717920878",
    "PRAGMA user_version = 1",
)
COLUMNS = {"combiners": "combiner, address, incarnation, registered_at"}
"""Of those tables that have more today."""
OLD_TABLES = {"term", "sessions", "records", "metrics", "models", "combiners"}
NEW_TABLES = {"tokens", "members", "audit", "packages", "pruned", "lease", "events"}


class Old:
    """A file of version 1 that holds a session of three rounds."""

    def __init__(self, root: Path) -> None:
        self.path = root / "state.db"
        run_raw(self.path, "PRAGMA journal_mode = wal", *VERSION_1)
        today, self.models = SqliteState(root / "today.db"), MemoryModels()
        self.trail = build_trail(today, self.models)
        today.close()
        copies = [
            f"INSERT OR REPLACE INTO {table} SELECT {COLUMNS.get(table, '*')} FROM today.{table}"
            for table in OLD_TABLES
        ]
        run_raw(self.path, f"ATTACH '{root / 'today.db'}' AS today", *copies)

    def version(self) -> int:
        (row,) = run_raw(self.path, "PRAGMA user_version")
        return int(row[0])

    def tables(self) -> set[str]:
        return {row[0] for row in run_raw(self.path, "SELECT name FROM sqlite_schema WHERE type = 'table'")}


@pytest.fixture
def old(tmp_path: Path) -> Old:
    return Old(tmp_path)


def shape(path: Path) -> list[tuple[str, list[tuple[object, ...]]]]:
    """Every table and index with its columns."""
    names = [row[0] for row in run_raw(path, "SELECT name FROM sqlite_schema ORDER BY name")]
    return [
        (name, run_raw(path, f"PRAGMA table_xinfo({name})") + run_raw(path, f"PRAGMA index_xinfo({name})"))
        for name in names
    ]


def test_opening_adds_what_is_missing_and_keeps_the_rest(old: Old):
    assert (old.version(), old.tables()) == (1, OLD_TABLES)
    state = SqliteState(old.path)
    assert (old.version(), old.tables()) == (7, OLD_TABLES | NEW_TABLES)
    assert state.records(MNIST) == old.trail
    assert verify_trail(state, old.models, MNIST).ok
    assert state.take_term() == 2
    state.identity.add_token(join_token())
    assert state.identity.enroll(joining(join_token()), 100.0) == joining(join_token())
    state.identity.append_audit(note_of())
    assert verify_audit(state.identity).entries == 1
    state.close()


def test_an_old_file_becomes_what_a_new_one_is(old: Old, tmp_path: Path):
    SqliteState(old.path).close()
    SqliteState(tmp_path / "new.db").close()
    assert shape(old.path) == shape(tmp_path / "new.db")


def test_a_step_that_fails_leaves_the_old_file(old: Old, monkeypatch: pytest.MonkeyPatch):
    broken = (schema.STEPS[0], (*schema.STEPS[1], "CREATE TABLE tokens (twice TEXT) STRICT"))
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", broken)
        with pytest.raises(StoreUnavailable, match="already exists"):
            SqliteState(old.path)
    assert (old.version(), old.tables()) == (1, OLD_TABLES)
    SqliteState(old.path).close()
    assert old.version() == 7


HALFWAY = """
import sqlite3, sys
from fedn.stores import schema
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # so that pages are on disk before anything is committed
connection.execute("BEGIN IMMEDIATE")
for statement in schema.STEPS[1]:
    connection.execute(statement)
print("halfway", flush=True)
sys.stdin.read()
"""


def test_a_process_killed_halfway_leaves_the_old_file(old: Old):
    process = child(HALFWAY, old.path)
    assert process.stdout is not None
    assert process.stdout.readline() == "halfway\n"
    process.kill()
    process.communicate()
    assert (old.version(), old.tables()) == (1, OLD_TABLES)
    state = SqliteState(old.path)
    assert state.identity.tokens() == []
    assert state.records(MNIST) == old.trail
    state.close()


def test_threads_that_open_an_old_file_at_once_share_it(old: Old):
    def use() -> None:
        state = SqliteState(old.path, busy_seconds=30.0)
        for number in range(5):
            state.identity.append_audit(note_of(number=number))
        state.close()

    together([use] * 6)
    state = SqliteState(old.path)
    assert verify_audit(state.identity).entries == 30
    state.close()


OPEN_AND_APPEND = """
import sys
print("ready", flush=True)
from fedn.stores.sqlite import SqliteState
from fedn.testing.contracts.samples import note_of
sys.stdin.readline()
state = SqliteState(sys.argv[1], busy_seconds=30.0)
for number in range(10):
    state.identity.append_audit(note_of(number=number))
state.close()
"""


def test_processes_that_open_an_old_file_at_once_share_it(old: Old):
    children = [child(OPEN_AND_APPEND, old.path) for _ in range(4)]
    for process in children:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in children:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in children:
        process.communicate()
    assert [process.returncode for process in children] == [0, 0, 0, 0]
    state = SqliteState(old.path)
    assert verify_audit(state.identity).entries == 40
    assert state.records(MNIST) == old.trail
    state.close()


def test_an_old_writer_and_a_new_one_get_on(old: Old, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:  # a process of the first version, still running
        patch.setattr(schema, "STEPS", schema.STEPS[:1])
        patch.setattr(schema, "SCHEMA_VERSION", 1)
        before = SqliteState(old.path)
    state = SqliteState(old.path)
    following = successor(old.trail[-1])
    before.commit_round(following, 1)
    assert state.record(MNIST, 4) == following
    before.close()
    state.close()


def test_a_file_with_an_identity_gets_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(schema, "STEPS", schema.STEPS[:2])
        patch.setattr(schema, "SCHEMA_VERSION", 2)
        before = SqliteState(tmp_path / "state.db")
        before.identity.add_token(join_token())
        before.close()
    state = SqliteState(tmp_path / "state.db")
    assert state.identity.tokens() == [join_token()]
    state.add_package(package(b"a", 1.0))
    assert state.packages() == [package(b"a", 1.0)]
    state.close()


def test_an_old_file_can_be_read_and_says_what_it_lacks(old: Old):
    tool = SqliteState(old.path, read_only=True)
    assert tool.records(MNIST) == old.trail
    for question in (tool.identity.tokens, tool.identity.members, tool.identity.audit, tool.packages,
                     lambda: tool.identity.token("a" * 16), lambda: verify_audit(tool.identity)):  # fmt: skip
        with pytest.raises(Incompatible, match=r"schema version 1, from before .* start this fedn's reducer"):
            question()
    assert (old.version(), old.tables()) == (1, OLD_TABLES)

    state = SqliteState(old.path)  # as the remedy says; the tool beside it may stay open
    state.identity.add_token(join_token())
    assert tool.identity.tokens() == [join_token()]
    assert tool.records(MNIST) == old.trail
    tool.close()
    state.close()
