"""Models between files here and a reducer: streamed, checked, resumable; whoever watches is told how far."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fedn.domain.errors import Damaged, FednError, InvalidInput, InvalidModel, LinkBroken
from fedn.domain.kinds import START_BYTES
from fedn.domain.model import header_bytes, parse_layout

if TYPE_CHECKING:
    from hashlib import _Hash

    from fedn.sdk.http import Reducer

CHUNK = 2**20
ATTEMPTS = 3
"""How often a download goes on by itself when it breaks off."""
Told = Callable[[int, int], None]
"""Told how many bytes there are by now, of how many."""


# --- up --------------------------------------------------------------------------------------------


def upload(reducer: Reducer, source: BinaryIO, size: int, where: str, name: str, told: Told) -> Any:
    """Seed what is in ``source``; a header that is wrong is found before a byte travels.

    Returns what the reducer knows of the model. Raises InvalidModel, which names ``where`` it is from.
    """
    check_header(source, size, where)
    return reducer.upload("/models", pieces(source, size, told), size, name=name)


def check_header(source: BinaryIO, size: int, where: str) -> None:
    """Read the layout and go back to the start; raises InvalidModel naming ``where`` it is from."""
    try:
        prefix = source.read(START_BYTES)
        parse_layout(prefix + source.read(header_bytes(prefix)), size)
    except InvalidModel as error:
        problem = f"{error.details['field']} {error.details['problem']}"
        raise InvalidModel(where, problem, str(error.details["remedy"])) from None
    source.seek(0)


def pieces(source: BinaryIO, size: int, told: Told) -> Iterator[bytes]:
    """A file's bytes from here on."""
    sent = 0
    while piece := source.read(CHUNK):
        yield piece
        sent += len(piece)
        told(sent, size)


def hashing(hasher: _Hash, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks, hashed on the way."""
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk


# --- down ------------------------------------------------------------------------------------------


def part_of(target: Path, digest: str) -> Path:
    """Where what came of a download lies until it is whole."""
    return target.with_name(f".{target.name}.{digest[:16]}.part")


def fetch(reducer: Reducer, digest: str, target: Path, told: Told) -> int:
    """Download to a file beside ``target`` and move it there when its sha256 is right; returns its size.

    What came before a break stays in `part_of` and is gone on with. Raises Damaged, InvalidInput.
    """
    part = part_of(target, digest)
    try:
        with part.open("a+b") as file:
            _fetch(reducer, digest, file, told)
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


def _fetch(reducer: Reducer, digest: str, file: BinaryIO, told: Told) -> None:
    total = int(reducer.get(f"/models/{digest}/info")["size"])
    hasher = _hash_of(file)
    for attempt in range(ATTEMPTS):
        try:
            if file.tell() < total:
                _continue(reducer, digest, file, hasher, lambda done: told(done, total))
            break
        except LinkBroken:
            if attempt == ATTEMPTS - 1:
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
