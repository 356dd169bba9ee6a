"""A client's ledger: a line for everything that leaves this machine, chained by sha256.

`noting` says what leaves, here it is written, `ledger_check` reads and verifies it. A ledger is files of
lines of JSON, each file named by the number of its first line; the oldest are removed when there are too
many, and the chain goes on. A line names the sha256 of the line before it: what is changed, taken out or put
in between shows.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import Damaged
from fedn.domain.ids import Digest, digest_of
from fedn.stores.disk import disk_errors, make_directory, sync_directory

log = logging.getLogger("fedn.client")

GENESIS = Digest("0" * 64)
"""What the first line of all names as the one before it."""
FILE_BYTES = 64 * 2**20
_DIGITS = 12
MAX_LINE = 64 * 2**10
"""Longer than any line becomes: what a line may say is bounded where it is said."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that left, or was about to. ``at`` is Unix time, ``what`` a past participle.

    ``to`` names who got it, ``address`` where that was. ``size`` is in bytes, of the message or file without
    what the transport adds, ``digest`` their sha256. ``session`` and ``digest`` may be empty, ``round`` 0.
    """

    number: int
    parent: Digest
    at: float
    what: str
    to: str
    address: str
    session: str = ""
    round: int = 0
    size: int = 0
    digest: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> bytes:
        """The bytes that are stored and hashed, without the end of the line."""
        return canonical_json(asdict(self))


def read_entry(line: bytes) -> Entry:
    """A stored line; raises Damaged if it is not one in the one form in which they are written."""
    try:
        values: dict[str, Any] = json.loads(line)
        entry = Entry(**values)
        if not _whole(entry) or entry.line() != line:
            raise ValueError("it is not in the form in which lines are written")
    except (ValueError, TypeError, RecursionError) as error:
        raise Damaged(f"a line of the ledger can't be read: {error}") from None
    return entry


def _whole(entry: Entry) -> bool:
    texts = (entry.parent, entry.what, entry.to, entry.address, entry.session, entry.digest)
    numbers = (entry.number, entry.round, entry.size)
    return (
        all(isinstance(text, str) for text in texts)
        and all(type(number) is int for number in numbers)
        and type(entry.at) in (int, float)
        and isinstance(entry.details, dict)
    )


def ledger_files(folder: Path) -> list[Path]:
    """The files of a ledger, oldest first."""
    return sorted(folder.glob("[0-9]" * _DIGITS + ".jsonl"))


class Ledger:
    """The ledger in a folder that this process alone writes to. Safe from many threads.

    At most ``files`` files of about ``file_bytes`` each. ``clock`` stands in for the time in tests.
    """

    def __init__(
        self, folder: Path, files: int = 16, file_bytes: int = FILE_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Raises Damaged if what is there is no ledger, and StoreUnavailable."""
        self._folder = folder
        self._files, self._file_bytes = files, file_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._file = -1
        self._size = 0
        make_directory(folder)
        with disk_errors(folder):
            self._number, self._head = _end_of(folder)
            if found := ledger_files(folder):
                self._open(found[-1])

    def note(
        self, what: str, to: str, address: str, *, session: str = "", round: int = 0, size: int = 0,
        digest: str = "", details: Mapping[str, Any] | None = None, durable: bool = False,
    ) -> None:  # fmt: skip
        """Write a line. If it is ``durable``, it and all before it are on disk when this returns; else soon.

        Raises:
            StoreUnavailable: the line could not be written.
        """
        with self._lock, disk_errors(self._folder):
            entry = Entry(
                self._number + 1, self._head, self._clock(), what, to, address[:255], session, round, size,
                digest, details or {},
            )  # fmt: skip
            line = entry.line()
            self._append(entry.number, line + b"\n")
            self._number, self._head = entry.number, digest_of(line)
            file = os.dup(self._file) if durable else -1
        if durable:  # without the lock: others may write meanwhile
            with disk_errors(self._folder):
                _sync_and_close(file)

    def close(self) -> None:
        """What was written is on disk."""
        with self._lock, disk_errors(self._folder):
            self._end_file()

    def _append(self, number: int, line: bytes) -> None:
        fresh = self._file < 0 or (self._size > 0 and self._size + len(line) > self._file_bytes)
        if fresh:
            self._next_file(number)
        try:
            left = memoryview(line)
            while left:  # a file may take less than it is given
                left = left[os.write(self._file, left) :]
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)
        if fresh:
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        """The line is written, whatever becomes of them; what can't go now goes with the next file."""
        for old in ledger_files(self._folder)[: -self._files]:
            try:
                old.unlink()
            except OSError as error:
                log.warning("the ledger's file %s can't be removed: %s", old, error.strerror)

    def _next_file(self, number: int) -> None:
        """The file before is on disk first: what is durable in the new one hangs on it."""
        self._end_file()
        self._open(self._folder / f"{number:0{_DIGITS}}.jsonl")
        sync_directory(self._folder)

    def _end_file(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            _sync_and_close(file)

    def _open(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size


def _sync_and_close(file: int) -> None:
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _end_of(folder: Path) -> tuple[int, Digest]:
    """Number and digest of the last line; what a crash left of one behind it is cut off."""
    for path in reversed(ledger_files(folder)):
        try:
            if line := _last_line(path):
                return read_entry(line).number, digest_of(line)
        except Damaged as error:
            remedy = f"move {folder} elsewhere to begin a new ledger"
            raise Damaged(f"{path}: {error.message}; {remedy}") from None
    return 0, GENESIS


def _last_line(path: Path) -> bytes:
    """The last whole line of a file; b'' if it has none."""
    with path.open("r+b") as file:
        begin = file.seek(max(0, file.seek(0, os.SEEK_END) - 2 * MAX_LINE))
        tail = file.read()
        whole = tail.rfind(b"\n") + 1
        if begin and not whole:
            raise Damaged("its end is no line")
        if whole < len(tail):
            log.warning("%s ends within a line, which is cut off", path)
            file.truncate(begin + whole)
    return tail[:whole].rstrip(b"\n").rpartition(b"\n")[2]
