"""Builds a combiner from its settings, runs it, closes it."""

from __future__ import annotations

import asyncio
import logging

import grpc
from grpc_health.v1 import health_pb2

from fedn import logs
from fedn.combiner.driver import Combiner
from fedn.combiner.limits import Limits
from fedn.combiner.links import keep_registered
from fedn.combiner.service import add_services
from fedn.config import CombinerSettings, is_loopback
from fedn.domain.errors import InvalidConfig, Revoked
from fedn.domain.identity import Role
from fedn.domain.ids import PROTOCOL_VERSION, CombinerName
from fedn.domain.messages import Registration
from fedn.helpers.host import this_host
from fedn.identity.credentials import Wallet
from fedn.identity.entering import Applicant, enter
from fedn.running import first_of, run_until_signalled
from fedn.stores.cache import file_cache
from fedn.wire.channel import new_server
from fedn.wire.reducer_link import HttpReducer
from fedn.wire.security import https_server_context, server_credentials
from fedn.wire.store_link import StoreLink

log = logging.getLogger("fedn.combiner")

CACHED_MODELS = 3
STOP_SECONDS = 1.0
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 — compared with, not bound


def run(settings: CombinerSettings) -> None:
    """Run a combiner until SIGINT or SIGTERM. Raises InvalidConfig, Unauthenticated, Revoked."""
    if settings.insecure:
        logs.warn_insecure("combiner", settings.host)
        if settings.plain_beyond:
            logs.warn_plain("combiner", settings.reducer)
    elif not settings.secured:
        logs.tell_plain("combiner", settings.host)
    try:
        run_until_signalled(lambda stop: serve(settings, stop))
    except Revoked as error:
        remedy = "to come back, give it another --name and --data-dir, and join with a new token"
        raise Revoked(f"{error.message}; {remedy}") from None


async def serve(settings: CombinerSettings, stop: asyncio.Event) -> None:
    """Join, listen, register, and close all when ``stop`` is set."""
    if not settings.advertise and settings.host in EVERYWHERE:
        problem = f"is missing, and nobody can reach {settings.host}"
        raise InvalidConfig("advertise", problem, "give the host:port that others are to use")
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with logs.Kept() as kept:
        await first_of(stop, _serve(settings, kept if settings.share_log else None))


async def _serve(settings: CombinerSettings, shared: logs.Kept | None) -> None:
    me = Applicant(Role.COMBINER, settings.name, settings.name, settings.data_dir / "identity")
    member = await enter(settings.reducer, settings.token, me, settings.ca_bundle)
    wallet = member.wallet if member else None
    limits = Limits(
        uploads_in_flight=settings.uploads_in_flight, max_update_bytes=settings.max_update_bytes,
        max_clients=settings.max_clients, client_grace=settings.client_grace, beat=settings.beat,
        fetches_in_flight=settings.fetches_in_flight,
    )  # fmt: skip
    store = StoreLink(settings.store_ca_bundle, settings.insecure_store_http or not settings.secured)
    reducer = HttpReducer(settings.reducer, wallet, settings.ca_bundle, store)
    models = file_cache(settings.data_dir / "models", CACHED_MODELS)
    combiner = Combiner(
        CombinerName(settings.name), reducer, models, settings.data_dir, limits, this_host(), shared
    )
    server = new_server()
    checks = add_services(server, combiner)
    metrics: asyncio.Server | None = None
    try:
        port = _listen(server, settings, wallet)
        address = settings.advertise or f"{settings.host}:{port}"
        await server.start()
        await checks.set("", health_pb2.HealthCheckResponse.SERVING)
        metrics = await _metrics(settings, combiner, wallet)
        log.info("combiner is up at %s", address, extra={"combiner": combiner.name})
        registration = Registration(PROTOCOL_VERSION, combiner.name, address, combiner.incarnation)
        registered = keep_registered(reducer, registration, combiner.revoke, member.fresh if member else None)
        await first_of(asyncio.Event(), registered, *([member.keep()] if member else []))
    finally:
        if metrics:
            metrics.close()
        await checks.enter_graceful_shutdown()
        await combiner.close()
        await server.stop(STOP_SECONDS)
        await reducer.close()


async def _metrics(
    settings: CombinerSettings, combiner: Combiner, wallet: Wallet | None
) -> asyncio.Server | None:
    """The listener for Prometheus, where it is wanted. Raises InvalidConfig."""
    if not settings.metrics_port:
        return None
    try:
        from fedn.combiner.prometheus import Listener
    except ModuleNotFoundError as error:
        remedy = "pip install '.[combiner]' in fedn's source tree"
        raise InvalidConfig("metrics_port", f"needs {error.name}, which is not installed", remedy) from None
    beyond = wallet is not None and not is_loopback(settings.metrics_host)
    tls = https_server_context(wallet) if wallet and beyond else None
    listener = Listener(combiner.measured, combiner.check_admitted)
    return await listener.listen(settings.metrics_host, settings.metrics_port, tls)


def _listen(server: grpc.aio.Server, settings: CombinerSettings, wallet: Wallet | None) -> int:
    """The port that was taken. Raises InvalidConfig."""
    where = f"{settings.host}:{settings.port}"
    try:
        if wallet is None:
            return server.add_insecure_port(where)
        return server.add_secure_port(where, server_credentials(wallet))
    except RuntimeError:
        raise InvalidConfig("port", f"{where} can't be used",
                            "stop what listens there, or give another --port") from None  # fmt: skip
