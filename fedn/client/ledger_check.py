"""Reading a ledger: its lines, what they come to, and proof that nothing of it was changed.

`fedn client ledger` prints what is found here. The client may go on writing meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fedn.client.ledger import GENESIS, MAX_LINE, Entry, ledger_files, read_entry
from fedn.domain.errors import Damaged
from fedn.domain.ids import Digest, digest_of
from fedn.stores.disk import disk_errors


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """What a verification found: lines ``first`` to ``last`` are whole; ``head`` is the digest of the last.

    ``problem`` is a sentence about the first line that is not, ``at`` its number; '' and 0 if all are.
    """

    ok: bool
    first: int
    last: int
    head: Digest
    problem: str = ""
    at: int = 0


@dataclass(slots=True)
class Totals:
    """What went out for one session ('' for what belongs to none). An update sent twice is one update."""

    lines: int = 0
    messages: int = 0
    size: int = 0
    update_size: int = 0
    updates: set[str] = field(default_factory=set)

    def add(self, entry: Entry) -> None:
        sent, of_update = sizes(entry)
        self.lines += 1
        self.messages += _messages(entry)
        self.size += sent
        self.update_size += of_update
        if of_update > 0:
            self.updates.add(entry.digest)


_NO_MESSAGE = frozenset({
    "upload_begun", "upload_broken", "beats_sent", "not_noted", "package_begun", "install_begun",
})  # fmt: skip


def _messages(entry: Entry) -> int:
    if entry.what == "failures_told":
        return _number(entry.details.get("messages"))
    return entry.what not in _NO_MESSAGE


def sizes(entry: Entry) -> tuple[int, int]:
    """(bytes that left, how many of them are an update's own); below 0 for what an upload left behind."""
    told = entry.details
    match entry.what:
        case "upload_begun":
            return entry.size, entry.size
        case "upload_broken":
            return -_number(told.get("unsent")), -_number(told.get("unsent"))
        case "update_offered" if told.get("inline"):
            return entry.size, _number(told.get("update_size"))
        case _:
            return entry.size, 0


def _number(value: object) -> int:
    return value if type(value) is int else 0


def entries(folder: Path) -> Iterator[Entry]:
    """Every line, oldest first; one that is just being written is left out. Raises Damaged."""
    for path in ledger_files(folder):
        for line in _lines(path):
            yield read_entry(line)


def verify_ledger(folder: Path, pinned: str = "") -> LedgerReport:
    """Check a ledger from the first line that is still there, up to the first that is damaged or missing.

    Damage is reported, never raised. The chain alone can't tell that lines at its end were cut off, that the
    oldest files were removed, or that all of it was written anew: note a report's ``head`` elsewhere, and
    give it as ``pinned`` later.

    Raises:
        StoreUnavailable: it can't be read.
    """
    chain = _Chain(pinned)
    try:
        for path in ledger_files(folder):
            chain.enter(int(path.stem))
            for line in _lines(path):
                chain.follow(line)
    except _Broken as broken:
        return LedgerReport(False, chain.first, chain.last, chain.head, str(broken), chain.last + 1)
    if not chain.pin_seen:
        problem = (
            f"No line has the digest {pinned:.64}: lines were cut off or removed, or all is written anew."
        )
        return LedgerReport(False, chain.first, chain.last, chain.head, problem, chain.last + 1)
    return LedgerReport(True, chain.first, chain.last, chain.head)


class _Broken(Exception):
    """The chain ends here; the sentence says why."""


class _Chain:
    """The whole lines so far. Where older files were removed, nobody knows what the first line follows."""

    def __init__(self, pinned: str) -> None:
        self.first = self.last = 0
        self.head = GENESIS
        self.pin_seen = pinned in ("", GENESIS)
        self._pinned = pinned
        self._rooted = True

    def enter(self, number: int) -> None:
        """A file begins, whose name says that its first line has this number."""
        if not self.first:
            self.first, self.last, self._rooted = number, number - 1, number == 1
        elif number != self.last + 1:
            raise _Broken(f"Line {self.last + 1} is missing: the next file begins with line {number}.")

    def follow(self, line: bytes) -> None:
        expected = self.last + 1
        try:
            entry = read_entry(line)
        except Damaged as error:
            raise _Broken(f"Line {expected} is damaged: {error.message}.") from None
        if entry.number != expected:
            raise _Broken(f"Line {expected} is missing: line {entry.number} is in its place.")
        if self._rooted and entry.parent != self.head:
            raise _Broken(
                f"Line {expected} follows {entry.parent:.64}, but the line before it is {self.head}."
            )
        self.last, self.head, self._rooted = expected, digest_of(line), True
        self.pin_seen = self.pin_seen or self.head == self._pinned


def _lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a file, without their ends."""
    with disk_errors(path), path.open("rb") as file:
        while (line := file.readline(MAX_LINE + 1)).endswith(b"\n"):
            yield line[:-1]
        if len(line) > MAX_LINE:
            yield line
