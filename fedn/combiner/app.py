"""Builds a combiner from its settings, runs it, closes it."""

from __future__ import annotations

import asyncio
import logging

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from fedn import logs
from fedn.combiner.driver import Combiner
from fedn.combiner.limits import Limits
from fedn.combiner.links import keep_registered
from fedn.combiner.service import handlers
from fedn.config import CombinerSettings
from fedn.domain.errors import InvalidConfig
from fedn.domain.ids import PROTOCOL_VERSION, CombinerName
from fedn.domain.messages import Registration
from fedn.running import first_of, run_until_signalled
from fedn.stores.cache import file_cache
from fedn.wire.channel import new_server
from fedn.wire.reducer_link import HttpReducer

log = logging.getLogger("fedn.combiner")

CACHED_MODELS = 3
STOP_SECONDS = 1.0
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 — compared with, not bound


def run(settings: CombinerSettings) -> None:
    """Run a combiner until SIGINT or SIGTERM. Raises InvalidConfig."""
    if settings.insecure_listen_beyond_loopback:
        logs.warn_insecure("combiner", settings.host)
    run_until_signalled(lambda stop: serve(settings, stop))


async def serve(settings: CombinerSettings, stop: asyncio.Event) -> None:
    """Listen, register, and close all when ``stop`` is set."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    limits = Limits(
        uploads_in_flight=settings.uploads_in_flight, max_update_bytes=settings.max_update_bytes,
        max_clients=settings.max_clients, client_grace=settings.client_grace, beat=settings.beat,
        fetches_in_flight=settings.fetches_in_flight,
    )  # fmt: skip
    reducer = HttpReducer(settings.reducer)
    models = file_cache(settings.data_dir / "models", CACHED_MODELS)
    combiner = Combiner(CombinerName(settings.name), reducer, models, settings.data_dir, limits)
    server, checks = new_server(), health.aio.HealthServicer()
    server.add_generic_rpc_handlers(handlers(combiner))
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    try:
        port = server.add_insecure_port(f"{settings.host}:{settings.port}")
    except RuntimeError:
        raise InvalidConfig("port", f"{settings.host}:{settings.port} can't be used",
                            "stop what listens there, or give another --port") from None  # fmt: skip
    if not settings.advertise and settings.host in EVERYWHERE:
        problem = f"is missing, and nobody can reach {settings.host}"
        raise InvalidConfig("advertise", problem, "give the host:port that others are to use")
    address = settings.advertise or f"{settings.host}:{port}"
    me = Registration(PROTOCOL_VERSION, combiner.name, address, combiner.incarnation)
    try:
        await server.start()
        await checks.set("", health_pb2.HealthCheckResponse.SERVING)
        log.info("combiner is up at %s", address, extra={"combiner": combiner.name})
        await first_of(stop, keep_registered(reducer, me))
    finally:
        await checks.enter_graceful_shutdown()
        await combiner.close()
        await server.stop(STOP_SECONDS)
        await reducer.close()
