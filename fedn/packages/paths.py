"""Which names the files of a package may have: none that leads outside, none that two systems read apart.

The same rules hold for a folder that is packed and for an archive that is read.
"""

from __future__ import annotations

import unicodedata

from fedn.domain.errors import InvalidInput

MAX_PATH_BYTES, MAX_NAME_BYTES, MAX_DEPTH = 512, 255, 32


def refused(path: str, problem: str, remedy: str = "") -> InvalidInput:
    """What is said about one file of a package."""
    shown = path if path.isprintable() and len(path) <= 80 else f"{path[:80]!r}"
    return InvalidInput(f"package: {shown}", problem, remedy)


def check_path(path: str) -> str:
    """Return ``path`` if it is relative, in its plain form with '/', and short; else raise InvalidInput."""
    parts = path.split("/")
    if not path.isprintable() or "\\" in path:
        raise refused(path, "has letters that are no part of a file name here", "rename the file")
    if any(part in ("", ".", "..") for part in parts):
        raise refused(path, "is not a plain path below the package's folder", "pack the folder itself")
    if len(path.encode()) > MAX_PATH_BYTES or max(len(part.encode()) for part in parts) > MAX_NAME_BYTES:
        problem = f"is longer than {MAX_PATH_BYTES} bytes, or {MAX_NAME_BYTES} between two '/'"
        raise refused(path, problem, "give it a shorter name")
    if len(parts) > MAX_DEPTH:
        raise refused(path, f"lies more than {MAX_DEPTH} folders deep", "put it further up")
    return path


class Names:
    """The paths of one package: each once, none both file and folder, no two alike but for case."""

    def __init__(self) -> None:
        self._folded: dict[str, str] = {}
        self._folders: set[str] = set()
        self._files: set[str] = set()

    def add(self, path: str, folder: bool = False) -> None:
        """Note a checked path and the folders above it; raises InvalidInput if it does not go with them."""
        cut = -1
        while (cut := path.find("/", cut + 1)) > 0:
            self._add_folder(path[:cut])
        if folder:
            self._add_folder(path)
            return
        if path in self._files:
            raise refused(path, "is there twice", "leave one of them")
        self._check(path, path in self._folders)
        self._files.add(path)

    def _add_folder(self, path: str) -> None:
        if path not in self._folders:
            self._check(path, path in self._files)
            self._folders.add(path)

    def _check(self, path: str, both: bool) -> None:
        if both:
            raise refused(path, "is a file and a folder", "leave one of them")
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
        if (other := self._folded.setdefault(folded, path)) != path:
            problem = f"is the same as {other} where case does not count"
            raise refused(path, problem, "rename one of them")
