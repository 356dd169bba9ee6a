"""From a package's folder to its archive: the same files give the same bytes, on every machine.

The archive is a pax tar that is not compressed, since what a compressor makes of the same input depends on
its version. It holds files alone, in the order of their names, without times and owners.
"""

from __future__ import annotations

import os
import re
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

from fedn.domain.errors import InvalidInput
from fedn.packages.manifest import Files, Manifest, found, read_manifest
from fedn.packages.members import BLOCK, MAX_BYTES, MAX_FILES
from fedn.packages.paths import Names, check_path, refused
from fedn.packages.text import MAX_TEXT_BYTES

IGNORE = ".fednignore"
ALWAYS_IGNORED = (
    ".git", ".hg", ".svn", ".venv", "__pycache__", "*.pyc", ".ipynb_checkpoints", ".DS_Store",
    ".mypy_cache", ".pytest_cache", ".ruff_cache", IGNORE,
)  # fmt: skip
CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """A file of the folder, as it will be packed. ``size`` is in bytes."""

    path: str
    size: int
    executable: bool


@dataclass(frozen=True, slots=True)
class Folder:
    """A package's folder that may be packed: its manifest, its files by name, the bytes of its archive."""

    root: Path
    manifest: Manifest
    files: tuple[Source, ...]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        padded = (-(-file.size // BLOCK) * BLOCK for file in self.files)
        size = sum(len(_header(file)) for file in self.files) + sum(padded) + 2 * BLOCK
        object.__setattr__(self, "size", size)

    def chunks(self) -> Iterator[bytes]:
        """The archive in pieces of at most 1 MiB. Raises InvalidInput for a file that changes meanwhile."""
        for file in self.files:
            yield _header(file)
            yield from _bytes_of(self.root / file.path, file)
            if short := file.size % BLOCK:
                yield bytes(BLOCK - short)
        yield bytes(2 * BLOCK)


def survey(root: Path) -> Folder:
    """What of a folder would be packed, with everything checked that an archive is checked for.

    Raises:
        InvalidInput: no or a wrong `fedn.yaml`; a link, a special file, a name that is not allowed; too
            many files, too many bytes.
    """
    if not root.is_dir():
        raise InvalidInput(str(root), "is not a folder", "give the folder of a compute package")
    files, names = [], Names()
    try:
        for file in _walk(root, "", _ignored(root)):
            names.add(check_path(file.path))
            files.append(file)
            if len(files) > MAX_FILES:
                raise _too_much(f"holds more than {MAX_FILES} files", files)
    except OSError as error:
        raise _unreadable(Path(error.filename or root), error) from None
    files.sort(key=lambda file: file.path.encode())
    reader = _reader(root, {file.path for file in files})
    folder = Folder(root, read_manifest(found(reader), reader), tuple(files))
    if folder.size > MAX_BYTES:
        raise _too_much(f"takes {folder.size} bytes; a package has at most {MAX_BYTES}", files)
    return folder


def pack(root: Path) -> Iterator[bytes]:
    """The archive of a folder, in pieces. Raises what `survey` does, before the first of them."""
    return survey(root).chunks()


# --- which files -----------------------------------------------------------------------------------


def _ignored(root: Path) -> GitIgnoreSpec:
    """What is left out: what `.fednignore` says, in the way of a .gitignore, and some things always."""
    file = root / IGNORE
    lines: list[str] = []
    if file.is_symlink() or file.exists():
        lines = _read(file, MAX_TEXT_BYTES).decode("utf-8", "replace").splitlines()
    try:
        return GitIgnoreSpec.from_lines([*lines, *ALWAYS_IGNORED])
    except (ValueError, re.error) as error:
        raise InvalidInput(IGNORE, f"can't be read ({error})", "write patterns as in a .gitignore") from None


def _walk(folder: Path, prefix: str, ignored: GitIgnoreSpec) -> Iterator[Source]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = prefix + entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if ignored.match_file(f"{path}/" if is_folder else path):
            continue
        status = entry.stat(follow_symlinks=False)
        if is_folder:
            check_path(path)
            yield from _walk(folder / entry.name, f"{path}/", ignored)
        elif stat.S_ISREG(status.st_mode):
            yield Source(path, status.st_size, bool(status.st_mode & 0o100))
        else:
            what = "a link" if stat.S_ISLNK(status.st_mode) else "not a file"
            raise refused(path, f"is {what}", f"put a file there, or name it in {IGNORE}")


def _reader(root: Path, packed: set[str]) -> Files:
    return lambda path: _read(root / path, MAX_TEXT_BYTES + 1) if path in packed else None


def _too_much(problem: str, files: list[Source]) -> InvalidInput:
    largest = sorted(files, key=lambda file: -file.size)[:3]
    named = ", ".join(f"{file.path} ({file.size} bytes)" for file in largest)
    return InvalidInput("package", problem, f"leave data out of it with {IGNORE}; the largest are {named}")


# --- their bytes -----------------------------------------------------------------------------------


def _header(file: Source) -> bytes:
    info = tarfile.TarInfo(file.path)
    info.size = file.size
    info.mode = 0o755 if file.executable else 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _bytes_of(path: Path, file: Source) -> Iterator[bytes]:
    left = file.size
    try:
        with os.fdopen(_opened(path), "rb") as source:
            while left and (piece := source.read(min(CHUNK, left))):
                left -= len(piece)
                yield piece
            if left or source.read(1):
                raise refused(file.path, "changed while it was read", "try again")
    except OSError as error:
        raise _unreadable(path, error) from None


def _read(path: Path, most: int) -> bytes:
    try:
        with os.fdopen(_opened(path), "rb") as source:
            return source.read(most)
    except OSError as error:
        raise _unreadable(path, error) from None


def _opened(path: Path) -> int:
    """A file that is none of those that wait for somebody, or lead elsewhere."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _unreadable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(str(path), f"can't be read ({error.strerror})", "check the path")
