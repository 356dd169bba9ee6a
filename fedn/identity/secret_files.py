"""Files that only their owner may read, written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedn.domain.errors import Conflict, Damaged
from fedn.stores.disk import disk_errors, make_directory, sync_directory

MAX_BYTES = 64 * 1024
"""No file of an identity is nearly as long."""


def make_private_directory(path: Path) -> None:
    """Create ``path`` for its owner alone; one that is there and empty is made so.

    Raises StoreUnavailable.
    """
    parent = path.absolute().parent
    make_directory(parent)
    with disk_errors(path):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            sync_directory(parent)
        if next(path.iterdir(), None) is None:
            path.chmod(0o700)


def write_private(path: Path, data: bytes) -> None:
    """Write or replace a file, durably and in one step. Raises StoreUnavailable."""
    with disk_errors(path), _aside(path, data) as aside:
        aside.replace(path)


def create_private(path: Path, data: bytes) -> None:
    """Write a file that is not there yet, durably and in one step. Raises Conflict, StoreUnavailable."""
    with disk_errors(path), _aside(path, data) as aside:
        try:
            os.link(aside, path)
        except FileExistsError:
            raise Conflict(f"{path} is there already") from None


def read_small(path: Path) -> bytes | None:
    """A file's bytes; None if there is none. Raises Damaged beyond MAX_BYTES, StoreUnavailable."""
    with disk_errors(path):
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
    if len(data) > MAX_BYTES:
        raise Damaged(
            f"{path} is longer than any file of an identity; remove it, or bring the right one back"
        )
    return data


@contextmanager
def _aside(path: Path, data: bytes) -> Iterator[Path]:
    """A file beside ``path`` that holds ``data`` on disk; it is gone afterwards, by rename or removed."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")  # others may write at the same time
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield aside
    finally:
        aside.unlink(missing_ok=True)
        sync_directory(path.parent)
