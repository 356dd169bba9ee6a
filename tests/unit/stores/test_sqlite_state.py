from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_files import child, run_raw

from fedn.domain.errors import Damaged, Incompatible, InvalidConfig, NotFound, StoreUnavailable
from fedn.domain.ids import SessionId
from fedn.stores.files import FileModels
from fedn.stores.memory import MemoryModels
from fedn.stores.sqlite import SqliteState
from fedn.stores.trail import verify_trail
from fedn.testing.contracts.samples import TERM, blob_of, build_trail, genesis, session_info, successor
from fedn.testing.contracts.state_store import StateStoreContract, row

MNIST = SessionId("mnist")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteState]:
    state = SqliteState(path)
    yield state
    state.close()


class TestSqliteState(StateStoreContract):
    @pytest.fixture
    def store(self, path: Path) -> Iterator[SqliteState]:
        state = SqliteState(path)
        yield state
        state.close()


def test_everything_is_there_after_reopening(path: Path):
    store, models = SqliteState(path), MemoryModels()
    trail = build_trail(store, models)
    store.add_metrics([row(MNIST, 1)], TERM)
    before = store.session(MNIST), store.metrics(MNIST), store.take_term()
    store.close()

    again = SqliteState(path)
    assert (again.session(MNIST), again.metrics(MNIST), again.take_term() - 1) == before
    assert again.records(MNIST) == trail
    assert verify_trail(again, models, MNIST).ok
    again.close()


def test_a_closed_store_says_so(store: SqliteState):
    store.sessions()
    store.close()
    for call in (store.sessions, store.take_term):
        with pytest.raises(StoreUnavailable, match="is closed"):
            call()


def test_it_is_for_its_owner_alone(path: Path, store: SqliteState):
    store.take_term()
    assert {oct(one.stat().st_mode & 0o777) for one in path.parent.glob(f"{path.name}*")} == {"0o600"}


def test_a_newer_schema_is_refused(path: Path, store: SqliteState):
    store.close()
    run_raw(path, "PRAGMA user_version = 99")
    for read_only in (False, True):
        with pytest.raises(Incompatible, match="schema version 99, this fedn knows up to 7"):
            SqliteState(path, read_only=read_only)


@pytest.mark.parametrize("statement", ["CREATE TABLE cats (name TEXT)", "PRAGMA user_version = 1"])
def test_a_file_of_another_program_is_left_alone(path: Path, statement: str):
    run_raw(path, statement)
    before = path.read_bytes()
    with pytest.raises(InvalidConfig, match="belongs to another program"):
        SqliteState(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(path: Path):
    path.write_bytes(b"once upon a time" * 100)
    with pytest.raises(Damaged, match="not a whole SQLite file"):
        SqliteState(path)


def test_an_empty_file_becomes_a_store(path: Path):
    path.touch()
    with pytest.raises(NotFound, match="is empty"):
        SqliteState(path, read_only=True)
    SqliteState(path).close()


def test_a_new_store_is_made_aside_and_leaves_nothing_else(path: Path):
    SqliteState(path).close()
    assert list(path.parent.iterdir()) == [path]


def test_a_file_system_without_hard_links_will_do(path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    store = SqliteState(path)
    assert store.take_term() == 1
    store.close()


def test_writes_are_durable_and_tables_strict(path: Path, store: SqliteState):
    assert run_raw(path, "PRAGMA journal_mode") == [("wal",)]
    tables = run_raw(path, "SELECT name, strict FROM pragma_table_list WHERE name NOT LIKE 'sqlite_%'")
    assert {strict for _, strict in tables} == {1}
    with store._database.write() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_busy_file_is_an_unavailable_store(path: Path, store: SqliteState):
    impatient = SqliteState(path, busy_seconds=0.01)
    with store._database.write(), pytest.raises(StoreUnavailable, match="locked"):
        impatient.take_term()
    assert impatient.take_term() == 1
    impatient.close()


def test_reading_beside_a_writer(path: Path, store: SqliteState):
    trail = build_trail(store, MemoryModels())
    tool = SqliteState(path, read_only=True)
    with store._database.write():
        assert tool.records(MNIST) == trail
    store.commit_round(successor(trail[-1]), 1)
    assert tool.session(MNIST).head.round == 4
    with pytest.raises(StoreUnavailable, match="open for reading only"):
        tool.take_term()
    tool.close()


def test_reading_after_the_writer_has_gone(path: Path):
    store = SqliteState(path)
    trail = build_trail(store, MemoryModels())
    store.close()
    tool = SqliteState(path, read_only=True)
    assert tool.records(MNIST) == trail
    tool.close()


def test_a_failed_write_leaves_nothing(store: SqliteState):
    def fail_halfway() -> None:
        with store._database.write() as connection:
            connection.execute("UPDATE term SET value = 50")
            connection.execute("UPDATE term SET no_such_column = 1")

    with pytest.raises(StoreUnavailable):
        fail_halfway()
    assert store.take_term() == 1


def test_a_changed_record_is_damaged_when_it_is_read(path: Path, store: SqliteState):
    build_trail(store, MemoryModels())
    seed = """replace(raw, 'seed":7', 'seed":8')"""
    run_raw(path, f"UPDATE records SET raw = CAST({seed} AS BLOB) WHERE round = 2")
    with pytest.raises(Damaged, match="round 2 of mnist"):
        store.record(MNIST, 2)
    with pytest.raises(Damaged):
        store.records(MNIST)
    assert [found[0] for found in store.raw_records(MNIST)] == [0, 1, 2, 3]


@pytest.mark.parametrize("plan", ["{", "[]", '{"rounds": 0}', '{"no_such_field": 1}'])
def test_a_changed_plan_is_damaged_when_it_is_read(path: Path, store: SqliteState, plan: str):
    build_trail(store, MemoryModels())
    run_raw(path, f"UPDATE sessions SET plan = '{plan}'")
    with pytest.raises(Damaged, match="plan of session mnist"):
        store.session(MNIST)


def test_every_question_about_a_trail_uses_an_index(path: Path, store: SqliteState):
    questions = [
        "SELECT raw FROM records WHERE session = 'a' AND round > 5 ORDER BY round LIMIT 9",
        "SELECT metrics FROM metrics WHERE session = 'a' AND round > 5 ORDER BY round, kind, client LIMIT 9",
        "UPDATE sessions SET head_round = 1 WHERE session = 'a' AND head_record = 'b' AND head_round = 0",
        "SELECT digest FROM models ORDER BY created_at DESC, rowid DESC LIMIT 9",
    ]
    for question in questions:
        steps = " ".join(str(step[3]) for step in run_raw(path, f"EXPLAIN QUERY PLAN {question}"))
        assert "USING" in steps
        assert "TEMP B-TREE" not in steps


TAKE_TERMS = """
import sys
from fedn.stores.sqlite import SqliteState
store = SqliteState(sys.argv[1])
print(*[store.take_term() for _ in range(40)])
store.close()
"""


def test_processes_opening_a_new_file_at_once_share_it(path: Path):
    children = [child(TAKE_TERMS, path) for _ in range(3)]
    outputs = [process.communicate()[0] for process in children]
    assert [process.returncode for process in children] == [0, 0, 0]
    terms = [int(term) for output in outputs for term in output.split()]
    assert sorted(terms) == list(range(1, 121))


COMMIT_FOREVER = """
import sys
from fedn.stores.files import FileModels
from fedn.stores.sqlite import SqliteState
from fedn.testing.contracts.samples import blob_of, successor
state, models = SqliteState(sys.argv[1]), FileModels(sys.argv[2])
term, last = state.take_term(), state.records("mnist", limit=10**6)[-1]
while True:
    models.put([blob_of("mnist", last.record.round + 1)])
    last = successor(last)
    state.commit_round(last, term)
    print(last.record.round, flush=True)
"""


def test_a_killed_writer_leaves_a_whole_trail(path: Path, tmp_path: Path, store: SqliteState):
    first, models = genesis(), FileModels(tmp_path / "models")
    models.put([blob_of("mnist", 0)])
    store.add_session(session_info(first), first)
    for lines in (1, 17, 30):
        writer = child(COMMIT_FOREVER, path, tmp_path / "models")
        assert writer.stdout is not None
        told = [int(line) for line in itertools.islice(writer.stdout, lines)][-1]
        writer.kill()
        writer.communicate()
        assert store.session(MNIST).head.round >= told
        report = verify_trail(store, models, MNIST)
        assert report.problems == ()
        assert report.rounds == store.session(MNIST).head.round + 1
