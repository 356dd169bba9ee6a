"""The owner's say: what is allowed, when, and whether just now."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path

import pytest

from fedn.client.owner import PAUSED, Allowed, Owner, pause, read_pause, resume
from fedn.domain.errors import Damaged
from fedn.domain.hours import parse_hours
from fedn.domain.ids import SessionId

PACKAGE, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("allowed", "session", "package", "rule"),
    [
        (Allowed(), "s-1", PACKAGE, ""),
        (Allowed(["s-1", "s-2026*"]), "s-20261121-x", "", ""),
        (Allowed(["s-1", "s-2026*"]), "s-2", "", "does not allow session s-2 (sessions)"),
        (Allowed(["s-*"]), "S-1", "", "does not allow session S-1 (sessions)"),
        (Allowed(packages=[PACKAGE]), "s", PACKAGE, ""),
        (Allowed(packages=[PACKAGE]), "s", OTHER, f"does not allow package {OTHER[:12]} (allow)"),
        (Allowed(packages=[PACKAGE]), "s", "", ""),
    ],
)
def test_what_is_not_allowed_is_refused_by_the_rule(
    allowed: Allowed, session: str, package: str, rule: str
) -> None:
    objection = allowed.objection(SessionId(session), package)
    assert objection == (f"this client's owner {rule}" if rule else "")


class Clock:
    def __init__(self, time: str) -> None:
        self.time = time

    def __call__(self) -> datetime:
        return datetime.fromisoformat(f"2026-11-20T{self.time}")


def test_outside_its_hours_it_is_away_and_says_which_they_are() -> None:
    clock = Clock("19:59")
    owner = Owner(Allowed(hours=parse_hours("hours", "20:00-06:00")), clock=clock)
    assert owner.away() == "this client takes part at 20:00-06:00 only"
    clock.time = "20:00"
    assert owner.away() == ""


def test_a_pause_is_seen_survives_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "paused.json"
    owner = Owner(paused=path)
    assert owner.away() == ""
    pause(path, 12.0, now=False)
    assert owner.away() == Owner(paused=path).away() == PAUSED
    resume(path)
    assert owner.away() == ""
    resume(path)


def test_a_spoilt_pause_is_a_pause(tmp_path: Path) -> None:
    path = tmp_path / "paused.json"
    path.write_text('{"since":')
    assert Owner(paused=path).away() == PAUSED
    with pytest.raises(Damaged, match="fedn client resume"):
        read_pause(path)


async def test_who_waits_hears_of_a_pause_and_of_its_end(tmp_path: Path) -> None:
    path = tmp_path / "paused.json"
    owner = Owner(paused=path)
    waiting = asyncio.create_task(owner.until(away=True))
    pause(path, 0.0, now=False)
    async with asyncio.timeout(20):
        assert await waiting == PAUSED
        back = asyncio.create_task(owner.until(away=False))
        resume(path)
        assert await back == ""


async def test_what_is_under_way_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    path, rested = tmp_path / "paused.json", asyncio.Event()
    pause(path, 0.0, now=False)
    owner = Owner(Allowed(leave_within=3600), path)
    async with asyncio.timeout(20):
        resting = asyncio.create_task(owner.rest(rested))
        rested.set()
        assert await resting
        assert await Owner(Allowed(leave_within=0.0), path).rest(asyncio.Event())


async def test_its_owner_may_want_it_to_go_at_once_or_to_stay_after_all(tmp_path: Path) -> None:
    path = tmp_path / "paused.json"
    pause(path, 0.0, now=False)
    owner = Owner(Allowed(leave_within=3600), path)
    async with asyncio.timeout(20):
        resting = asyncio.create_task(owner.rest(asyncio.Event()))
        pause(path, 0.0, now=True)
        assert await resting
        pause(path, 0.0, now=False)
        staying = asyncio.create_task(owner.rest(asyncio.Event()))
        resume(path)
        assert not await staying


def test_a_pause_is_whole_or_not_there(tmp_path: Path, disk_calls: list[tuple[str, int]]) -> None:
    path = tmp_path / "paused.json"
    pause(path, 12.5, now=True)
    assert json.loads(path.read_text()) == {"since": 12.5, "now": True}
    file, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert disk_calls == [("fsync", file), ("replace", file), ("fsync", folder)]
