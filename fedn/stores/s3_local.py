"""Blobs on this machine's disk on their way to or from S3, and the ones used last.

All are unlinked files: their pages belong to the file cache, not to the process, and nothing stays behind,
however it ends. Used by `fedn.stores.s3`.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from fedn.domain.ids import Digest
from fedn.ports import Buffer
from fedn.stores.disk import disk_errors, make_directory

MOST_KEPT = 64
"""Each is an open file."""


class LocalBlob:
    """A blob in an unlinked file, hashed on the way in. ``size`` says how much has come."""

    def __init__(self, folder: Path) -> None:
        self.size = 0
        self._folder = folder
        self._hash = sha256()
        make_directory(folder.absolute())
        with disk_errors(folder):
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 — see close

    def write(self, chunk: Buffer) -> None:
        """Raises StoreUnavailable when the disk is full."""
        with disk_errors(self._folder):
            left, position = memoryview(chunk), self.size
            while left:  # a file may take less than it is given
                written = os.pwrite(self._file.fileno(), left, position)
                left, position = left[written:], position + written
        self._hash.update(chunk)
        self.size += len(chunk)

    def digest(self) -> Digest:
        return Digest(self._hash.hexdigest())

    def reader(self) -> BinaryIO:
        """The bytes from the start, in a file object of its own; one at a time."""
        file = os.fdopen(os.dup(self._file.fileno()), "rb", buffering=0)
        file.seek(0)
        return file

    def mapped(self) -> memoryview:
        """The bytes as read-only memory; they stay valid when this is closed."""
        if not self.size:
            return memoryview(b"")
        with disk_errors(self._folder):
            return memoryview(mmap.mmap(self._file.fileno(), self.size, access=mmap.ACCESS_READ))

    def close(self) -> None:
        """Give the room back, as soon as no view is left. Again: nothing."""
        self._file.close()


class LocalBlobs:
    """The most recently used blobs, at most MOST_KEPT of at most ``bound`` bytes together. Thread-safe."""

    def __init__(self, folder: Path, bound: int) -> None:
        self._folder = folder
        self._bound = bound
        self._lock = Lock()
        self._kept: dict[Digest, LocalBlob] = {}

    @contextmanager
    def incoming(self) -> Iterator[LocalBlob]:
        """Room for one more; what was not kept inside the block is gone after it."""
        blob = LocalBlob(self._folder)
        try:
            yield blob
        finally:
            with self._lock:
                if blob not in self._kept.values():
                    blob.close()

    def keep(self, digest: Digest, blob: LocalBlob) -> None:
        """Keep a blob whose bytes are known to be right; those that were used longest ago make room."""
        with self._lock:
            self._drop(digest)
            self._kept[digest] = blob
            while len(self._kept) > MOST_KEPT or self._bytes() > self._bound:
                self._drop(next(iter(self._kept)))

    def mapped(self, digest: Digest) -> memoryview | None:
        """A view of a blob that is here."""
        with self._lock:  # nobody may close the file meanwhile
            blob = self._kept.pop(digest, None)
            if blob is None:
                return None
            self._kept[digest] = blob
            return blob.mapped()

    def forget(self, digest: Digest) -> None:
        """Views of it stay valid."""
        with self._lock:
            self._drop(digest)

    def close(self) -> None:
        with self._lock:
            for digest in list(self._kept):
                self._drop(digest)

    def _bytes(self) -> int:
        return sum(blob.size for blob in self._kept.values())

    def _drop(self, digest: Digest) -> None:
        if blob := self._kept.pop(digest, None):
            blob.close()


@contextmanager
def released(view: memoryview) -> Iterator[memoryview]:
    """The view inside the block. An array over it may outlive that; then the collector unmaps it later."""
    mapping = view.obj
    try:
        yield view
    finally:
        with suppress(BufferError):
            view.release()
            if isinstance(mapping, mmap.mmap):
                mapping.close()
