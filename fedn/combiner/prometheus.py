"""What Prometheus scrapes of a combiner, and the small HTTP listener that it asks.

All of it is on the combiner's event loop, so that nothing changes while it is read. Beyond loopback the
listener speaks TLS, and answers the network's own machines alone; clients see nothing of each other here.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterator

import h11
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fedn.combiner.counts import Measured
from fedn.domain.errors import FednError, Forbidden, InvalidConfig, Unauthenticated
from fedn.domain.identity import Principal, Role
from fedn.exposition import build, levels, new_registry, number, total, written
from fedn.wire.security import https_principal

log = logging.getLogger("fedn.combiner")

MAX_CONNECTIONS = 16
"""Answered at once; more are closed."""
MAX_HEAD_BYTES = 2**13
SECONDS = 10.0
"""For a handshake, and for a request with its answer."""
PATH = b"/metrics"
MAY = frozenset({Role.REDUCER, Role.COMBINER})

Admits = Callable[[Principal], None]


class Numbers(Collector):
    """A combiner's numbers as metrics."""

    def __init__(self, measure: Callable[[], Measured]) -> None:
        self._measure = measure

    def collect(self) -> Iterator[Metric]:
        now = self._measure()
        held = {gauge.name: gauge.value for gauge in now.gauges}
        yield build()
        yield number("fedn_combiner_clients", "Clients attached.", held["clients"])
        yield number("fedn_combiner_parts", "Parts of rounds that are held.", held["parts"])
        yield total("fedn_combiner_updates_received", "Updates whose bytes have come.", now.updates.received)
        yield total("fedn_combiner_updates_folded", "Updates that are in a sum.", now.updates.folded)
        yield total("fedn_combiner_updates_refused", "Refusals sent to clients.", now.updates.refused)
        yield total("fedn_combiner_received_bytes", "Bytes of updates from clients.", now.bytes_received)
        yield total("fedn_combiner_sent_bytes", "Bytes of models and packages to clients.", now.bytes_sent)
        yield from levels(now.gauges)


class Listener:
    """Answers ``GET /metrics``, one request per connection."""

    def __init__(self, measure: Callable[[], Measured], admits: Admits) -> None:
        """``admits`` raises for members that were revoked."""
        self._registry = new_registry(Numbers(measure))
        self._admits = admits
        self._open = 0

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> asyncio.Server:
        """Begin; with ``tls``, who asks has to show a certificate. Raises InvalidConfig."""
        within = SECONDS if tls else None
        try:
            server = await asyncio.start_server(
                self._accept, host, port, ssl=tls, ssl_handshake_timeout=within, limit=MAX_HEAD_BYTES
            )
        except OSError as error:
            problem = f"{host}:{port} can't be used ({error.strerror or error})"
            raise InvalidConfig("metrics_port", problem, "stop what listens there, or give another") from None
        log.info("metrics are at %s://%s:%s/metrics", "https" if tls else "http", host, port)
        return server

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._open < MAX_CONNECTIONS:
                self._open += 1
                try:
                    async with asyncio.timeout(SECONDS):
                        await self._converse(reader, writer)
                finally:
                    self._open -= 1
        except (TimeoutError, OSError, h11.RemoteProtocolError):
            pass  # whoever asked has left, or never spoke HTTP
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(await reader.read(MAX_HEAD_BYTES))
        if not isinstance(event, h11.Request):
            return
        status, media, body = self._answer(event, writer.get_extra_info("ssl_object"))
        headers = [("Content-Type", media), ("Content-Length", str(len(body))), ("Connection", "close")]
        writer.write(connection.send(h11.Response(status_code=status, headers=headers)) or b"")
        if event.method != b"HEAD":
            writer.write(connection.send(h11.Data(data=body)) or b"")
        await writer.drain()

    def _answer(self, asked: h11.Request, tls: ssl.SSLObject | None) -> tuple[int, str, bytes]:
        """Status, media type and body."""
        plain = "text/plain; charset=utf-8"
        if asked.target.partition(b"?")[0] != PATH:
            return 404, plain, b"ask for /metrics\n"
        if asked.method not in (b"GET", b"HEAD"):
            return 405, plain, b"ask for it by GET\n"
        try:
            if tls is not None:
                self._check(https_principal(tls.getpeercert(binary_form=True), ""))
        except FednError as error:
            return error.status, plain, f"{error.message}\n".encode()
        accept = b",".join(value for name, value in asked.headers if name == b"accept")
        body, media = written(self._registry, accept.decode("latin-1"))
        return 200, media, body

    def _check(self, who: Principal) -> None:
        if who.role is Role.NOBODY:
            raise Unauthenticated("show a certificate of this network")
        if who.role not in MAY:
            raise Forbidden(f"a {who.role} may not read a combiner's metrics")
        self._admits(who)
