"""What a client's ledger is told: never on the event loop; no flood of failures drives older lines out."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fedn.client.failures import HOUR, TOO_MANY, Failures
from fedn.client.ledger import Entry, Ledger
from fedn.client.ledger_check import Totals, entries, verify_ledger
from fedn.client.noting import Notes
from fedn.client.unseen import Unseen
from fedn.domain import messages as m
from fedn.domain.errors import StoreUnavailable
from fedn.domain.ids import CombinerName, Digest, SessionId

THERE = m.Assignment(CombinerName("combiner-1"), "host:1")
DIGEST = Digest("d" * 64)


def failed(reason: str, round: int = 1, session: str = "s") -> m.TaskFailed:
    return m.TaskFailed(SessionId(session), round, m.TaskKind.TRAIN, reason)


async def told(notes: Notes, *messages: m.ClientMessage) -> list[m.ClientMessage]:
    """What leaves."""

    async def each() -> AsyncIterator[m.ClientMessage]:
        for message in messages:
            yield message

    def held_back(message: m.ClientMessage, error: StoreUnavailable) -> None:
        raise error

    return [message async for message in notes.each(each(), THERE, held_back)]


def noted(folder: Path, what: str) -> list[Entry]:
    return [entry for entry in entries(folder) if entry.what == what]


async def test_equal_failures_are_one_line_and_a_count(tmp_path: Path) -> None:
    notes = Notes(Ledger(tmp_path))
    flood = [failed("waits", round=number) for number in range(1, 1001)]
    assert await told(notes, *flood, failed("another")) == [*flood, failed("another")]
    assert [line.details["reason"] for line in noted(tmp_path, "failure_told")] == ["waits", "another"]
    await notes.left(THERE)
    await told(notes, failed("waits"))
    await notes.left(THERE)
    counted = noted(tmp_path, "failures_told")
    assert [line.details["messages"] for line in counted] == [999, 1]
    totals = Totals()
    for line in entries(tmp_path):
        totals.add(line)
    assert totals.messages == 1002
    assert verify_ledger(tmp_path).ok


async def test_failures_of_ever_new_reasons_are_bounded_each_hour(tmp_path: Path) -> None:
    now = 0.0
    notes = Notes(Ledger(tmp_path))
    notes._failures = Failures(most=3, clock=lambda: now)
    flood = [failed(f"no {number}", session=f"s-{number}") for number in range(50)]
    left = await told(notes, *flood)
    assert left[:3] == flood[:3]
    assert {message.reason for message in left[3:]} == {TOO_MANY}  # type: ignore[union-attr]
    assert len(noted(tmp_path, "failure_told")) == 4
    now = HOUR
    assert await told(notes, flood[-1]) == [flood[-1]]
    [counted] = noted(tmp_path, "failures_told")
    assert (counted.details["messages"], counted.details["reason"]) == (46, TOO_MANY)


async def test_a_failure_that_could_not_be_noted_is_not_taken_for_one_that_was(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    notes = Notes(Ledger(folder))
    folder.rmdir()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await told(notes, failed("no"))
    folder.mkdir()
    assert await told(notes, failed("no")) == [failed("no")]
    assert len(noted(folder, "failure_told")) == 1


async def test_a_file_that_ends_does_not_hold_up_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(Ledger(tmp_path, file_bytes=1), "http://reducer")
    await told(notes, failed("first"))
    syncing, go, sync = threading.Event(), threading.Event(), os.fsync

    def slowly(file: int) -> None:
        syncing.set()
        assert go.wait(20), "whoever lets it go was kept waiting itself"
        sync(file)

    monkeypatch.setattr(os, "fsync", slowly)
    report = m.ModelValidated(SessionId("s"), 1, "me", DIGEST, 1, {}, m.TaskKind.VALIDATE)  # type: ignore[arg-type]
    for word in (
        told(notes, failed("second")),
        told(notes, report),
        notes.fetching(m.FetchRequest(DIGEST, 0), THERE),
        notes.combiner_asked("me", "", ""),  # type: ignore[arg-type]
    ):
        saying = asyncio.ensure_future(word)
        await asyncio.to_thread(syncing.wait, 60)
        assert not saying.done()
        go.set()
        await saying
        syncing.clear()
        go.clear()
    go.set()
    assert [entry.what for entry in entries(tmp_path)] == [
        "failure_told", "failure_told", "validation_reported", "file_asked", "combiner_asked",
    ]  # fmt: skip


def test_what_nobody_sees_leave_has_a_line_when_it_begins(
    tmp_path: Path, disk_calls: list[tuple[str, int]]
) -> None:
    unseen = Unseen(Ledger(tmp_path))
    task = m.Task(SessionId("s"), 3, m.TaskKind.TRAIN, DIGEST, 1, "", 0, package=DIGEST, package_size=1)
    unseen.install_begun(DIGEST, task, 2)
    unseen.package_begun(DIGEST, task)
    file = next(tmp_path.iterdir()).stat().st_ino
    assert [call for call in disk_calls if call == ("fsync", file)] == [("fsync", file)] * 2
    install, code = entries(tmp_path)
    assert (install.what, install.session, install.round, install.digest) == ("install_begun", "s", 3, DIGEST)
    assert (install.to, install.details) == ("package index", {"requirements": 2, "bytes": "unknown"})
    assert (code.what, code.digest, code.size) == ("package_begun", DIGEST, 0)
    assert code.details == {"task": "train", "network": "open", "bytes": "unknown"}
    Unseen().package_begun(DIGEST, task)
