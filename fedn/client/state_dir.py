"""A client's own directory: its stable identity, journal and cached models, claimed by a lock.

Many clients may share a parent directory: each claims one below it, by its name or the first free.
The lock goes with the process, however that dies.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from fedn.domain.errors import Conflict, Damaged, FednError
from fedn.domain.ids import ClientId, check_id
from fedn.stores.disk import disk_errors, make_directory, write_durably


@dataclass(frozen=True)
class StateDir:
    """A claimed directory. ``client`` stays the same for as long as the directory is there."""

    path: Path
    client: ClientId
    name: str
    lock: FileLock

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def identity(self) -> Path:
        return self.path / "identity"

    @property
    def kept(self) -> Path:
        return self.path / "kept"

    @property
    def models(self) -> Path:
        return self.path / "models"

    def release(self) -> None:
        self.lock.release()


def claim(parent: Path, name: str = "") -> StateDir:
    """Claim ``parent/name``, or without a name the first of ``client-1``, ``client-2``, … that is free.

    Raises:
        Conflict: another process uses the directory of that name.
        StoreUnavailable: the disk is full.
    """
    make_directory(parent.absolute())
    if name:
        return _claim(parent / check_id("name", name), name)
    for number in itertools.count(1):
        try:
            return _claim(parent / f"client-{number}", f"client-{number}")
        except Conflict:
            continue
    raise AssertionError("unreachable")


def _claim(path: Path, name: str) -> StateDir:
    make_directory(path)
    lock = FileLock(path / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise Conflict(f"another client uses {path}; give this one another --name or --state-dir") from None
    try:
        return StateDir(path, _identity(path / "client.json", name), name, lock)
    except BaseException:
        lock.release()
        raise


def _identity(path: Path, name: str) -> ClientId:
    """The id in ``client.json``; made up once from the name and 8 random hexadecimal digits."""
    if path.exists():
        try:
            return ClientId(check_id("client", json.loads(path.read_text())["client"]))
        except (ValueError, KeyError, TypeError, FednError):
            raise Damaged(f"{path} does not hold a client's identity; remove it to get a new one") from None
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", name)[:48]
    client = ClientId(check_id("client", f"{stem}-{secrets.token_hex(4)}"))
    with disk_errors(path.parent):
        write_durably(path, [json.dumps({"client": client, "name": name}).encode() + b"\n"])
    return client
