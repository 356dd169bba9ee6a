"""Files and directories that survive a power cut, and a disk's errors in this system's words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedn.domain.errors import StoreUnavailable


def make_directory(path: Path) -> None:
    """Create ``path`` and its parents, each one's entry on disk before this returns.

    Raises:
        StoreUnavailable: naming the path.
    """
    if path.is_dir():
        return
    with disk_errors(path):
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Flush a directory's entries; a rename inside it is durable only after this."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a file aside, give it its name when it is whole, and return when both are on disk.

    Raises OSError, and leaves what was there.
    """
    aside = path.with_suffix(".tmp")
    try:
        with aside.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_directory(path.parent)
    except OSError:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError (full, forbidden, failing) into StoreUnavailable with the path."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"no room in {path} ({error.strerror}); make room there and it goes on"
            raise StoreUnavailable(reason, path=str(path)) from error
        raise StoreUnavailable(f"{path}: {error.strerror or error}", path=str(path)) from error
