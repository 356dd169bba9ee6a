"""A client's own directory: its stable identity, journal and cached models, claimed by a lock.

Many clients may share a parent directory: each claims one below it, by its name or the first free number.
The lock goes with the process, however that dies. Others may look on (`Home`), and see whether it runs.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from fedn.domain.errors import Conflict, Damaged, FednError, InvalidInput, NotFound
from fedn.domain.ids import ClientId, check_id
from fedn.domain.slots import SLOT, numbered
from fedn.stores.disk import disk_errors, make_directory, write_durably

_CLIENT, _ALIVE = "client.json", "alive"


@dataclass(frozen=True)
class Home:
    """A client's directory, and what is where in it."""

    path: Path

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

    @property
    def ledger(self) -> Path:
        return self.path / "ledger"

    @property
    def paused(self) -> Path:
        return self.path / "paused.json"

    @property
    def standing(self) -> Path:
        return self.path / "standing.json"

    @property
    def running(self) -> bool:
        """Whether a client runs here just now."""
        alive = FileLock(self.path / _ALIVE, timeout=0)
        with disk_errors(self.path):
            try:
                with alive:
                    return False
            except Timeout:
                return True


@dataclass(frozen=True)
class StateDir(Home):
    """A claimed directory. ``client`` stays the same for as long as the directory is there.

    ``slot`` is the number that the claim found free; 0 for a name without one.
    """

    client: ClientId
    name: str
    locks: tuple[FileLock, ...]
    slot: int = 0

    def release(self) -> None:
        for lock in self.locks:
            lock.release()


def homes(parent: Path) -> list[Home]:
    """The directories of all clients below ``parent``, by name."""
    return [Home(path.parent) for path in sorted(parent.glob(f"*/{_CLIENT}"))]


def home(parent: Path, name: str) -> Home:
    """The directory of the client of that name, or without one of the only client there is.

    Raises NotFound, and InvalidInput where several could be meant.
    """
    found = homes(parent)
    if name:
        found = [one for one in found if one.path.name == check_id("name", name)]
    if not found:
        what = f"client {name}" if name else "client"
        raise NotFound(f"there is no {what} in {parent}; give its --state-dir, or its settings as -c")
    if len(found) > 1:
        some = ", ".join(one.path.name for one in found[:10])
        raise InvalidInput(
            "--name", f"is missing, and {parent} has {len(found)} clients ({some})", "give one"
        )
    return found[0]


def claim(parent: Path, name: str = "") -> StateDir:
    """Claim ``parent/name``; for a name with ``{slot}`` in it the first that is free, counted from 1.

    Without a name it is ``client-{slot}``.

    Raises:
        Conflict: another process uses the directory of that name.
        StoreUnavailable: the disk is full.
    """
    make_directory(parent.absolute())
    name = name or f"client-{SLOT}"
    if SLOT not in name:
        return _claim(parent / check_id("name", name), name)
    for slot in itertools.count(1):
        called = check_id("name", numbered(name, slot))
        try:
            return replace(_claim(parent / called, called), slot=slot)
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
    alive = FileLock(path / _ALIVE)
    try:
        alive.acquire()  # from those that look on, who have it for a moment
        return StateDir(path, _identity(path / _CLIENT, name), name, (alive, lock))
    except BaseException:
        alive.release()
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
