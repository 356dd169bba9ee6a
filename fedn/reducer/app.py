"""Builds a reducer from its settings, runs it, closes it. The only place that knows every piece."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fedn import logs
from fedn.config import ReducerSettings
from fedn.domain.errors import InvalidConfig
from fedn.identity.network_dir import NetworkDir
from fedn.ports import ModelStore, StateStore
from fedn.reducer.auditing import Auditor
from fedn.reducer.events import EventHub
from fedn.reducer.federation import Limits, Reducer, believed
from fedn.reducer.links import GrpcCombinerControl
from fedn.reducer.observing import Background, Everybody, open_exporters
from fedn.reducer.registrar import Registrar, known_as
from fedn.reducer.rest import create_app
from fedn.reducer.retelling import Past
from fedn.reducer.service import ReducerService
from fedn.reducer.web import Web, names_in
from fedn.running import first_of, run_until_signalled
from fedn.stores import open_models, open_state

log = logging.getLogger("fedn.reducer")

FLUSH_SECONDS = 15.0
"""Between looks for refusals that the audit log has to count."""


def run(settings: ReducerSettings) -> None:
    """Run a reducer until SIGINT or SIGTERM. Raises InvalidConfig, Damaged, StoreUnavailable."""
    if settings.insecure:
        logs.warn_insecure("reducer", settings.host)
    elif not settings.network_dir:
        logs.tell_plain("reducer", settings.host)
    run_until_signalled(lambda stop: serve(settings, stop))


async def serve(settings: ReducerSettings, stop: asyncio.Event) -> None:
    """Open network and stores, start the control loop and the web server; close all when ``stop`` is set."""
    network = NetworkDir.open(Path(settings.network_dir)) if settings.network_dir else None
    state, models = open_state(settings.state_store), open_models(settings.model_store)
    try:
        await _serve(settings, network, state, models, stop)
    finally:
        models.close()
        state.close()


async def _serve(
    settings: ReducerSettings, network: NetworkDir | None, state: StateStore, models: ModelStore,
    stop: asyncio.Event,
) -> None:  # fmt: skip
    hub = EventHub(streams=settings.event_streams)
    limits = Limits(settings.combiner_grace, settings.client_grace)
    wallet = network.wallet if network else None
    dial = partial(GrpcCombinerControl, wallet=wallet)
    whom = partial(known_as, state.identity) if network else believed
    exporters = open_exporters(settings.observers)
    reducer = Reducer(state, models, dial, Everybody(hub, *exporters), limits, whom)
    service = ReducerService(reducer, asyncio.get_running_loop(), hub,
                             settings.max_model_bytes, settings.command_queue)  # fmt: skip
    registrar = _registrar(settings, network, service) if network else None
    hosts = (*network.hosts, *names_in(settings.https_certificate)) if network else ()
    web = Web(create_app(service, settings, registrar, hosts), settings, wallet)
    try:
        _catch_up(exporters, state)
        await reducer.start()
        web.start()
        log.info("reducer is up at %s://%s:%s", "https" if network else "http", settings.host, web.port)
        await first_of(stop, _deposed(reducer), *_keeping(network, registrar))
    finally:
        hub.close()
        await asyncio.to_thread(web.stop)
        await reducer.close()
        await asyncio.gather(*(asyncio.to_thread(exporter.close) for exporter in exporters))
        if registrar:
            await asyncio.to_thread(registrar.auditor.flush, True)


def _catch_up(exporters: Sequence[Background], state: StateStore) -> None:
    """The port is ours by now: no other reducer of this place tells them, too."""
    if exporters:
        past = Past(state)
        for exporter in exporters:
            exporter.catch_up(past)


def _registrar(settings: ReducerSettings, network: NetworkDir, service: ReducerService) -> Registrar:
    network.wallet.on_change(lambda _: service.redial())
    return Registrar(
        service.state.identity, network.authority, Auditor(service.state.identity), name=network.name,
        admin=network.admin, certificate_seconds=settings.certificate_hours * 3600,
        on_revoked=service.put_out,
    )  # fmt: skip


def _keeping(network: NetworkDir | None, registrar: Registrar | None) -> Iterator[Coroutine[Any, Any, None]]:
    if network and registrar:
        yield network.keep_renewed()
        yield _flushed(registrar.auditor)


async def _flushed(auditor: Auditor) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        await asyncio.to_thread(auditor.flush)


async def _deposed(reducer: Reducer) -> None:
    await reducer.deposed.wait()
    raise InvalidConfig("state_store", "another reducer has taken over this network", "stop one of the two")
