"""Models between a file here and the reducer: streamed, with a bar, checked, resumable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fedn.cli import screen
from fedn.domain.errors import Damaged, FednError, InvalidInput, InvalidModel, LinkBroken
from fedn.domain.model import PREFIX_BYTES, header_bytes, parse_layout

if TYPE_CHECKING:
    from hashlib import _Hash

    from fedn.cli.rest_client import Reducer

CHUNK = 2**20
ATTEMPTS = 3
"""How often a download goes on by itself when it breaks off."""


# --- up --------------------------------------------------------------------------------------------


def upload(reducer: Reducer, file: Path, name: str, as_json: bool) -> Any:
    """Seed ``file``; a header that is wrong is found before a byte travels. Raises InvalidModel."""
    try:
        size = file.stat().st_size
        with file.open("rb") as source, screen.transfer(as_json) as bar:
            check_header(source, size, file)
            task = bar.add_task(f"seeding {file.name}", total=size)
            pieces = _pieces(source, lambda length: bar.advance(task, length))
            return reducer.upload("/models", pieces, size, name=name)
    except OSError as error:
        raise InvalidInput(str(file), f"can't be read ({error.strerror})", "check the path") from None


def check_header(source: BinaryIO, size: int, file: Path) -> None:
    """Read the layout and go back to the start; raises InvalidModel naming the file."""
    try:
        prefix = source.read(PREFIX_BYTES)
        parse_layout(prefix + source.read(header_bytes(prefix)), size)
    except InvalidModel as error:
        problem = f"{error.details['field']} {error.details['problem']}"
        raise InvalidModel(str(file), problem, str(error.details["remedy"])) from None
    source.seek(0)


def _pieces(source: BinaryIO, advance: Callable[[int], None]) -> Iterator[bytes]:
    while piece := source.read(CHUNK):
        yield piece
        advance(len(piece))


# --- down ------------------------------------------------------------------------------------------


def fetch(reducer: Reducer, digest: str, target: Path, force: bool, as_json: bool) -> int:
    """Download to a file beside ``target`` and move it there when its sha256 is right; returns its size.

    What came before a break stays in ``.<name>.<digest>.part`` and is gone on with.
    """
    if target.exists() and not force:
        raise InvalidInput(str(target), "is there already", "give another name with -o, or --force")
    part = target.with_name(f".{target.name}.{digest[:16]}.part")
    try:
        with part.open("a+b") as file, screen.transfer(as_json) as bar:
            task = bar.add_task(f"downloading {digest[:12]}", total=None)
            _fetch(reducer, digest, file, lambda done, total: bar.update(task, completed=done, total=total))
            size = file.tell()
        part.replace(target)
        return size
    except Damaged:
        part.unlink(missing_ok=True)
        raise
    except FednError:
        if part.exists() and part.stat().st_size == 0:
            part.unlink()
        raise
    except OSError as error:
        raise InvalidInput(str(target), f"can't be written ({error.strerror})", "check the path") from None


def _fetch(reducer: Reducer, digest: str, file: BinaryIO, told: Callable[[int, int], None]) -> None:
    total = int(reducer.get(f"/models/{digest}/info")["size"])
    hasher = _hash_of(file)
    for attempt in range(ATTEMPTS):
        try:
            if file.tell() < total:
                _continue(reducer, digest, file, hasher, lambda done: told(done, total))
            break
        except LinkBroken:
            if attempt == ATTEMPTS - 1:
                screen.note("What came so far is kept; the same command goes on from there.")
                raise
    file.flush()
    os.fsync(file.fileno())
    if hasher.hexdigest() != digest:
        raise Damaged(f"the bytes that came are not model {digest}; try again", digest=digest)


def _hash_of(file: BinaryIO) -> _Hash:
    """The hash so far of what an earlier try left; the file stands at its end."""
    hasher = sha256()
    file.seek(0)
    while piece := file.read(CHUNK):
        hasher.update(piece)
    return hasher


def _continue(
    reducer: Reducer, digest: str, file: BinaryIO, hasher: _Hash, told: Callable[[int], None]
) -> None:
    start = file.tell()
    headers = {"Range": f"bytes={start}-"} if start else {}
    with reducer.stream(f"/models/{digest}", headers) as answer:
        if start and answer.status_code != 206:
            raise Damaged("the reducer does not resume downloads; try again", digest=digest)
        for piece in answer.iter_raw(CHUNK):
            file.write(piece)
            hasher.update(piece)
            told(file.tell())
