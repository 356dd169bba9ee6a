"""The embedded ModelStore: one file per blob, named by its sha256, written once.

A blob appears under its name only when it is whole and on disk: it streams into a temporary file,
is hashed on the way, and is renamed. Blobs live at ``root/ab/abcdef…``, temporary files at
``root/.incoming-…``. The memory twin is in `fedn.stores.memory`.
"""

from __future__ import annotations

import mmap
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from fedn.domain.errors import NotFound, StoreUnavailable
from fedn.domain.ids import Digest, check_digest
from fedn.ports import BlobInfo, Buffer
from fedn.stores import rules
from fedn.stores.disk import disk_errors, make_directory, sync_directory

STALE_SECONDS = 3600.0
"""A temporary file untouched for this long belongs to a dead writer."""

_INCOMING = re.compile(r"\.incoming-[0-9a-f]{32}\Z")
_SHARD = re.compile(r"[0-9a-f]{2}\Z")
_BLOB = re.compile(r"[0-9a-f]{64}\Z")


class FileModels:
    """A ModelStore in a directory. Several processes may use it at once.

    With ``durable=False`` nothing is synced, and what a dead writer left goes at once: right for a
    cache, which one process alone uses and which begins empty after a crash.
    """

    def __init__(self, root: str | Path, *, read_only: bool = False, durable: bool = True) -> None:
        self._durable = durable
        self._root = Path(root)
        self._read_only = read_only
        self._durable_shards: set[str] = set()
        if not read_only:
            make_directory(self._root.absolute())
            _remove_stale(self._root, STALE_SECONDS if durable else 0.0)
        elif not self._root.is_dir():
            raise NotFound(f"there is no model store at {self._root}", path=str(self._root))

    def put(self, chunks: Iterable[Buffer], expected: Digest | None = None) -> tuple[Digest, int]:
        self._check_writable()
        if expected is not None:
            check_digest("expected", expected)
        incoming = self.incoming()
        try:
            for chunk in chunks:
                incoming.write(chunk)
            return incoming.publish(expected)
        finally:
            incoming.drop()

    def incoming(self) -> FileIncoming:
        """Room for one more blob, whose bytes may come in several goes."""
        self._check_writable()
        return FileIncoming(self._root / f".incoming-{uuid4().hex}", self._durable, self._publish)

    def size(self, digest: Digest) -> int:
        path = self._path(digest)
        with _found(path, digest):
            return path.stat().st_size

    def read(self, digest: Digest, offset: int = 0) -> Iterator[Buffer]:
        """Checks at once, opens with the first chunk: an iterator nobody uses holds no file."""
        rules.check_offset(digest, offset, self.size(digest))
        return _chunks(self._path(digest), digest, offset)

    @contextmanager
    def map(self, digest: Digest) -> Iterator[memoryview]:
        path = self._path(digest)
        with _found(path, digest), path.open("rb") as file:
            empty = os.fstat(file.fileno()).st_size == 0
            mapping = None if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        view = memoryview(b"" if mapping is None else mapping)
        try:
            yield view
        finally:
            # An array over the view may outlive this block; then the collector unmaps the file later.
            with suppress(BufferError):
                view.release()
                if mapping is not None:
                    mapping.close()

    def delete(self, digest: Digest) -> None:
        """Forget a blob; views of it that are mapped stay valid."""
        self._check_writable()
        path = self._path(digest)
        with disk_errors(path):
            path.unlink(missing_ok=True)

    def digests(self) -> Iterator[Digest]:
        with disk_errors(self._root):
            for shard in sorted(path for path in self._root.iterdir() if _SHARD.match(path.name)):
                for path in sorted(shard.iterdir()):
                    if _BLOB.match(path.name) and path.name.startswith(shard.name):
                        yield Digest(path.name)

    def blobs(self) -> Iterator[BlobInfo]:
        for digest in self.digests():
            with suppress(NotFound):  # deleted meanwhile
                yield self.blob(digest)

    def blob(self, digest: Digest) -> BlobInfo:
        path = self._path(digest)
        with _found(path, digest):
            found = path.stat()
        return BlobInfo(digest, found.st_size, found.st_mtime)

    def close(self) -> None:
        """Nothing to release."""

    def _check_writable(self) -> None:
        if self._read_only:
            raise StoreUnavailable(f"{self._root} is open for reading only", path=str(self._root))

    def _path(self, digest: Digest) -> Path:
        check_digest("digest", digest)
        return self._root / digest[:2] / digest

    def _publish(self, temporary: Path, digest: Digest) -> None:
        """Give a whole, synced file its name, in the place of an equal one: it counts as written now."""
        path = self._path(digest)
        shard = path.parent
        if shard.name not in self._durable_shards:
            shard.mkdir(exist_ok=True)
            if self._durable:
                sync_directory(self._root)
            self._durable_shards.add(shard.name)
        temporary.replace(path)
        if self._durable:
            sync_directory(shard)


class FileIncoming:
    """A blob on its way in: a temporary file, hashed on the way, that counts only once it is published.

    ``offset`` says how many bytes have come; a chunk that a full disk did not take can be written again.
    """

    def __init__(self, path: Path, durable: bool, place: Callable[[Path, Digest], None]) -> None:
        self.offset = 0
        self._path = path
        self._durable = durable
        self._place = place
        self._hash = sha256()
        with disk_errors(path.parent):
            self._file = path.open("xb", buffering=0)

    def write(self, chunk: Buffer) -> None:
        with disk_errors(self._path.parent):
            left, position = memoryview(chunk), self.offset
            while left:  # a file may take less than it is given
                written = os.pwrite(self._file.fileno(), left, position)
                left, position = left[written:], position + written
        self._hash.update(chunk)
        self.offset += len(chunk)

    def publish(self, expected: Digest | None = None) -> tuple[Digest, int]:
        """The blob is in the store, durably; returns (digest, size). Raises Damaged if not ``expected``."""
        digest = Digest(self._hash.hexdigest())
        if expected is not None and expected != digest:
            raise rules.wrong_digest(expected, digest)
        with disk_errors(self._path.parent):
            if self._durable:
                os.fsync(self._file.fileno())
            self._place(self._path, digest)
        self.drop()
        return digest, self.offset

    def drop(self) -> None:
        """Give the room back. Again, or after `publish`: nothing."""
        self._file.close()
        with disk_errors(self._path.parent):
            self._path.unlink(missing_ok=True)


def _chunks(path: Path, digest: Digest, offset: int) -> Iterator[Buffer]:
    """Views of the mapped file: sending them copies once instead of twice. They keep it mapped."""
    with _found(path, digest), path.open("rb") as file:
        empty = os.fstat(file.fileno()).st_size == 0
        mapping = None if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if mapping is not None:
        yield from rules.chunks_of(memoryview(mapping), offset)


@contextmanager
def _found(path: Path, digest: Digest) -> Iterator[None]:
    with disk_errors(path):
        try:
            yield
        except FileNotFoundError:
            raise rules.no_model(digest) from None


def _remove_stale(root: Path, seconds: float) -> None:
    """Remove what writers left that died so long ago; touch nothing that is not ours."""
    oldest = time.time() - seconds
    with disk_errors(root):
        for path in root.iterdir():
            if _INCOMING.match(path.name):
                with suppress(FileNotFoundError):  # another process may clean up at the same time
                    if path.lstat().st_mtime < oldest:
                        path.unlink()
