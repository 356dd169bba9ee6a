"""What exporters have missed is told at the next start, once; with the real trackers' files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from fedn.observers.mlflow import MLflow
from fedn.observers.tensorboard import TensorBoard
from fedn.ports import Observed
from fedn.reducer.observing import Background
from fedn.reducer.retelling import Past


@pytest.fixture(params=[TensorBoard, MLflow], ids=["tensorboard", "mlflow"])
def kind(request, monkeypatch) -> type[Any]:
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.setenv(name, "true")
    pytest.importorskip({TensorBoard: "tensorboardX", MLflow: "mlflow"}[request.param])
    return request.param


@pytest.fixture
def session(service, small) -> str:
    started = small.seeded(service, rounds=5).session
    for accuracy in (0.5, 0.9, 0.7):
        service.commit(started, accuracy)
    return started


def named(told: Iterator[Observed]) -> list[tuple[str, int]]:
    return [(one.event, one.fields.get("round", 0)) for one in told]


def untold(service: Any, exporter: Any) -> Iterator[Observed]:
    past = Past(service.state)
    return (one for info in past for one in past.missed_by(exporter, info))


def both(round_: int) -> list[tuple[str, int]]:
    return [("round_committed", round_), ("round_validated", round_)]


def test_who_knows_nothing_is_told_everything_and_then_nothing_more(service, session, kind, tmp_path):
    exporter = kind(str(tmp_path))
    missed = list(untold(service, exporter))
    assert named(missed) == [("session_started", 0), *both(1), *both(2), *both(3), ("best_model", 2)]
    assert (missed[0].fields["name"], missed[0].fields["rounds"]) == ("digits", 5)
    for one in missed:
        exporter.observe(one)
    again = kind(str(tmp_path))
    assert named(untold(service, again)) == []
    service.end(session, "finished", "done")
    assert named(untold(service, again)) == [("session_finished", 0)]
    again.observe(Observed("session_finished", {"session": session, "reason": "done"}))
    for one in (exporter, again):
        one.close()
    assert named(untold(service, kind(str(tmp_path)))) == []


def test_holes_are_filled_and_a_late_validation_comes_behind_the_end(service, session, kind, tmp_path):
    exporter = kind(str(tmp_path))
    missed = list(untold(service, exporter))
    service.end(session, "finished", "done")
    for at in (0, 1, 2, 5):  # started, all of round 1, and that round 3 was committed
        exporter.observe(missed[at])
    assert named(untold(service, exporter)) == [
        ("session_recovered", 3), *both(2), ("round_validated", 3), ("best_model", 2), ("session_finished", 0)
    ]  # fmt: skip
    exporter.observe(Observed("session_finished", {"session": session, "reason": "done"}))
    assert named(untold(service, exporter))[0] == ("round_committed", 2)
    exporter.close()


def test_a_record_that_a_kill_cut_off_is_written_again(service, session, tmp_path):
    pytest.importorskip("tensorboardX")
    exporter = TensorBoard(str(tmp_path))
    for one in list(untold(service, exporter))[:3]:
        exporter.observe(one)
    exporter.close()
    [file] = tmp_path.rglob("*tfevents*")
    os.truncate(file, file.stat().st_size - 7)
    assert ("round_validated", 1) in named(untold(service, TensorBoard(str(tmp_path))))


class Remembers:
    """Writes into a list, of which some was there before."""

    events = frozenset({"session_started", "session_recovered", "round_committed", "round_validated"})

    def __init__(self, before: list[tuple[str, int]]) -> None:
        self.before = before
        self.seen: list[tuple[str, int]] = []

    def told(self, session: str) -> list[tuple[str, int]]:
        return self.before

    def observe(self, observed: Observed) -> None:
        self.seen.append((observed.event, observed.fields["round"]))

    def close(self) -> None:
        """Nothing is held."""


def test_what_happens_meanwhile_is_told_behind_it_and_nothing_twice(service, session):
    exporter = Remembers([("session_started", 0), *both(1), ("round_committed", 2)])
    behind = Background("list", exporter)
    behind.catch_up(Past(service.state))
    for event, round_ in [("session_recovered", 3), ("round_validated", 3), *both(4)]:
        behind.observe(Observed(event, {"session": session, "round": round_}))
    behind.close(30.0)
    assert exporter.seen == [
        ("session_recovered", 3), ("round_validated", 2), *both(3), ("session_recovered", 3), *both(4)
    ]  # fmt: skip


class Stumbling:
    """An exporter that knows nothing of one session, can't read another's, and fails once."""

    def __init__(self, unreadable: str) -> None:
        self.events = frozenset({"round_committed", "session_started"})
        self.heard: list[tuple[str, int]] = []
        self.closed = False
        self._unreadable = unreadable
        self._failed = False

    def told(self, session: str) -> list[tuple[str, int]]:
        if session == self._unreadable:
            raise ValueError("a damaged file")
        return []

    def observe(self, observed: Observed) -> None:
        if observed.fields["round"] == 3 and not self._failed:
            self._failed = True
            raise OSError("busy")
        self.heard.append((observed.event, observed.fields["round"]))

    def close(self) -> None:
        self.closed = True


def test_neither_an_unreadable_session_nor_one_failure_keeps_the_rest_from_being_told(
    service, session, small
):
    broken = small.seeded(service, rounds=5).session
    exporter = Stumbling(unreadable=broken)
    background = Background("stumbling", exporter)
    background.catch_up(Past(service.state))
    background.observe(Observed("round_committed", {"session": session, "round": 3}))
    background.close(30)
    assert exporter.closed
    assert exporter.heard == [
        ("session_started", 0),
        ("round_committed", 1),
        ("round_committed", 2),
        ("round_committed", 3),
    ]
