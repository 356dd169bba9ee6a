"""A running web server, and the sockets of those who come to it."""

from __future__ import annotations

import contextlib
import socket
import ssl

import httpx

from fedn.identity.credentials import Credentials
from fedn.reducer.web import Web
from fedn.wire.security import REDUCER, https_context

PATIENCE = 20.0
"""Longer than anything here takes, shorter than what a stalled peer would cost without all this."""
NARROW = 4096
"""Bytes that a socket buffers if it is to be full soon."""


class Site:
    """``authority``: the network's certificate; None for a server that speaks plain HTTP."""

    def __init__(self, web: Web, authority: bytes | None) -> None:
        self.web = web
        self.port = web.port
        self.authority = authority
        self.url = f"{'https' if authority else 'http'}://127.0.0.1:{web.port}"

    def client(self, credentials: Credentials | None = None) -> httpx.Client:
        verify = https_context(self.authority, credentials) if self.authority else False
        return httpx.Client(base_url=self.url, verify=verify, timeout=PATIENCE, trust_env=False)

    def connect(self, narrow: bool = False) -> socket.socket:
        sock = socket.socket()
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", self.port))
        return sock

    def tls(
        self, sni: str = REDUCER, credentials: Credentials | None = None, narrow: bool = False
    ) -> ssl.SSLSocket:
        """Shakes hands, and verifies nothing: what is shown is looked at by the test."""
        context = https_context(self.authority, credentials)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.name = sni  # type: ignore[attr-defined]
        return context.wrap_socket(self.connect(narrow))

    def secured(self, sock: socket.socket | None = None) -> ssl.SSLSocket:
        return https_context(self.authority).wrap_socket(sock or self.connect())

    def alive(self) -> bool:
        with self.client() as http:
            return http.get("/healthz").status_code == 200

    def narrow(self) -> None:
        """From now on no connection holds more than a few answers that nobody reads."""
        self.web._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)


def head(first: str, *lines: str) -> bytes:
    return "\r\n".join((first, "Host: localhost", *lines, "", "")).encode()


def answer_of(sock: socket.socket) -> tuple[int, bytes]:
    """Status and body of everything up to the end of the connection; 0 if there was no answer."""
    data = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := sock.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]) if head else 0, body
