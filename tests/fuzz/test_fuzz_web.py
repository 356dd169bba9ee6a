"""The web server on a real socket: spoilt HTTP, whole or in pieces, one request or two behind each other.

What comes back is HTTP, and no fault of the reducer; afterwards nobody is connected and all is as before.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from random import Random
from typing import Any

import httpx
import pytest
from hostile import RUNS, SEED, resident, spoilt

from fedn.config import ReducerSettings
from fedn.reducer.rest import create_app
from fedn.reducer.web import Web
from fedn.wire.security import REDUCER, https_context

PATIENCE = 30.0
AT_ONCE = 8

HEAD = b" HTTP/1.1\r\nHost: 127.0.0.1\r\n"
FORM = b"application/x-www-form-urlencoded"
JOIN = b'{"token": "x", "request": "y"}'
REQUESTS = [
    b"GET /healthz" + HEAD + b"\r\n",
    b"GET /api/v1/sessions?limit=3" + HEAD + b"Connection: close\r\nAccept: */*\r\n\r\n",
    b"HEAD /api/v1/plan HTTP/1.0\r\n\r\n",
    b"OPTIONS *" + HEAD + b"\r\n",
    b"GET http://localhost/healthz" + HEAD + b"\r\n",
    b"CONNECT localhost:443" + HEAD + b"\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\0" * 60,
    b"POST /api/v1/join" + HEAD + b"Content-Type: application/json\r\nContent-Length: 30\r\n\r\n" + JOIN,
    b"POST /api/v1/join" + HEAD + b"Content-Length: 30\r\nContent-Length: 3\r\n\r\n" + JOIN,
    b"POST /api/v1/join" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n1e\r\n" + JOIN + b"\r\n0\r\n\r\n",
    b"POST /api/v1/models?name=m" + HEAD + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n" + b"\0" * 9,
    b"POST /login" + HEAD + b"Content-Type: " + FORM + b"\r\nContent-Length: 7\r\n\r\ntoken=x",
    b"GET /api/v1/events" + HEAD + b"X-Long: " + b"x" * 3000 + b"\r\nX-Folded: a\r\n b\r\n\r\n",
]  # fmt: skip


@contextmanager
def served(net: Any, tls: bool) -> Iterator[Web]:
    settings = ReducerSettings(port=0, http_threads=4, event_streams=1)
    made = Web(net.app(), settings, net.wallet) if tls else Web(create_app(net.service, settings), settings)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def client_hello() -> bytes:
    """How TLS begins."""
    sent = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=REDUCER).do_handshake()
    return sent.read()


def hostile(random: Random, good: list[bytes]) -> list[bytes]:
    """One or two requests, whole or in up to four pieces."""
    raw = b"".join(spoilt(random, good) if random.random() < 0.8 else random.choice(good)
                   for _ in range(random.choice((1, 1, 2))))  # fmt: skip
    cuts = sorted(random.randrange(len(raw) + 1) for _ in range(random.choice((0, 0, 1, 3))))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


def said(port: int, pieces: list[bytes]) -> bytes:
    """What comes back until the server closes, which it does when no more can come."""
    heard = bytearray()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
            for piece in pieces:
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
            while data := sock.recv(65536):
                heard += data
    except OSError:
        pass  # it was told enough
    return bytes(heard)


def heard(web: Web, good: list[bytes], tally: Callable[[int], None]) -> Iterator[tuple[list[bytes], bytes]]:
    """What was sent, and what came back; no memory is left behind."""
    random, sizes = Random(SEED), []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        tried = (hostile(random, good) for _ in range(RUNS))
        for answer in pool.map(lambda pieces: (pieces, said(web.port, pieces)), tried):
            sizes.append(resident())
            yield answer
    assert max(sizes[RUNS // 2 :]) - max(sizes[: RUNS // 2]) < 32 * 2**20
    tally(RUNS)


def faults(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    return [message for message in messages if "the upload broke off" not in message]


def test_spoilt_http(net: Any, caplog: pytest.LogCaptureFixture, tally: Callable[[int], None]) -> None:
    codes = Counter[bytes]()
    with served(net, tls=False) as web:
        for pieces, answer in heard(web, REQUESTS, tally):
            codes[answer[9:12]] += 1
            assert not answer or answer.startswith(b"HTTP/1."), (pieces, answer[:300])
            assert answer[9:12] != b"500", (pieces, answer[:300])
        assert said(web.port, [REQUESTS[0]]).startswith(b"HTTP/1.1 200")
    assert codes.keys() >= {b"200", b"400", b""}, codes
    assert not faults(caplog)


# Python itself says on stderr that it can't decode a server name that is not ASCII, and refuses it.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_spoilt_tls(net: Any, caplog: pytest.LogCaptureFixture, tally: Callable[[int], None]) -> None:
    """Answered in TLS's own words, or told in plain HTTP that this is the wrong protocol, or not at all."""
    kinds = Counter[bytes]()
    with served(net, tls=True) as web:
        for pieces, answer in heard(web, [client_hello(), client_hello(), *REQUESTS], tally):
            kinds[answer[:1]] += 1
            assert answer[:1] in (b"", b"\x15", b"\x16", b"H"), (pieces, answer[:300])
            assert not answer.startswith(b"H") or answer[9:12] == b"400", (pieces, answer[:300])
        context = https_context(net.dir.authority.certificate)
        with httpx.Client(verify=context, trust_env=False, timeout=PATIENCE) as http:
            assert http.get(f"https://127.0.0.1:{web.port}/healthz").status_code == 200
    assert kinds.keys() >= {b"\x15", b"\x16", b"H"}, kinds
    assert not faults(caplog)
