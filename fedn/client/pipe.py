"""How the client and its workers speak: small JSON objects, each with its length in front, on a socket pair.

Models and updates go by file. The worker runs the user's code, so what comes from it is bounded and checked.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

MAX_BYTES = 4 * 2**20
SEND_SECONDS = 60.0
"""Whoever does not read for so long never will."""
_LENGTH = struct.Struct(">I")


class Pipe:
    """One end of a socket pair."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, message: Mapping[str, Any]) -> None:
        """Raises OSError when nobody is there."""
        data = json.dumps(message).encode()
        if len(data) > MAX_BYTES:
            raise OSError(f"a message of {len(data)} bytes")
        self._end.settimeout(SEND_SECONDS)
        self._end.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self, seconds: float | None = None) -> dict[str, Any] | None:
        """The next message; None when the other end is closed.

        Raises TimeoutError after ``seconds``, ValueError for what is no message, OSError.
        """
        until = None if seconds is None else time.monotonic() + seconds
        if (head := self._read(_LENGTH.size, until)) is None:
            return None
        (length,) = _LENGTH.unpack(head)
        if length > MAX_BYTES:
            raise ValueError(f"announces {length} bytes")
        data = self._read(length, until)
        return None if data is None else _object(data)

    def _read(self, size: int, until: float | None) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            self._end.settimeout(None if until is None else max(0.001, until - time.monotonic()))
            try:
                piece = self._end.recv(size - len(data))
            except ConnectionResetError:
                return None
            if not piece:
                return None
            data += piece
        return bytes(data)

    def close(self) -> None:
        self._end.close()


def _object(data: bytes) -> dict[str, Any]:
    try:
        message = json.loads(data)
    except RecursionError:
        raise ValueError("too deep") from None
    if not isinstance(message, dict):
        raise ValueError("no object")
    return message
