"""What a task leaves in its worker's folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fedn.client import leftovers
from fedn.client.leftovers import clear, files_in


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_files_of_a_task_go_and_those_of_the_start_stay(tmp_path: Path) -> None:
    work, outside = tmp_path / "work", tmp_path / "outside"
    (work / ".cache").mkdir(parents=True)
    (work / ".cache" / "made-by-startup").write_text("x")
    outside.mkdir()
    (outside / "file").touch()
    kept = files_in(work)
    assert kept == {".cache/made-by-startup"}
    (work / ".cache" / "of-a-task").touch()
    (work / "tmp").mkdir()
    (work / "tmp" / "made-by-startup").touch()
    (work / "link").symlink_to(outside)
    os.mkfifo(work / "tmp" / "pipe")
    at = os.open(work / "tmp", os.O_RDONLY)  # for a short name: that of a socket has 108 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{at}/socket")
    os.close(at)
    assert clear(work, kept)
    assert names(work) == {".cache", ".cache/made-by-startup", "tmp", "tmp/pipe", "tmp/socket"}
    assert (outside / "file").exists()


def test_more_than_may_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "MAX_ENTRIES", 3)
    for number in range(3):
        (tmp_path / str(number)).mkdir()
    assert clear(tmp_path, frozenset())
    (tmp_path / "3").mkdir()
    assert not clear(tmp_path, frozenset())
    monkeypatch.undo()
    monkeypatch.setattr(leftovers, "MAX_BYTES", 10_000)
    (tmp_path / "grown").write_bytes(b"x" * 20_000)
    assert not clear(tmp_path, frozenset({"grown"}))
    assert files_in(tmp_path) is None
    assert clear(tmp_path, frozenset())
    assert not (tmp_path / "grown").exists()


def test_folders_in_folders_without_end(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * (leftovers.MAX_DEEP + 1))
    deep.mkdir(parents=True)
    assert not clear(tmp_path, frozenset())
