"""The web server in front of the REST API: threads, TLS, and bounds on who is connected.

cheroot does the HTTP; `web_connection.py` is how a connection waits. Who is at the other end is put into
the WSGI environment (``SSL_CLIENT_CERT``), where `gate.py` looks.
"""

from __future__ import annotations

import logging
import resource
import ssl
import sys
import threading
from collections import OrderedDict
from pathlib import Path

from cheroot import wsgi
from flask import Flask

from fedn.config import ReducerSettings
from fedn.domain.errors import FednError, InvalidConfig
from fedn.identity.credentials import Wallet
from fedn.reducer.web_connection import MAX_HEAD_BYTES, Connection
from fedn.wire.security import https_server_context

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 2000
"""Of more, and of more than half of the files that this process may open, those go that waited longest."""
IDLE_SECONDS = 30


class Server(wsgi.Server):
    """cheroot's server with connections of ours, and a bound on them."""

    ConnectionClass = Connection
    max_request_header_size = MAX_HEAD_BYTES
    request_queue_size = 128
    shutdown_timeout = 2
    timeout = IDLE_SECONDS
    keep_alive_conn_limit = MAX_CONNECTIONS

    def __init__(self, where: tuple[str, int], app: Flask, threads: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(
            where, app, numthreads=threads, server_name="fedn", request_queue_size=self.request_queue_size,
            timeout=self.timeout, shutdown_timeout=self.shutdown_timeout,
        )  # fmt: skip
        self.tls = tls
        self._bound = min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._lock = threading.Lock()
        self._open = 0
        self._idle: OrderedDict[int, Connection] = OrderedDict()

    def opened(self, connection: Connection) -> None:
        """Count a connection, and let the one go that waited longest if there are too many."""
        with self._lock:
            self._open += 1
            self._idle[id(connection)] = connection
            if self._open <= self._bound:
                return
            _, longest = self._idle.popitem(last=False)
        longest.wire.hang_up()

    def busy(self, connection: Connection) -> None:
        with self._lock:
            self._idle.pop(id(connection), None)

    def idle(self, connection: Connection) -> None:
        with self._lock:
            self._idle[id(connection)] = connection

    def closed(self, connection: Connection) -> None:
        with self._lock:
            self._idle.pop(id(connection), None)
            self._open -= not connection.left
            connection.left = True

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """Into the log with the rest. Peers that leave, and answers cut off on purpose, need no trace."""
        error = sys.exc_info()[1] if traceback else None
        if error is None or isinstance(error, (FednError, OSError)):
            log.debug("web server: %s", msg)
        else:
            log.log(level, "web server: %s", msg, exc_info=error)


class Web:
    """The web server in its own threads. Raises InvalidConfig when the port is taken.

    The port is taken first of all: a second reducer started by mistake must fail before it takes the
    next term from the first. Requests are answered from `start` on; until then they queue.

    With a ``wallet`` it speaks HTTPS and nothing else; what is put into the wallet later serves new
    connections. Clients may show a certificate of the network.
    """

    def __init__(self, app: Flask, settings: ReducerSettings, wallet: Wallet | None = None) -> None:
        tls = None
        if wallet is not None:
            tls = https_server_context(wallet, settings.https_certificate, settings.https_key)
        self._server = Server((settings.host, settings.port), app, settings.http_threads, tls)
        self._thread = threading.Thread(target=self._server.serve, name="web", daemon=True)
        try:
            self._server.prepare()
        except OSError as error:
            problem = f"{settings.host}:{settings.port} can't be used ({error.strerror or error})"
            raise InvalidConfig("port", problem, "stop what listens there, or give another --port") from None

    @property
    def port(self) -> int:
        """The port that was taken, also where 0 asked for any."""
        port: int = self._server.bind_addr[1]
        return port

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.stop()
        if self._thread.ident is not None:
            self._thread.join()


def names_in(path: str) -> tuple[str, ...]:
    """For which names the certificate in a PEM file is; none if ``path`` is ''. Raises InvalidConfig."""
    from cryptography import x509

    if not path:
        return ()
    try:
        certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        problem = f"{path} can't be used: {getattr(error, 'strerror', None) or error}"
        remedy = "give the PEM file of a certificate for the names that browsers use"
        raise InvalidConfig("https_certificate", problem, remedy) from None
    return tuple(names.get_values_for_type(x509.DNSName))
