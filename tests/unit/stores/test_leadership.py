from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_files import child

from fedn.stores.memory import MemoryState
from fedn.stores.sqlite import SqliteState
from fedn.testing.contracts.leadership import LONG, LeadershipContract


class TestMemoryLeadership(LeadershipContract):
    @pytest.fixture
    def store(self) -> MemoryState:
        return MemoryState()


class TestSqliteLeadership(LeadershipContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteState]:
        state = SqliteState(tmp_path / "state.db")
        yield state
        state.close()


TAKE = """
import sys
from fedn.stores.sqlite import SqliteState
print(SqliteState(sys.argv[1]).leadership.take(sys.argv[2], 600.0).holder)
"""


def test_processes_agree_on_who_leads(tmp_path: Path):
    children = [child(TAKE, tmp_path / "state.db", name) for name in ("a", "b", "c")]
    leaders = {process.communicate()[0].strip() for process in children}
    assert len(leaders) == 1
    state = SqliteState(tmp_path / "state.db")
    assert {state.leadership.take("d", LONG).holder} == leaders
    assert state.newest_term() == 1
    state.close()
