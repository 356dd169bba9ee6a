"""Compute packages as archives: look into one, check it, unpack it where code will run.

`packing` made it, or another program that writes plain tars; `members` reads it. It comes from a file, or
from a model store's mapping, and nothing in it is believed before all of it is checked.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from fedn.domain.errors import Conflict, Damaged, InvalidInput
from fedn.domain.ids import Digest, check_digest, digest_of
from fedn.packages.manifest import MANIFEST, Manifest, found, read_manifest
from fedn.packages.members import MAX_BYTES, Member, damaged, members
from fedn.packages.packing import pack
from fedn.packages.text import MAX_TEXT_BYTES
from fedn.ports import Buffer
from fedn.stores.disk import disk_errors, sync_directory

STALE_SECONDS = 3600.0
"""A half-unpacked folder of this age belongs to a process that died."""


@dataclass(frozen=True, slots=True)
class Package:
    """An archive that was checked: sha256 and size of its bytes, its manifest, its files in their order."""

    digest: Digest
    size: int
    manifest: Manifest
    files: tuple[Member, ...]


def inspect(archive: Path | Buffer) -> Package:
    """Check an archive and say what is in it; nothing is unpacked.

    Raises:
        InvalidInput: not a plain tar; a member that is no file or folder, or with a name that leads outside;
            too large; no `fedn.yaml`, or a wrong one.
    """
    return _inspected(_view(archive))


def verify(archive: Path | Buffer, digest: str = "") -> Package:
    """As `inspect`; raises Damaged, before anything in it is read, if its sha256 is not ``digest``."""
    view = _view(archive)
    _check_digest(view, digest)
    return _inspected(view)


def extract(archive: Path | Buffer, target: Path, digest: str = "") -> Package:
    """Unpack an archive into ``target``, a folder that is not there yet: all of it, on disk, or nothing.

    The folder is for reading alone; `remove` takes it away. A file's own mode counts only by whether its
    owner may execute it.

    Raises:
        InvalidInput, Damaged: as `verify`, before anything is written.
        Conflict: ``target`` is there.
        StoreUnavailable: it can't be written.
    """
    view = _view(archive)
    _check_digest(view, digest)
    package = _inspected(view)
    if os.path.lexists(target):
        raise _there(target)
    _remove_stale(target)
    aside = target.with_name(f".{target.name}.{uuid4().hex}.unpacking")
    try:
        with disk_errors(target):
            aside.mkdir(parents=True, mode=0o700)
            for member in package.files:
                _write(aside, member, view)
            _finish(aside)
            _place(aside, target)
    finally:
        remove(aside)
    return package


def remove(folder: Path) -> None:
    """Delete what `extract` made; nothing happens if it is not there. Raises StoreUnavailable."""
    with disk_errors(folder), suppress(FileNotFoundError):
        for root, _, _ in os.walk(folder):
            Path(root).chmod(0o700)
        shutil.rmtree(folder)


# --- reading ---------------------------------------------------------------------------------------


def _view(archive: Path | Buffer) -> memoryview:
    if not isinstance(archive, Path):
        return memoryview(archive).cast("B")
    try:
        with archive.open("rb") as file:
            return memoryview(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise InvalidInput(str(archive), f"can't be read ({error.strerror})", "check the path") from None


def _check_digest(view: memoryview, expected: str) -> None:
    if expected and (actual := digest_of(view)) != check_digest("digest", expected):
        raise Damaged(f"the package has digest {actual}, not {expected}", expected=expected, actual=actual)


def _inspected(view: memoryview) -> Package:
    files = {member.path: member for member in members(view)}

    def read(path: str) -> bytes | None:
        if (member := files.get(path)) is None:
            return None
        return bytes(view[member.offset : member.offset + min(member.size, MAX_TEXT_BYTES + 1)])

    if MANIFEST not in files:
        for path in files:
            folder, _, name = path.partition("/")
            if name == MANIFEST:
                remedy = f"pack the folder itself: `fedn package create {folder}`"
                raise damaged(f"has its {MANIFEST} in {folder}/, not at the top", remedy)
    manifest = read_manifest(found(read), read)
    return Package(digest_of(view), len(view), manifest, tuple(files.values()))


# --- unpacking -------------------------------------------------------------------------------------


def _write(root: Path, member: Member, view: memoryview) -> None:
    path = root / member.path
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(view[member.offset : member.offset + member.size])
        file.flush()
        os.fchmod(file.fileno(), 0o555 if member.executable else 0o444)
        os.fsync(file.fileno())


def _finish(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        sync_directory(Path(folder))
        if Path(folder) != root:  # whoever renames a folder must be allowed to write into it
            Path(folder).chmod(0o555)


def _place(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError as error:
        if target.exists():
            raise _there(target) from None
        raise error
    target.chmod(0o555)
    sync_directory(target.parent)


def _there(target: Path) -> Conflict:
    return Conflict(f"{target} is there already", path=str(target))


def _remove_stale(target: Path) -> None:
    oldest = time.time() - STALE_SECONDS
    for left in _siblings(target):
        with suppress(FileNotFoundError):
            if left.stat().st_mtime < oldest:
                remove(left)


def _siblings(target: Path) -> Iterator[Path]:
    if target.parent.is_dir():
        for path in target.parent.iterdir():
            if path.name.startswith(f".{target.name}.") and path.name.endswith(".unpacking"):
                yield path


__all__ = ["Package", "extract", "inspect", "pack", "remove", "verify"]
