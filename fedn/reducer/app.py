"""Builds a reducer from its settings, runs it, closes it. The only place that knows every piece."""

from __future__ import annotations

import asyncio
import logging
import threading

from cheroot.wsgi import Server
from flask import Flask

from fedn import logs
from fedn.config import ReducerSettings
from fedn.domain.errors import InvalidConfig
from fedn.reducer.events import EventHub
from fedn.reducer.federation import Limits, Reducer
from fedn.reducer.links import GrpcCombinerControl
from fedn.reducer.rest import create_app
from fedn.reducer.service import ReducerService
from fedn.running import first_of, run_until_signalled
from fedn.stores import open_models, open_state

log = logging.getLogger("fedn.reducer")


def run(settings: ReducerSettings) -> None:
    """Run a reducer until SIGINT or SIGTERM. Raises InvalidConfig, StoreUnavailable."""
    if settings.insecure_listen_beyond_loopback:
        logs.warn_insecure("reducer", settings.host)
    run_until_signalled(lambda stop: serve(settings, stop))


async def serve(settings: ReducerSettings, stop: asyncio.Event) -> None:
    """Open the stores, start the control loop and the web server, and close all when ``stop`` is set."""
    state, models = open_state(settings.state_store), open_models(settings.model_store)
    hub = EventHub(streams=settings.event_streams)
    limits = Limits(settings.combiner_grace, settings.client_grace)
    reducer = Reducer(state, models, GrpcCombinerControl, hub, limits)
    service = ReducerService(reducer, asyncio.get_running_loop(), hub,
                             settings.max_model_bytes, settings.command_queue)  # fmt: skip
    try:
        web = Web(create_app(service, settings), settings)
        try:
            await reducer.start()
            web.start()
            log.info("reducer is up at http://%s:%s", settings.host, web.port)
            await first_of(stop, _deposed(reducer))
        finally:
            hub.close()
            await asyncio.to_thread(web.stop)
            await reducer.close()
    finally:
        models.close()
        state.close()


async def _deposed(reducer: Reducer) -> None:
    await reducer.deposed.wait()
    raise InvalidConfig("state_store", "another reducer has taken over this network", "stop one of the two")


class Web:
    """The web server in its own threads. Raises InvalidConfig when the port is taken.

    The port is taken first of all: a second reducer started by mistake must fail before it takes the
    next term from the first. Requests are answered from `start` on; until then they queue.
    """

    def __init__(self, app: Flask, settings: ReducerSettings) -> None:
        where = (settings.host, settings.port)
        self._server = Server(where, app, numthreads=settings.http_threads, server_name="fedn")
        self._server.request_queue_size = 128
        self._server.shutdown_timeout = 2
        self._server.timeout = 30
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
