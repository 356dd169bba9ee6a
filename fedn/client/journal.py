"""A client's journal: every update that is not settled, safe against the client's own death.

One file an update: an 8-byte length, the header as JSON, then the safetensors bytes. It is written
aside, fsynced, renamed, and the directory is fsynced: after `add` returns the update survives.
"""

from __future__ import annotations

import json
import logging
import mmap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import Busy, FednError, InvalidInput, StoreUnavailable
from fedn.domain.ids import SessionId
from fedn.domain.update import UpdateHeader, check_header
from fedn.ports import Buffer
from fedn.stores.disk import disk_errors, make_directory, write_durably
from fedn.wire.chunks import split

log = logging.getLogger("fedn.client")

_LENGTH_BYTES = 8
_MAX_HEADER = 2**20
_MAX_SESSIONS = 256
"""Sessions of which it is noted how far they are settled."""


class FileJournal:
    """Implements ports.Journal in a directory that this process alone uses. One thread at a time writes.

    With ``kept`` set, a settled update is not deleted but written there as
    ``<session>-<round>-<digest>.safetensors``: for audits and for the sandbox's comparison with flat
    averaging. ``limit`` bounds the bytes held.
    """

    def __init__(self, directory: Path, limit: int, kept: Path | None = None) -> None:
        self._directory = directory
        self._limit = limit
        self._kept = kept
        make_directory(directory)
        for leftover in directory.glob("*.tmp"):
            leftover.unlink()
        self._held: dict[tuple[SessionId, int], UpdateHeader] = {}
        for path in sorted(directory.glob("*.update"), key=lambda p: p.stat().st_mtime_ns):
            self._recover(path)
        self._past = _read_past(directory / "past.json")

    def add(self, header: UpdateHeader, file: bytes) -> None:
        """Keep an update durably.

        Raises:
            Busy: other updates take the room; one of them may be settled.
            StoreUnavailable: the disk is full, or failing.
            InvalidInput: it can never be kept: alone it is larger than the limit.
        """
        self._check_room(header)
        text = canonical_json(asdict(header))
        path = self._path(header.session, header.round)
        try:
            write_durably(path, (len(text).to_bytes(_LENGTH_BYTES, "little"), text, file))
        except OSError as error:
            raise StoreUnavailable(
                f"the update of round {header.round} can't be kept in {self._directory} ({error.strerror}); "
                f"make room for {header.size} bytes there and it goes on"
            ) from error
        self._held[header.session, header.round] = header

    def get(self, session: SessionId, round: int) -> UpdateHeader | None:
        return self._held.get((session, round))

    def read(self, header: UpdateHeader, offset: int) -> Iterator[Buffer]:
        """The update's bytes from ``offset`` on, in chunks of at most 1 MiB."""
        with self._path(header.session, header.round).open("rb") as file:
            skip = _LENGTH_BYTES + int.from_bytes(file.read(_LENGTH_BYTES), "little")
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        yield from split(memoryview(mapping), skip + offset)

    def settle(self, session: SessionId, round: int) -> None:
        """Forget an update, or move it to the kept ones. Again: nothing. Raises StoreUnavailable."""
        header = self._held.get((session, round))
        if header is None:
            return
        if self._kept:
            self._keep(header, self._kept)
        self._note_past(session, round)
        with disk_errors(self._directory):
            self._path(session, round).unlink(missing_ok=True)
        del self._held[session, round]

    def held(self) -> list[UpdateHeader]:
        """Oldest first."""
        return list(self._held.values())

    def past(self) -> Mapping[SessionId, int]:
        """Up to which round each session is settled: nobody trains for those again."""
        return dict(self._past)

    def _note_past(self, session: SessionId, round_: int) -> None:
        """Before the update goes, lest a power cut leave neither; a full disk must not keep it from going."""
        self._past[session] = max(round_, self._past.pop(session, 0))
        for forgotten in list(self._past)[:-_MAX_SESSIONS]:
            del self._past[forgotten]
        with suppress(OSError):
            write_durably(self._directory / "past.json", [canonical_json(self._past)])

    def _path(self, session: SessionId, round_: int) -> Path:
        return self._directory / f"{session}-{round_}.update"

    def _check_room(self, header: UpdateHeader) -> None:
        if header.size > self._limit:
            raise InvalidInput(
                "journal_bytes", f"{self._limit} is less than one update of {header.size} bytes", "raise it"
            )
        held = sum(h.size for key, h in list(self._held.items()) if key != (header.session, header.round))
        if held + header.size > self._limit:
            raise Busy(
                f"{self._directory} holds {held} bytes of updates that are not settled, and {header.size} "
                f"more exceed journal_bytes ({self._limit}); it goes on when one is settled"
            )

    def _recover(self, path: Path) -> None:
        try:
            header = _read_header(path)
            if path != self._path(header.session, header.round):
                raise ValueError("wrong name")
        except (ValueError, TypeError, FednError) as error:
            log.warning("journal: %s is unreadable (%s), removed", path.name, error)
            path.unlink()
            return
        self._held[header.session, header.round] = header

    def _keep(self, header: UpdateHeader, kept: Path) -> None:
        make_directory(kept)
        with disk_errors(kept):
            name = f"{header.session}-{header.round}-{header.digest}.safetensors"
            write_durably(kept / name, (bytes(chunk) for chunk in self.read(header, 0)))


def held_in(directory: Path) -> list[UpdateHeader]:
    """What the journal in a directory holds, for those that look on: nothing is changed, nothing claimed."""
    found = []
    for path in sorted(directory.glob("*.update")):
        with suppress(OSError, ValueError, TypeError, FednError):
            found.append(_read_header(path))
    return found


def _read_header(path: Path) -> UpdateHeader:
    """Raises ValueError, TypeError and FednError for a file that is not a whole update."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = check_header(UpdateHeader(**json.loads(file.read(min(length, _MAX_HEADER)))))
    if path.stat().st_size != _LENGTH_BYTES + length + header.size:
        raise ValueError("wrong length")
    return header


def _read_past(path: Path) -> dict[SessionId, int]:
    try:
        noted = json.loads(path.read_bytes())
        return {SessionId(str(session)): int(round_) for session, round_ in noted.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("journal: %s is unreadable (%s), ignored", path.name, error)
        return {}
