"""What user code prints: the last of it stays, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedn.client.output import Output, older, tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_the_newest_stays(path: Path) -> None:
    log = Output(path, most=100)
    for number in range(40):
        log.write(f"line {number:3}\n".encode())
    log.close()
    assert path.stat().st_size <= 50
    assert older(path).stat().st_size <= 50
    kept = [int(line.split()[1]) for line in tail(path, 1000).splitlines()]
    assert kept == list(range(kept[0], 40))
    assert len(kept) > 5
    assert tail(path, 9) == "line  39\n"


def test_more_than_fits_at_once(path: Path) -> None:
    log = Output(path, most=100)
    log.write(bytes(range(256)))
    log.close()
    assert path.read_bytes() == bytes(range(206, 256))


def test_two_writers_share_a_log(path: Path) -> None:
    one, other = Output(path, most=100), Output(path, most=100)
    for number in range(20):
        (one if number % 2 else other).write(f"line {number:3}\n".encode())
    for log in (one, other):
        log.close()
    assert tail(path, 1000).splitlines()[-5:] == [f"line {number:3}" for number in range(15, 20)]
    assert path.stat().st_size + older(path).stat().st_size <= 100


def test_without_a_log_there_is_no_tail(path: Path) -> None:
    assert tail(path) == ""


def test_what_can_not_be_written_is_dropped(tmp_path: Path) -> None:
    log = Output(tmp_path / "nowhere" / "log")
    log.write(b"x")
    log.close()
    assert not (tmp_path / "nowhere").exists()
