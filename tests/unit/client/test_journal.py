"""The journal keeps whole updates, across restarts and across SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedn.client.journal import FileJournal
from fedn.domain.errors import Busy, InvalidInput, StoreUnavailable
from fedn.domain.ids import ClientId, SessionId, digest_of
from fedn.domain.update import UpdateHeader

S = SessionId("s-20260101-abc")
LIMIT = 2**20


def header(round_: int, file: bytes, session: str = S) -> UpdateHeader:
    base = digest_of(b"base")
    return UpdateHeader(
        SessionId(session), round_, ClientId("ann"), base, 10, len(file), digest_of(file), base, {"loss": 0.5}
    )


def add(journal: FileJournal, round_: int, file: bytes = b"0123456789", session: str = S) -> UpdateHeader:
    made = header(round_, file, session)
    journal.add(made, file)
    return made


def bytes_of(journal: FileJournal, update: UpdateHeader, offset: int = 0) -> bytes:
    return b"".join(bytes(chunk) for chunk in journal.read(update, offset))


def test_an_update_is_there_after_a_restart_with_all_its_header(tmp_path: Path) -> None:
    first, second = (add(FileJournal(tmp_path, LIMIT), n, b"file %d" % n) for n in (1, 2))
    again = FileJournal(tmp_path, LIMIT)
    assert again.held() == [first, second]
    assert again.get(S, 1) == first
    assert bytes_of(again, second) == b"file 2"


def test_what_is_not_there_is_none(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, LIMIT)
    assert journal.get(S, 1) is None
    assert journal.held() == []
    journal.settle(S, 1)


def test_sessions_and_rounds_do_not_collide(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, LIMIT)
    names = [("a", 11), ("a-1", 1), ("a.b", 1), ("a", 1)]
    updates = [add(journal, n, f"{s} {n}".encode(), s) for s, n in names]
    again = FileJournal(tmp_path, LIMIT)
    assert [bytes_of(again, u) for u in updates] == [b"a 11", b"a-1 1", b"a.b 1", b"a 1"]


@pytest.mark.parametrize("offset", [0, 1, 9, 10, 11])
def test_reading_begins_at_the_offset(tmp_path: Path, offset: int) -> None:
    journal = FileJournal(tmp_path, LIMIT)
    assert bytes_of(journal, add(journal, 1), offset) == b"0123456789"[offset:]


def test_reading_comes_in_bounded_chunks(tmp_path: Path) -> None:
    journal, file = FileJournal(tmp_path, 2**23), os.urandom(2**21 + 17)
    chunks = list(journal.read(add(journal, 1, file), 5))
    assert [len(c) for c in chunks] == [2**20, 2**20, 12]
    assert b"".join(bytes(c) for c in chunks) == file[5:]


def test_a_settled_update_is_gone_for_good(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, LIMIT)
    add(journal, 1)
    journal.settle(S, 1)
    journal.settle(S, 1)
    assert journal.held() == FileJournal(tmp_path, LIMIT).held() == []
    assert [path.name for path in tmp_path.iterdir()] == ["past.json"]


def test_a_stream_under_way_ends_whole_although_the_update_is_settled(tmp_path: Path) -> None:
    journal, file = FileJournal(tmp_path, 2**23), os.urandom(2**20 + 9)
    stream = journal.read(add(journal, 1, file), 0)
    start = bytes(next(stream))
    journal.settle(S, 1)
    assert start + b"".join(bytes(c) for c in stream) == file


def test_the_same_round_again_replaces_the_update(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, LIMIT)
    add(journal, 1, b"old")
    new = add(journal, 1, b"newer")
    assert FileJournal(tmp_path, LIMIT).held() == [new]
    assert bytes_of(journal, new) == b"newer"


def test_kept_updates_are_moved_byte_for_byte(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    journal = FileJournal(tmp_path / "journal", LIMIT, kept)
    update = add(journal, 4, b"weights")
    assert not kept.exists()
    journal.settle(S, 4)
    assert (kept / f"{S}-4-{update.digest}.safetensors").read_bytes() == b"weights"
    assert not list((tmp_path / "journal").glob("*.update"))


# --- what a power cut leaves -------------------------------------------------------------------------


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_an_update_goes_only_when_its_settlement_is_on_disk(
    tmp_path: Path, disk_calls: list[tuple[str, int]]
) -> None:
    journal = FileJournal(tmp_path, LIMIT)
    add(journal, 1)
    update = inode(next(tmp_path.glob("*.update")))
    disk_calls.clear()
    journal.settle(S, 1)
    past = inode(tmp_path / "past.json")
    assert disk_calls == [("fsync", past), ("replace", past), ("fsync", inode(tmp_path)), ("unlink", update)]


def test_an_update_goes_only_when_the_kept_one_is_on_disk(
    tmp_path: Path, disk_calls: list[tuple[str, int]]
) -> None:
    kept = tmp_path / "kept"
    journal = FileJournal(tmp_path / "journal", LIMIT, kept)
    add(journal, 1)
    update = inode(next((tmp_path / "journal").glob("*.update")))
    disk_calls.clear()
    journal.settle(S, 1)
    copy = inode(next(kept.iterdir()))
    story = [("mkdir", inode(kept)), ("fsync", inode(tmp_path)),
             ("fsync", copy), ("replace", copy), ("fsync", inode(kept))]  # fmt: skip
    assert disk_calls[: len(story)] == story
    assert disk_calls[-1] == ("unlink", update)


def test_an_update_that_can_not_be_kept_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("in the way")
    journal = FileJournal(tmp_path / "journal", LIMIT, kept)
    update = add(journal, 1)
    with pytest.raises(StoreUnavailable, match="kept"):
        journal.settle(S, 1)
    assert FileJournal(tmp_path / "journal", LIMIT).held() == [update]


# --- what a crash leaves -----------------------------------------------------------------------------


def test_a_half_written_update_is_removed(tmp_path: Path) -> None:
    whole = add(FileJournal(tmp_path, LIMIT), 1)
    half = tmp_path / f"{S}-2.tmp"
    half.write_bytes(b"\x10\x00")
    assert FileJournal(tmp_path, LIMIT).held() == [whole]
    assert not half.exists()


def whole_file(tmp_path: Path) -> bytes:
    place = tmp_path / "other"
    add(FileJournal(place, LIMIT), 2)
    return next(place.iterdir()).read_bytes()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: b"",
        lambda whole: whole[:4],
        lambda whole: whole[:40],
        lambda whole: whole[:-1],
        lambda whole: whole + b"x",
        lambda whole: b"\xff" * len(whole),
        lambda whole: os.urandom(500),
        lambda whole: (2).to_bytes(8, "little") + b"[]",
        lambda whole: (2).to_bytes(8, "little") + b"{}",
        lambda whole: whole.replace(b'"round":2', b'"round":0'),
        lambda whole: whole.replace(b'"round":2', b'"round":3'),
        lambda whole: whole.replace(b'"client":"ann"', b'"client":"../"'),
        lambda whole: whole.replace(b'"size":10', b'"size":"x"'),
    ],
)
def test_what_is_not_a_whole_update_is_removed(tmp_path: Path, spoil) -> None:
    journal = tmp_path / "journal"
    good = add(FileJournal(journal, LIMIT), 1)
    bad = journal / f"{S}-2.update"
    bad.write_bytes(spoil(whole_file(tmp_path)))
    assert FileJournal(journal, LIMIT).held() == [good]
    assert not bad.exists()


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("mine")
    FileJournal(tmp_path, LIMIT)
    assert (tmp_path / "README").read_text() == "mine"


KEEPER = """
import sys
from pathlib import Path
from fedn.client.journal import FileJournal
from fedn.domain.ids import digest_of
from fedn.domain.update import UpdateHeader
journal, base = FileJournal(Path(sys.argv[1]), 2**30), digest_of(b"base")
for number in range(1, 10_000):
    file = bytes([number % 256]) * (number * 997)
    journal.add(UpdateHeader("s", number, "ann", base, 1, len(file), digest_of(file), base), file)
    print(number, flush=True)
"""


@pytest.mark.parametrize("kill_after", [1, 7, 20])
def test_after_sigkill_every_update_that_add_returned_from_is_there_and_whole(
    tmp_path: Path, kill_after: int
) -> None:
    keeper = [sys.executable, "-c", KEEPER, str(tmp_path)]
    with subprocess.Popen(keeper, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        while int(process.stdout.readline()) < kill_after:
            pass
        process.send_signal(signal.SIGKILL)
        told = [kill_after, *map(int, process.stdout.read().split())]
    journal = FileJournal(tmp_path, 2**30)
    rounds = sorted(update.round for update in journal.held())
    assert rounds == list(range(1, rounds[-1] + 1))
    assert told[-1] <= rounds[-1] <= told[-1] + 1
    for update in journal.held():
        assert digest_of(bytes_of(journal, update)) == update.digest
    assert not list(tmp_path.glob("*.tmp"))


# --- bounds ------------------------------------------------------------------------------------------


def test_a_full_journal_refuses_and_drops_nothing_until_something_is_settled(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, 25)
    first, second = add(journal, 3), add(journal, 1)
    with pytest.raises(Busy, match="not settled"):
        add(journal, 2)
    assert journal.held() == FileJournal(tmp_path, 25).held() == [first, second]
    journal.settle(first.session, first.round)
    third = add(journal, 2)
    assert journal.held() == [second, third]


def test_an_update_larger_than_the_whole_journal_is_refused_and_drops_nothing(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, 25)
    small = add(journal, 1)
    with pytest.raises(InvalidInput, match="journal_bytes"):
        add(journal, 2, b"x" * 26)
    assert journal.held() == [small]


def test_a_disk_that_takes_nothing_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path / "journal", LIMIT)
    (tmp_path / "journal").rmdir()
    with pytest.raises(StoreUnavailable):
        add(journal, 1)
    assert journal.held() == []


def test_how_far_sessions_are_settled_survives_a_restart(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, LIMIT)
    assert journal.past() == {}
    for number in (2, 1):
        header = add(journal, number)
        journal.settle(header.session, header.round)
    assert FileJournal(tmp_path, LIMIT).past() == {header.session: 2}
    (tmp_path / "past.json").write_text("[nonsense")
    assert FileJournal(tmp_path, LIMIT).past() == {}
