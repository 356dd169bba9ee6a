"""A whole network's certificates in memory, and servers that use them, for tests of the secure wires."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cheroot.ssl.builtin import BuiltinSSLAdapter
from cheroot.wsgi import Server

from fedn.domain.identity import Role
from fedn.identity.authority import Authority
from fedn.identity.certificates import new_key, new_request, read_request
from fedn.identity.credentials import Credentials

HOUR = 3600.0


def member(
    authority: Authority, role: Role, name: str, *, seconds: float = HOUR, ago: float = 0.0
) -> Credentials:
    """What a member holds, issued ``ago`` seconds before now."""
    key = new_key()
    request = read_request(new_request(key, role, name))
    certificate = authority.issue(request, time.time() - ago, seconds)
    return Credentials(key, certificate, authority.certificate)


def expired(authority: Authority, role: Role, name: str) -> Credentials:
    """What a member holds that was away for too long."""
    return member(authority, role, name, seconds=HOUR, ago=2 * HOUR)


def reducer(authority: Authority, *, seconds: float = HOUR, ago: float = 0.0) -> Credentials:
    return authority.issue_reducer(("fl.example.org",), time.time() - ago, seconds)


class _Adapter(BuiltinSSLAdapter):
    """cheroot's own, with a context that was made elsewhere, and the client's certificate for the app."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def get_environ(self, sock: ssl.SSLSocket) -> dict[str, Any]:  # type: ignore[override] # so it is called
        return {"wsgi.url_scheme": "https", "test.certificate": sock.getpeercert(binary_form=True)}


class _Server(Server):
    def error_log(self, *_: Any, **__: Any) -> None:
        """Refused handshakes are what these tests are about."""


@contextmanager
def https_server(app: Any, context: ssl.SSLContext, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve a WSGI app over TLS in threads, as the reducer does; gives the port."""
    server = _Server((host, 0), app, numthreads=4)
    server.ssl_adapter = _Adapter(context)
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server.bind_addr[1]
    finally:
        server.stop()
        thread.join()
