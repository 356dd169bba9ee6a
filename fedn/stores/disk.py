"""Directories that survive a power cut. Used by `fedn.stores.files` and `fedn.stores.database`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError (full, forbidden, failing) into StoreUnavailable with the path."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror or error}", path=str(path)) from error
