"""Packages unpacked where code will run, the last few of them; gone when the client starts anew."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedn.domain.ids import Digest
from fedn.packages import archive
from fedn.packages.manifest import Manifest
from fedn.stores.disk import make_directory

KEPT = 4


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A package in its folder, which is for reading alone."""

    digest: Digest
    folder: Path
    manifest: Manifest

    @property
    def short(self) -> str:
        """Its digest, as much as people need."""
        return self.digest[:12]


class Shelf:
    """Packages by digest, at most `KEPT` of them. For one thread at a time."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._books: dict[Digest, Unpacked] = {}
        if root.is_dir():
            for leftover in root.iterdir():
                archive.remove(leftover)
        make_directory(root)

    def take(self, digest: Digest, packed: memoryview) -> Unpacked:
        """The package, unpacked from ``packed`` if it is not here.

        Raises what `fedn.packages.archive.extract` does.
        """
        book = self._books.pop(digest, None)
        if book is None:
            self._forget(all_but=KEPT - 1)
            folder = self._root / digest
            archive.remove(folder)  # a disk that failed when it was unpacked has left it here
            book = Unpacked(digest, folder, archive.extract(packed, folder, digest).manifest)
        self._books[digest] = book
        return book

    def clear(self) -> None:
        """Remove all that was unpacked."""
        self._forget(all_but=0)

    def _forget(self, all_but: int) -> None:
        while len(self._books) > all_but:
            archive.remove(self._books.pop(next(iter(self._books))).folder)


def empty_folder(root: Path) -> Path:
    """``root`` with nothing in it."""
    remove(root)
    make_directory(root)
    return root


def remove(folder: Path) -> None:
    """Delete a folder that user code has written to, whatever rights it gave what is in it."""
    locked = [folder] if folder.is_dir() and not folder.is_symlink() else []
    with suppress(OSError):  # what still can't be deleted stays until the next start
        while locked:
            here = locked.pop()
            here.chmod(0o700)
            locked += [Path(entry.path) for entry in os.scandir(here) if entry.is_dir(follow_symlinks=False)]
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # folders in folders, by the thousand
        subprocess.run(["rm", "-rf", "--", str(folder)], check=False, stderr=subprocess.DEVNULL)
