"""The promise, row by row: any process dies, sleeps or is cut off at an exact instant; nothing is lost,
nothing counts twice, nobody trains a finished round again. The table is in ``docs/protocol.md``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from federations import names
from ports import settled_port
from promise_rows import CALLS, FIRST, JOURNALED, ROWS, SECURED, STORE, Row, heard, mark
from promised import CLIENTS, LARGE, SMALL, promised
from proxy import Proxy
from trip import Trip

from fedn.sandbox.processes import HOST

CASES = [
    *(pytest.param(row, False, id=row.name) for row in ROWS),
    *(pytest.param(row, True, id=f"{row.name}-tls") for row in SECURED),
]


@pytest.mark.parametrize(("row", "tls"), CASES)
def test_promise(row: Row, tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with promised(tmp_path, monkeypatch, row.trips, row.gates, tls=tls) as federation:
        session = federation.start(LARGE if row.large else SMALL, rounds=row.rounds)
        federation.tripped(row.at)
        if row.dies:
            federation.sandbox.kill(row.dies)
        if row.trip.how == "stop" and row.kills:
            federation.wake(row.at)
        if row.pauses:
            federation.pause(row.pauses)
        if row.dies.startswith("client"):
            federation.until(lambda: federation.left(row.dies))
        federation.until(lambda: row.until(federation, session))
        if row.moves:
            federation.sandbox.homes[0] = "combiner-2"
        if row.dies and row.returns:
            federation.sandbox.start(row.dies)
        if row.sleeps:
            federation.wake(row.sleeps)
        if row.returns:
            federation.until(lambda: federation.at_work(row.dies or row.sleeps or "reducer"))
        for name in row.also:
            federation.tripped(name)
        federation.open_gate()
        session = session or federation.only_session()
        for name in row.late:
            federation.caught_up(name)
        federation.kept_promise(session, row.trained, [CLIENTS] * row.rounds)


def test_client_gone_for_good_between_receipt_and_crash_of_its_combiner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with promised(tmp_path, monkeypatch, {"client-1": heard("Receipt", "mark")}, FIRST) as federation:
        session = federation.start(rounds=1, min_clients=2)
        federation.tripped("client-1")
        federation.sandbox.kill("client-1")
        federation.sandbox.kill("combiner-1")
        federation.until(lambda: federation.clients_at("combiner-2") == {"client-2", "client-3"})
        federation.open_gate()
        federation.finished(session)
        federation.sandbox.start("client-1")  # its update is settled as not counted, and goes
        federation.kept_promise(session, {}, [CLIENTS[1:]])


def test_combiner_restarted_under_the_same_name_while_its_round_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only one, so its clients come back to it; one that was folded there has died with it."""
    trips = {"client-1": heard("Receipt", "mark")}
    with promised(tmp_path, monkeypatch, trips, FIRST, homes=("combiner-1",) * 3) as federation:
        [old] = federation.reducer.get("/combiners")["combiners"]
        session = federation.start(rounds=2)
        federation.tripped("client-1")
        federation.sandbox.kill("combiner-1")
        federation.sandbox.kill("client-1")
        federation.sandbox.start("combiner-1")
        federation.sandbox.start("client-1")
        federation.until(lambda: federation.clients_at("combiner-1") == set(CLIENTS))
        federation.open_gate()
        federation.kept_promise(session, {}, [CLIENTS] * 2)
        parts = federation.records(session)[1]["parts"]
        assert parts[0]["part"] == 0
        assert old["incarnation"] not in {part["incarnation"] for part in parts}


@pytest.mark.parametrize("instant", ["while-clients-train", "between-blob-and-record"])
def test_reducer_killed_with_several_sessions_under_way(
    instant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three sessions at once; the first has an update folded, or the second is just being committed."""
    commits = instant == "between-blob-and-record"
    trip = (
        {"reducer": Trip(f"{STORE}.commit_round", nth=2)}
        if commits
        else {"client-1": heard("Receipt", "mark")}
    )
    with promised(tmp_path, monkeypatch, trip, () if commits else FIRST) as federation:
        sessions = [federation.start(rounds=2) for _ in range(3)]
        if commits:
            federation.open_gate()
        federation.tripped(*trip)
        federation.sandbox.kill("reducer")
        federation.open_gate()
        federation.sandbox.start("reducer")
        for session in sessions:
            federation.finished(session)
        for session in sessions:
            assert [names(record) for record in federation.records(session)[1:]] == [CLIENTS] * 2
            assert federation.audit(session) < 1e-6
        assert [sorted(federation.trained(index)) for index in range(3)] == [[1, 1, 1, 2, 2, 2]] * 3
        federation.until(lambda: not federation.journals())


def test_client_moves_between_release_and_tombstone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reducer dies right after the old combiner put up its tombstone: it asks again."""
    trips = {"client-1": JOURNALED, "reducer": Trip(f"{CALLS}.release", when="after")}
    with promised(tmp_path, monkeypatch, trips, FIRST) as federation:
        session = federation.start(rounds=2)
        federation.tripped("client-1")
        federation.sandbox.kill("client-1")
        federation.sandbox.homes[0] = "combiner-2"
        federation.sandbox.start("client-1")
        federation.tripped("reducer")
        federation.sandbox.kill("reducer")
        federation.sandbox.start("reducer")
        federation.open_gate()
        federation.kept_promise(session, {}, [CLIENTS] * 2)


# --- links that stay cut -----------------------------------------------------------------------------

TRAINING = {"client-1": mark("fedn.client.trainer:AppTrainer.train")}


def test_link_to_reducer_cut_while_a_round_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither combiners nor clients reach the reducer; it reaches the combiners, and that is enough."""
    port = settled_port()
    with Proxy(f"{HOST}:{port}") as link:
        by = (f"--reducer=http://{link.address}",)
        more = dict.fromkeys(["combiner-1", "combiner-2", *CLIENTS], by)
        with promised(tmp_path, monkeypatch, TRAINING, (), port, more) as federation:
            session = federation.start(rounds=2)
            federation.tripped("client-1")
            link.refuse()
            link.cut()
            federation.open_gate()
            federation.kept_promise(session, {}, [CLIENTS] * 2)


@pytest.mark.parametrize("how", ["cut", "silent"])
def test_link_to_a_combiner_cut_for_longer_than_the_graces(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """combiner-1 has folded client-1 when reducer and clients lose it; later it is back, as it was."""
    port = settled_port()
    with Proxy(f"{HOST}:{port}") as link:
        more = {"combiner-1": (f"--port={port}", f"--advertise={link.address}")}
        trips = {"client-1": heard("Receipt", "mark")}
        with promised(tmp_path, monkeypatch, trips, (0,), more=more) as federation:
            session = federation.start(rounds=2)
            federation.tripped("client-1")
            link.refuse() if how == "cut" else link.freeze()
            link.cut() if how == "cut" else None
            federation.until(federation.moved)
            link.accept() if how == "cut" else link.thaw()
            federation.until(lambda: federation.live("combiner-1"))
            federation.open_gate()
            federation.kept_promise(session, {}, [CLIENTS] * 2)
