"""Files that come as the body of a request: in chunks, whole or not at all, read on when they are refused.

Used by `rest_models`, `rest_packages` and `rest_inspecting`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from flask import request
from werkzeug.exceptions import HTTPException, LengthRequired

from fedn.domain.errors import LinkBroken

CHUNK = 2**20


@contextmanager
def uploaded(what: str) -> Iterator[tuple[Iterator[bytes], int]]:
    """The chunks of this request's body, and its size; whatever is raised inside refuses it.

    Raises LengthRequired for a body of unknown size, and LinkBroken if the sender goes before its end.
    """
    size = request.content_length
    if size is None:
        raise LengthRequired(f"Content-Length is missing; send the size of the {what}")
    try:
        yield _received(request.stream, size), size
    except Exception:
        _drain(request.stream)
        raise


def _received(stream: IO[bytes], size: int) -> Iterator[bytes]:
    received = 0
    while received < size:
        try:
            chunk = stream.read(min(CHUNK, size - received))
        except (OSError, HTTPException) as error:
            raise LinkBroken(f"the upload broke off after {received} of {size} bytes") from error
        if not chunk:
            raise LinkBroken(f"the upload broke off after {received} of {size} bytes")
        received += len(chunk)
        yield chunk


def _drain(stream: IO[bytes]) -> None:
    """Read on to the end of a refused body, so that its sender gets to read why; keeps nothing.

    Left to the web server, the rest would be read into memory in one piece.
    """
    with suppress(OSError, HTTPException):
        while stream.read(CHUNK):
            pass
