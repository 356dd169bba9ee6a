"""One connection to the web server: a request is gathered without holding a thread, then answered by one.

cheroot gives a connection to a thread as soon as it is accepted, and shakes hands for TLS even before
that. Whoever then says nothing, or says it slowly, keeps a thread for half a minute. Here a thread takes
what has come and gives the connection back to wait for more, until the head of a request, and its body if
that is short, are all there. What is larger comes from people who have said who they are (`gate.py`).
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

from cheroot.server import HTTPConnection, HTTPRequest

from fedn.domain.errors import InvalidConfig
from fedn.domain.ids import PROTOCOL_VERSION
from fedn.reducer.rest_errors import BODY_HERE, MAX_BODY_BYTES

MAX_HEAD_BYTES = 2**15
GATHER_SECONDS = 20.0
"""From the first byte of a request until so much of it must be there."""
PIECE_BYTES = 2**16
READ_AT_ONCE = 2**20
ANSWER_SECONDS = 3.0
"""A short answer fits into the network's buffers; if it does not, the peer has not read those before it."""
DONE = "fedn.done"
"""In the WSGI environment: an `ExitStack` that is left when no thread works on the request any more."""

_HEAD_ENDS = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"(?i)\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r?\n")
_BODY_LATER = re.compile(rb"(?i)\n(transfer-encoding|expect):")
_DIGITS = re.compile(rb"\d{1,18}")
_HANDSHAKE = b"\x16"
"""How every TLS connection begins, and no HTTP request."""
_WAIT = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)

MakeContext = Callable[[], ssl.SSLContext]


class Gone(Exception):
    """The peer has left, is too slow, or speaks something else."""


class Wire:
    """A socket with what was gathered from it; TLS, if any, is inside. One thread at a time."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None, patience: float) -> None:
        """``patience``: seconds that a peer is given for each piece of something large."""
        self._socket = sock
        self._tls = tls
        self._patience = patience
        self._shaken = tls is None
        self._gathered = bytearray()
        self._searched = 0
        self._awaited: int | None = None
        self._since = 0.0
        self._waiting = True
        self.answer_seconds = 0.0
        """How long a short answer may wait for its reader; a refusal may not (`Request.send_headers`)."""
        self.body_here = False
        """Whether the whole body of the request had come when it was begun."""
        self.environ: dict[str, Any] = {}

    # --- gathering -------------------------------------------------------------------------------------

    def gather(self) -> bool:
        """Take what has come, without waiting for more; whether it is a request to answer.

        Raises Gone, OSError.
        """
        self._waiting = True
        if self._since and time.monotonic() - self._since > GATHER_SECONDS:
            raise Gone
        self._socket.settimeout(0)
        try:
            if self._shaken or self._shake():
                self._read()
        except _WAIT:
            pass
        if self._gathered and not self._since:
            self._since = time.monotonic()
        if not self._gathered or not self._complete():
            return False
        self._waiting, self._since = False, 0.0
        self._searched, self._awaited = 0, None  # the next request begins where this one ends
        self.answer_seconds = 0.0
        self._socket.settimeout(self._patience)
        return True

    def _shake(self) -> bool:
        """A step of the handshake; whether it is over. Raises SSLWantReadError to wait for the next one."""
        if not isinstance(self._socket, ssl.SSLSocket):
            first = self._socket.recv(1, socket.MSG_PEEK)
            self._since = self._since or time.monotonic()
            if first != _HANDSHAKE:
                self._refuse_plain() if first else None
                raise Gone
            assert self._tls is not None
            self._socket = self._tls.wrap_socket(
                self._socket, server_side=True, do_handshake_on_connect=False
            )
            self._socket.settimeout(0)
        self._socket.do_handshake()
        self._shaken, self._since = True, 0.0
        self.environ |= _tls_environ(self._socket)
        return True

    def _refuse_plain(self) -> None:
        """Say in plain HTTP that this is the wrong protocol."""
        self._socket.recv(PIECE_BYTES)  # unread, it would make the answer a reset
        text = "this address speaks HTTPS; ask for https:// instead of http://"
        code, status = InvalidConfig.code, InvalidConfig.status
        body = json.dumps({"code": code, "error": text, "details": {}, "status": status}).encode()
        head = (
            f"HTTP/1.1 {status} Bad Request\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            f"Fedn-Protocol: {PROTOCOL_VERSION}\r\nConnection: close\r\n\r\n"
        )
        self._socket.send(head.encode() + body)
        self._socket.shutdown(socket.SHUT_WR)

    def _read(self) -> None:
        """Read until the request is complete; raises what says that there is nothing more yet."""
        while not (self._gathered and self._complete()):
            data = self._socket.recv(PIECE_BYTES)
            if not data:
                raise Gone
            if self._tls is None and not self._gathered and data[:1] == _HANDSHAKE:
                raise Gone
            self._gathered += data

    def _complete(self) -> bool:
        """Whether a thread has to do something about what is here. Each byte is looked at once or twice."""
        if self._awaited is None:
            # The end of the head is four bytes at most, three of which may have been here before.
            head = _HEAD_ENDS.search(self._gathered, max(0, self._searched - 3), MAX_HEAD_BYTES + 4)
            if head is None:
                self._searched = len(self._gathered)
                return self._searched > MAX_HEAD_BYTES  # which cheroot refuses
            self._awaited = head.end() + _body_to_gather(self._gathered[: head.end()])
        return len(self._gathered) >= self._awaited

    # --- reading and writing in a thread ---------------------------------------------------------------

    def head_read(self, length: int, later: bool) -> None:
        """The head was taken out; what counts is the length as it was read there, not as it looked before."""
        self.body_here = length <= len(self._gathered) and not later
        self.environ[BODY_HERE] = self.body_here

    def read(self, size: int) -> bytes:
        """So many bytes, at most `READ_AT_ONCE`; fewer only if the peer has left."""
        data = bytearray(min(size, READ_AT_ONCE))
        filled = min(len(data), len(self._gathered))
        data[:filled] = self._gathered[:filled]
        del self._gathered[:filled]
        with memoryview(data) as view:
            while filled < len(data) and (count := self._socket.recv_into(view[filled:])):
                filled += count
        return bytes(data[:filled])

    def readline(self, size: int) -> bytes:
        """A line, or so many bytes of it."""
        while (end := self._gathered.find(b"\n", 0, size) + 1) == 0 and len(self._gathered) < size:
            data = self._socket.recv(size - len(self._gathered))
            if not data:
                break
            self._gathered += data
        line = bytes(self._gathered[: end or size])
        del self._gathered[: len(line)]
        return line

    def write(self, data: bytes) -> None:
        """Send all of it, in pieces; the peer is given time for each of them."""
        self._socket.settimeout(self.answer_seconds if len(data) <= PIECE_BYTES else self._patience)
        view = memoryview(data)
        while view:
            view = view[self._socket.send(view[:PIECE_BYTES]) :]
        self._socket.settimeout(self._patience)

    def unread(self) -> bool:
        """Whether the next request has begun to come in already; the network will not tell of it then."""
        if self._waiting:
            return False
        pending = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending()
        return bool(self._gathered or pending)

    # --- as cheroot treats a socket --------------------------------------------------------------------

    def fileno(self) -> int:
        return self._socket.fileno()

    def shutdown(self, how: int) -> None:
        if isinstance(self._socket, ssl.SSLSocket) and self._shaken:
            self._socket.settimeout(0)
            with suppress(OSError, ValueError):
                self._socket.unwrap()  # says goodbye, and does not wait for the answer
        self._socket.shutdown(how)

    def close(self) -> None:
        self._socket.close()

    def hang_up(self) -> None:
        """Let it look as if the peer had left; who holds the connection closes it then. For other threads."""
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _body_to_gather(head: bytearray) -> int:
    """How much of the body has to be here before a thread begins: all of it, if it is short."""
    lengths = _LENGTH.findall(head)
    length = int(lengths[-1]) if lengths else 0
    return 0 if length > MAX_BODY_BYTES or _BODY_LATER.search(head) else length


def _tls_environ(sock: ssl.SSLSocket) -> dict[str, Any]:
    """What the WSGI environment says about TLS."""
    certificate = sock.getpeercert(binary_form=True)
    environ = {
        "wsgi.url_scheme": "https",
        "HTTPS": "on",
        "SSL_PROTOCOL": sock.version(),
        "SSL_CLIENT_VERIFY": "SUCCESS" if certificate else "NONE",
    }
    if certificate:
        environ["SSL_CLIENT_CERT"] = ssl.DER_cert_to_PEM_cert(certificate)
    return environ


class _Reader:
    """What cheroot reads a request from."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.bytes_read = 0
        self.closed = False

    def read(self, size: int) -> bytes:
        data = self._wire.read(size)
        self.bytes_read += len(data)
        return data

    def readline(self, size: int = MAX_HEAD_BYTES) -> bytes:
        line = self._wire.readline(size)
        self.bytes_read += len(line)
        return line

    def has_data(self) -> bool:
        return self._wire.unread()

    def close(self) -> None:
        self.closed = True


class _Writer:
    """What cheroot writes an answer to. Nothing waits here."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.bytes_written = 0

    def write(self, data: bytes) -> int:
        self._wire.write(data)
        self.bytes_written += len(data)
        return len(data)


class Request(HTTPRequest):
    """Refuses lengths that can be read in two ways, and does not wait for a body that nobody wanted."""

    conn: Connection

    def read_request_line(self) -> bool:
        return self._readable(super().read_request_line)

    def read_request_headers(self) -> bool:
        if not self._readable(super().read_request_headers):
            return False
        length = self.inheaders.get(b"Content-Length")
        if length is not None and not _DIGITS.fullmatch(length):
            self.simple_response("400 Bad Request", "Content-Length is not a number")
            return False
        if b"Transfer-Encoding" in self.inheaders:
            self.simple_response("411 Length Required", "send a body with its Content-Length, not in chunks")
            return False
        self.conn.wire.head_read(int(length or 0), later=b"Expect" in self.inheaders)
        return True

    def _readable(self, read: Callable[[], bool]) -> bool:
        """Whether cheroot can read it: not half a bracket, nor a first header that begins with a space."""
        try:
            return read()
        except (ValueError, UnboundLocalError):
            self.simple_response("400 Bad Request", "the request can't be read")
            return False

    def respond(self) -> None:
        with ExitStack() as done:
            self.conn.wire.environ[DONE] = done
            super().respond()

    def send_headers(self) -> None:
        """Refusals wait for no reader: who asks for more than is granted would keep a thread all the same."""
        if int(self.status[:3]) < 300:
            self.conn.wire.answer_seconds = ANSWER_SECONDS
        if getattr(self.rfile, "remaining", 0) and not self.conn.wire.body_here:
            self.close_connection = True
        super().send_headers()


class Connection(HTTPConnection):
    """A connection that waits where no thread waits with it. ``server`` is `fedn.reducer.web.Server`."""

    RequestHandlerClass = Request

    def __init__(self, server: Any, sock: socket.socket, _: object = None) -> None:
        self.wire = Wire(sock, server.tls, server.timeout)
        super().__init__(
            server, self.wire, lambda wire, mode, _: (_Reader if mode == "rb" else _Writer)(wire)
        )
        self.left = False
        server.opened(self)

    def communicate(self) -> bool:
        """Answer a request if one is here; says whether to wait for more."""
        self.server.busy(self)
        try:
            ready = self.wire.gather()
        except (Gone, OSError, ValueError):  # ValueError: hung up meanwhile
            return False
        if ready:
            self.ssl_env = self.wire.environ
            if not super().communicate():  # type: ignore[no-untyped-call]
                return False
        self.server.idle(self)
        return True

    def close(self) -> None:
        self.server.closed(self)
        with suppress(OSError):
            super().close()
