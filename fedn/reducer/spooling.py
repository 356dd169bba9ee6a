"""Bodies that are looked at before anything of them is kept: on disk, and few at a time.

The files have no names and lie where Python's `tempfile` puts them (``TMPDIR``).
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO

from fedn.domain.errors import Busy
from fedn.ports import Buffer
from fedn.stores.disk import disk_errors


def spooled(chunks: Iterable[Buffer]) -> IO[bytes]:
    """The bytes as a file that is gone once it is closed. Raises StoreUnavailable if there is no room."""
    with disk_errors(Path(tempfile.gettempdir())):
        file = tempfile.TemporaryFile()  # noqa: SIM115 — closed by who asked
        try:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
        except BaseException:
            file.close()
            raise
        return file


@contextmanager
def gathered(chunks: Iterable[Buffer]) -> Iterator[memoryview]:
    """A whole body as memory that a file without a name stands behind."""
    with spooled(chunks) as file:
        if not file.tell():  # nothing can't be mapped
            yield memoryview(b"")
            return
        # Not closed here: the traceback of a refusal still looks at it. The collector unmaps it.
        yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class Few:
    """So many at once do what takes a processor or room on disk for long; everybody else hears it."""

    def __init__(self, most: int, what: str) -> None:
        self._free = BoundedSemaphore(most)
        self._busy = f"{most} {what} are under way already; try again"

    @contextmanager
    def one(self) -> Iterator[None]:
        """Inside the block; raises Busy when there are as many already."""
        if not self._free.acquire(blocking=False):
            raise Busy(self._busy)
        try:
            yield
        finally:
            self._free.release()
