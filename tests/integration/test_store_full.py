"""A full disk under the tools for stores: what they can't write they say, and go on when there is room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from disk import Disk

from fedn.domain.errors import StoreUnavailable
from fedn.domain.ids import SessionId
from fedn.reducer.metrics import pages
from fedn.stores.copying import COPYING, Stores, copy_network
from fedn.stores.files import FileModels
from fedn.stores.memory import MemoryModels, MemoryState
from fedn.stores.retention import Rule, prune
from fedn.stores.sqlite import SqliteState
from fedn.stores.trail import verify_trail
from fedn.testing.contracts.samples import build_trail

MNIST = SessionId("mnist")
ROUNDS = 200
NOON = 4_000_000_000.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        mounted = Disk(tmp_path / "disk")
    except OSError as error:
        pytest.skip(f"mounting a disk is not permitted here: {error}")
    with mounted:
        yield mounted


def test_a_copy_waits_for_room_and_is_not_taken_for_whole(disk: Disk) -> None:
    source = Stores(MemoryState(), MemoryModels())
    build_trail(source.state, source.models, rounds=ROUNDS)
    with closing(SqliteState(disk.path / "state.db")) as state:
        there, filled = Stores(state, FileModels(disk.path / "models")), False

        def told(what: str, done: int, total: int) -> None:
            nonlocal filled
            if what == "session mnist" and not filled:  # after the first page
                filled = True
                disk.fill()

        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"(full|No space)"):
                copy_network(source, there, pages, told)
            assert state.session(MNIST).state == COPYING
        disk.make_room()
        copy_network(source, there, pages)
        report = verify_trail(there.state, there.models, MNIST)
        assert (report.ok, report.head) == (True, source.state.session(MNIST).head.record)


def test_a_backup_on_a_disk_that_is_read_only_can_be_verified_and_restored(disk: Disk) -> None:
    with closing(SqliteState(disk.path / "state.db")) as state:
        build_trail(state, FileModels(disk.path / "models"))
    disk.freeze()
    with closing(SqliteState(disk.path / "state.db", read_only=True)) as state:
        models, there = (
            FileModels(disk.path / "models", read_only=True),
            Stores(MemoryState(), MemoryModels()),
        )
        assert verify_trail(state, models, MNIST).ok
        copy_network(Stores(state, models), there, pages)
        assert verify_trail(there.state, there.models, MNIST).ok


def test_nothing_is_pruned_that_could_not_be_marked(disk: Disk) -> None:
    """A model that went without a mark would look lost. With room it goes."""
    with closing(SqliteState(disk.path / "state.db")) as state:
        models = FileModels(disk.path / "models")
        trail = build_trail(state, models, rounds=ROUNDS)
        state.set_session_state(MNIST, "finished", "", state.newest_term())
        disk.fill()
        with pytest.raises(StoreUnavailable, match="make room there"):
            prune(state, models, Rule(1), NOON)
        report = verify_trail(state, models, MNIST)
        assert (report.ok, report.models, report.pruned) == (True, ROUNDS + 1, 0)
        disk.make_room()
        prune(state, models, Rule(1), NOON)
        assert list(models.digests()) == [trail[-1].record.model]
        report = verify_trail(state, models, MNIST)
        assert (report.ok, report.pruned) == (True, ROUNDS)
