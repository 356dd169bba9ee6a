"""Where bytes from the wire wait until they are known to be right.

The combiner spools uploads before it folds them. Small ones stay in memory; larger ones go to an
unlinked temporary file, so that their pages belong to the file cache, not to the process, and vanish
with it.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fedn.domain.errors import InvalidInput, StoreUnavailable
from fedn.domain.ids import Digest

IN_MEMORY_BYTES = 64 * 1024
"""Up to this size no file is made."""


class Spool:
    """Room for exactly ``size`` bytes that arrive in order. Not thread-safe: one owner at a time.

    ``offset`` says how many have arrived, which is where a broken transfer resumes. All methods block
    on the disk at most; none waits for anything else.
    """

    def __init__(self, directory: Path, size: int) -> None:
        """``directory`` must exist; it is used only above IN_MEMORY_BYTES."""
        self.size = size
        self.offset = 0
        self._hash = hashlib.sha256()
        self._memory = bytearray()
        self._directory = directory
        self._file: IO[bytes] | None = _temporary(directory) if size > IN_MEMORY_BYTES else None

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append ``chunk`` and hash it, or keep nothing of it.

        Raises InvalidInput beyond the declared size, StoreUnavailable when the disk does not take it.
        """
        if self.offset + len(chunk) > self.size:
            raise InvalidInput(
                "size", f"more than the {self.size} bytes announced", "announce the exact size"
            )
        if self._file is None:
            self._memory += chunk
        else:
            try:
                _write_all(self._file, memoryview(chunk), self.offset)
            except OSError as error:
                raise _unwritable(self._directory, error) from error
        self._hash.update(chunk)
        self.offset += len(chunk)

    def digest(self) -> Digest:
        """The sha256 of what has arrived."""
        return Digest(self._hash.hexdigest())

    @contextmanager
    def map(self) -> Iterator[memoryview]:
        """What has arrived, as read-only memory that is valid inside the block."""
        mapping = _mapped(self._file, self.offset) if self._file and self.offset else None
        view = memoryview(self._memory if mapping is None else mapping).toreadonly()
        try:
            yield view
        finally:
            # An array that still looks at the bytes, say from a traceback, keeps them alive by itself.
            with suppress(BufferError):
                view.release()
                if mapping is not None:
                    mapping.close()

    def close(self) -> None:
        """Give the room back. Calling it twice is harmless."""
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()


def _temporary(directory: Path) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=directory, buffering=0)
    except OSError as error:
        raise _unwritable(directory, error) from error


def _unwritable(directory: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(
        f"{directory} takes no more bytes ({error.strerror}); make room there and it goes on"
    )


def _write_all(file: IO[bytes], view: memoryview, offset: int) -> None:
    """Write at ``offset``, wherever a failed write left the file's own position.

    A file may take less than it is given.
    """
    while view:
        written = os.pwrite(file.fileno(), view, offset)
        view, offset = view[written:], offset + written


def _mapped(file: IO[bytes], size: int) -> mmap.mmap:
    return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
