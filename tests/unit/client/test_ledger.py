"""A client's ledger: nothing of it is lost, nothing of it can be changed unseen."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedn.client.ledger import GENESIS, Ledger, ledger_files
from fedn.client.ledger_check import Totals, entries, verify_ledger
from fedn.domain.errors import Damaged
from fedn.domain.ids import digest_of

SMALL = 1500
"""Bytes of a file that takes a few lines."""


def written(folder: Path, count: int, files: int = 16, file_bytes: int = 2**20) -> Path:
    ledger = Ledger(folder, files, file_bytes, clock=lambda: 1000.5)
    for number in range(count):
        ledger.note(
            "failure_told", "combiner-1", "host:1", session="s", round=number, size=7, digest="d" * 64
        )
    ledger.close()
    return folder


def lines(folder: Path) -> list[bytes]:
    return [line for path in ledger_files(folder) for line in path.read_bytes().splitlines()]


def test_what_is_noted_is_read_again_and_chained(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, clock=lambda: 1000.5)
    ledger.note("hello_said", "combiner-1", "host:1", size=33, details={"name": "é"})
    ledger.note(
        "upload_begun", "combiner-1", "host:1", session="s", round=2, size=9, digest="d" * 64, durable=True
    )
    first, second = entries(tmp_path)
    assert (first.number, first.parent, first.at, first.details) == (1, GENESIS, 1000.5, {"name": "é"})
    assert (second.number, second.parent) == (2, digest_of(first.line()))
    assert (second.session, second.round, second.size, second.digest) == ("s", 2, 9, "d" * 64)
    assert second.address == "host:1"
    report = verify_ledger(tmp_path)
    assert (report.ok, report.first, report.last) == (True, 1, 2)
    assert report.head == digest_of(second.line())
    assert ledger_files(tmp_path)[0].stat().st_mode & 0o777 == 0o600


def test_an_empty_ledger_is_whole(tmp_path: Path) -> None:
    Ledger(tmp_path).close()
    assert verify_ledger(tmp_path) == verify_ledger(tmp_path / "nowhere")
    assert verify_ledger(tmp_path).ok
    assert not verify_ledger(tmp_path, "a" * 64).ok


def test_a_durable_line_and_all_before_it_are_on_disk(
    tmp_path: Path, disk_calls: list[tuple[str, int]]
) -> None:
    ledger = Ledger(tmp_path, file_bytes=SMALL)
    ledger.note("hello_said", "c", "a")
    file, folder = ledger_files(tmp_path)[0].stat().st_ino, tmp_path.stat().st_ino
    assert disk_calls == [("fsync", folder)]  # so that the file is there after a power cut
    ledger.note("upload_begun", "c", "a", durable=True)
    assert disk_calls[1:] == [("fsync", file)]
    disk_calls.clear()
    while len(ledger_files(tmp_path)) == 1:
        ledger.note("hello_said", "c", "a")
    assert disk_calls == [
        ("fsync", file),
        ("fsync", folder),
    ]  # the file that ends, before the one that begins


def test_it_goes_on_after_a_restart(tmp_path: Path) -> None:
    written(tmp_path, 3)
    written(tmp_path, 2)
    report = verify_ledger(tmp_path)
    assert (report.ok, report.last) == (True, 5)
    assert len(ledger_files(tmp_path)) == 1


def test_the_oldest_files_go_and_the_chain_goes_on(tmp_path: Path) -> None:
    written(tmp_path, 100, files=3, file_bytes=SMALL)
    written(tmp_path, 1, files=3, file_bytes=SMALL)
    assert len(ledger_files(tmp_path)) == 3
    assert all(path.stat().st_size <= SMALL for path in ledger_files(tmp_path))
    report = verify_ledger(tmp_path)
    assert (report.ok, report.last) == (True, 101)
    assert report.first == int(ledger_files(tmp_path)[0].stem) > 80
    assert next(entries(tmp_path)).number == report.first


@pytest.mark.parametrize("left", [b'{"address":', b"\0" * 500, b"x"])
def test_what_a_crash_left_of_a_line_is_cut_off(tmp_path: Path, left: bytes) -> None:
    written(tmp_path, 2)
    with ledger_files(tmp_path)[0].open("ab") as file:
        file.write(left)
    assert verify_ledger(tmp_path).last == 2
    written(tmp_path, 1)
    report = verify_ledger(tmp_path)
    assert (report.ok, report.last) == (True, 3)


def test_a_file_that_was_begun_before_a_crash_is_used(tmp_path: Path) -> None:
    written(tmp_path, 10, file_bytes=SMALL)
    last = verify_ledger(tmp_path).last
    (tmp_path / f"{last + 1:012}.jsonl").touch()
    written(tmp_path, 1, file_bytes=SMALL)
    assert (verify_ledger(tmp_path).ok, verify_ledger(tmp_path).last) == (True, last + 1)


@pytest.mark.parametrize("end", [b"what is this\n", b"{}\n", b"\0" * 300_000])
def test_what_is_no_ledger_is_said_and_not_written_to(tmp_path: Path, end: bytes) -> None:
    written(tmp_path, 2)
    path = ledger_files(tmp_path)[0]
    with path.open("ab") as file:
        file.write(end)
    before = path.read_bytes()
    with pytest.raises(Damaged, match="elsewhere to begin a new ledger"):
        Ledger(tmp_path)
    assert path.read_bytes() == before


def changed(line: int, **values: object) -> Callable[[list[bytes]], None]:
    def tamper(of: list[bytes]) -> None:
        told = {**json.loads(of[line - 1]), **values}
        of[line - 1] = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()

    return tamper


def spoilt(of: list[bytes]) -> None:
    of[2] = of[2].replace(b'"size":7', b'"size": 7')


@pytest.mark.parametrize(
    ("tamper", "at", "words"),
    [
        (changed(3, size=0), 4, "Line 4 follows"),
        (changed(3, to="nobody"), 4, "Line 4 follows"),
        (changed(3, number=4), 3, "Line 3 is missing"),
        (changed(1, parent="f" * 64), 1, "Line 1 follows"),
        (changed(3, size="7"), 3, "Line 3 is damaged"),
        (changed(3, more=1), 3, "Line 3 is damaged"),
        (spoilt, 3, "Line 3 is damaged"),
        (lambda of: of.pop(2), 3, "Line 3 is missing: line 4"),
        (lambda of: of.insert(2, of[1]), 3, "Line 3 is missing: line 2"),
        (lambda of: of.__setitem__(slice(2, 4), [of[3], of[2]]), 3, "Line 3 is missing: line 4"),
        (lambda of: of.pop(0), 1, "Line 1 is missing: line 2"),
        (lambda of: of.__setitem__(2, b""), 3, "Line 3 is damaged"),
        (lambda of: of.__setitem__(2, b"[" * 70_000), 3, "Line 3 is damaged"),
    ],
)
def test_tampering_is_found(
    tmp_path: Path, tamper: Callable[[list[bytes]], None], at: int, words: str
) -> None:
    written(tmp_path, 5)
    found = lines(tmp_path)
    tamper(found)
    ledger_files(tmp_path)[0].write_bytes(b"".join(line + b"\n" for line in found))
    report = verify_ledger(tmp_path)
    assert (report.ok, report.at) == (False, at)
    assert words in report.problem
    assert report.last == at - 1


def test_a_file_that_is_gone_is_found_but_the_end_and_the_beginning_only_by_a_pin(tmp_path: Path) -> None:
    written(tmp_path, 30, file_bytes=SMALL)
    pin, early = verify_ledger(tmp_path).head, digest_of(lines(tmp_path)[2])
    assert verify_ledger(tmp_path, pin).ok
    assert verify_ledger(tmp_path, early).ok
    first, second, *_, last = ledger_files(tmp_path)
    kept = second.read_bytes()
    second.unlink()
    assert f"Line {int(second.stem)} is missing" in verify_ledger(tmp_path).problem
    second.write_bytes(kept)
    last.unlink()
    assert verify_ledger(tmp_path).ok
    assert "cut off" in verify_ledger(tmp_path, pin).problem
    first.unlink()
    assert verify_ledger(tmp_path).ok
    assert "cut off or removed" in verify_ledger(tmp_path, early).problem


def test_many_write_at_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, files=100, file_bytes=20_000)
    with ThreadPoolExecutor(8) as pool:
        for number in range(400):
            pool.submit(ledger.note, "failure_told", "c", "a", round=number, durable=number % 20 == 0)
    assert verify_ledger(tmp_path).last == 400
    assert sorted(entry.round for entry in entries(tmp_path)) == list(range(400))


def test_a_file_that_can_not_be_removed_does_not_break_the_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(tmp_path, files=2, file_bytes=SMALL)
    monkeypatch.setattr(Path, "unlink", refuse)
    for _ in range(30):
        ledger.note("hello_said", "c", "a")
    assert len(ledger_files(tmp_path)) > 2
    assert (verify_ledger(tmp_path).ok, verify_ledger(tmp_path).last) == (True, 30)
    monkeypatch.undo()
    while verify_ledger(tmp_path).first == 1:
        ledger.note("hello_said", "c", "a")
    assert len(ledger_files(tmp_path)) == 2
    assert verify_ledger(tmp_path).ok


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


FULL = """
import resource, signal, sys
from pathlib import Path
from fedn.client.ledger import Ledger
from fedn.domain.errors import StoreUnavailable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger = Ledger(Path(sys.argv[1]))
ledger.note("hello_said", "c", "a")
resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))
refused = 0
for _ in range(3):
    try:
        ledger.note("upload_begun", "c", "a", durable=True)
    except StoreUnavailable:
        refused += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ledger.note("upload_begun", "c", "a", durable=True)
print(refused)
"""


def test_what_does_not_fit_is_not_there_in_part(tmp_path: Path) -> None:
    """A file that may not grow takes the first part of a line, as a full disk does."""
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"
    report = verify_ledger(tmp_path)
    assert (report.ok, report.last) == (True, 2)


def test_totals_are_of_what_really_left(tmp_path: Path) -> None:
    ledger, update, other = Ledger(tmp_path), "a" * 64, "b" * 64
    inline = {"update_size": 100, "inline": True}
    ledger.note("hello_said", "c", "a", size=30)
    ledger.note("update_offered", "c", "a", session="s", size=180, digest=update, details=inline)
    ledger.note("update_offered", "c", "a", session="s", size=90, digest=other, details={"update_size": 5000})
    ledger.note("upload_begun", "c", "a", session="s", size=5000, digest=other)
    ledger.note("upload_broken", "c", "a", session="s", digest=other, details={"unsent": 3000})
    ledger.note("upload_begun", "c", "a", session="s", size=3000, digest=other)
    totals = {"": Totals(), "s": Totals()}
    for entry in entries(tmp_path):
        totals[entry.session].add(entry)
    assert totals[""].size == 30
    assert totals["s"].update_size == 100 + 2000 + 3000
    assert totals["s"].size == 180 + 90 + 2000 + 3000
    assert totals["s"].messages == 2
    assert totals["s"].updates == {update, other}
