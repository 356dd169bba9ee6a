"""A disk that is full, at each tier in turn: the session says why it waits, and goes on when there is room.

The disks are real; a full one is no larger than what is on it. Mounting takes a privilege; where it is
missing these tests are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from disk import Disk
from federations import Running, names, running

from fedn.client.state_dir import claim
from fedn.domain.errors import StoreUnavailable
from fedn.domain.round import Head, StoredRecord
from fedn.helpers.files import seed_file
from fedn.stores.files import FileModels
from fedn.stores.sqlite import SqliteState
from fedn.testing.contracts.samples import build_trail, successor

ELEMENTS = 150_000
ROUNDS = 2


@pytest.fixture
def mounted() -> Iterator[Callable[[Path], Disk]]:
    """Mounts disks, and unmounts them after everything that uses them has ended."""
    with ExitStack() as disks:

        def mount(path: Path) -> Disk:
            try:
                return disks.enter_context(Disk(path))
            except OSError as error:
                pytest.skip(f"mounting a disk is not permitted here: {error}")

        yield mount


def start(federation: Running) -> str:
    """Two clients and a session whose model is large enough to go through files."""
    for index in range(2):
        federation.sandbox.start_client(index)
    federation.attached(2)
    seed = seed_file({"w": np.zeros(ELEMENTS, dtype=np.float32)})
    model = federation.reducer.upload("/models", iter([seed]), len(seed), name="zeros")
    plan = {"rounds": ROUNDS, "min_clients": 2, "round_deadline": 90.0, "validate": False, "check": False}
    body = {"name": "full", "model": model["digest"], "plan": plan}
    return str(federation.reducer.post("/sessions", body)["session"])


def says(federation: Running, process: str, *words: str) -> None:
    """Wait for one line of its log with all these words."""
    log = federation.sandbox.processes[process].log
    federation.until(lambda: any(all(w in line for w in words) for line in log.read_text().splitlines()))


def waits(federation: Running, session: str, *words: str) -> None:
    """Wait until the session itself says why it waits."""

    def progress() -> Any:
        return federation.session(session)["progress"].get("reason", "")

    federation.until(lambda: all(word in progress() for word in words))


def finishes(federation: Running, session: str) -> None:
    """With both clients in every round, each trained once for it, and no word of a full disk any more."""
    assert federation.finished(session)
    assert federation.audit(session) < 1e-6
    rounds = federation.records(session)[1:]
    assert [names(record) for record in rounds] == [["client-1", "client-2"]] * ROUNDS
    assert [federation.trained(index) for index in range(2)] == [[1, 2], [1, 2]]


def test_disk_full_at_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounted: Callable[[Path], Disk]
) -> None:
    """What was trained waits in memory, and the client says which directory it waits for."""
    disk = mounted(tmp_path / "clients" / "client-1")
    with running(tmp_path, monkeypatch, combiners=1, clients=2) as federation:
        session = start(federation)
        disk.fill()
        federation.open_gate()
        federation.received(session, 1)
        says(federation, "client-1", "waiting", f"{disk.path}/journal", "make room")
        assert federation.session(session)["progress"]["received"] == 1
        disk.make_room()
        finishes(federation, session)


def test_disk_full_at_the_combiner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounted: Callable[[Path], Disk]
) -> None:
    """First the model has no room there, then the updates: neither is given up."""
    disk = mounted(tmp_path / "combiner-1")
    with running(tmp_path, monkeypatch, combiners=1, clients=2) as federation:
        disk.fill()
        session = start(federation)
        waits(federation, session, "combiner-1", str(disk.path), "make room")
        disk.make_room()
        federation.until(lambda: federation.session(session)["progress"].get("reason") == "")
        disk.fill()
        federation.open_gate()
        for client in ("client-1", "client-2"):
            says(federation, client, "waiting", str(disk.path), "make room")
        assert federation.session(session)["progress"]["received"] == 0
        disk.make_room()
        finishes(federation, session)
        assert federation.records(session)[1]["parts"][0]["part"] == 0  # the part was not given up


def test_disk_full_at_the_reducer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounted: Callable[[Path], Disk]
) -> None:
    """Nothing is committed until all of it can be; a killed reducer finds the trail whole."""
    disk = mounted(tmp_path / "reducer")
    with running(tmp_path, monkeypatch, combiners=1, clients=2) as federation:
        session = start(federation)
        disk.fill()
        federation.open_gate()
        waits(federation, session, str(disk.path), "make room")
        assert len(federation.records(session)) == 1
        assert federation.reducer.get(f"/sessions/{session}/trail/verify")["ok"]
        federation.sandbox.kill("reducer")
        disk.make_room()
        federation.sandbox.start_reducer()
        finishes(federation, session)
        left = [path.name for path in disk.path.rglob("*") if path.name.startswith(".incoming")]
        assert left == []


def committed(state: SqliteState, stored: StoredRecord, term: int) -> Head | None:
    """The new head; None if there was no room."""
    with suppress(StoreUnavailable):
        return state.commit_round(stored, term)
    return None


def test_disk_full_for_the_stores(tmp_path: Path, mounted: Callable[[Path], Disk]) -> None:
    """What was committed stays whole, what was not leaves nothing, and both go on when there is room."""
    disk = mounted(tmp_path / "disk")
    state, models = SqliteState(disk.path / "state.db"), FileModels(disk.path / "models")
    trail = build_trail(state, models)
    term, blobs, following = state.take_term(), sorted(models.digests()), successor(trail[-1])
    disk.fill()
    with pytest.raises(StoreUnavailable, match="make room"):
        models.put([bytes(5000), bytes(5000)])
    while head := committed(state, following, term):  # the log may have some room left
        assert head.record == following.digest
        trail, following = [*trail, following], successor(following)
    assert [stored.digest for stored in state.records(trail[0].record.session)] == [t.digest for t in trail]
    assert sorted(models.digests()) == blobs
    disk.make_room()
    assert state.commit_round(following, term).record == following.digest
    models.put([bytes(10000)])
    state.close()
    again = SqliteState(disk.path / "state.db", read_only=True)
    assert again.session(trail[0].record.session).head.record == following.digest
    again.close()


def test_disk_full_when_a_client_starts(tmp_path: Path, mounted: Callable[[Path], Disk]) -> None:
    """It says so, leaves nothing half, and has the identity that it is given when there is room."""
    disk = mounted(tmp_path / "disk")
    disk.fill()
    with pytest.raises(StoreUnavailable, match="make room"):
        claim(disk.path, "ann")
    disk.make_room()
    state = claim(disk.path, "ann")
    state.release()
    again = claim(disk.path, "ann")
    again.release()
    assert again.client == state.client
