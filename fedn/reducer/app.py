"""Builds a reducer from its settings, runs it, closes it. The only place that knows every piece."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from fedn import logs
from fedn.config import ReducerSettings
from fedn.domain.errors import StoreUnavailable
from fedn.domain.identity import Member
from fedn.identity.network_dir import NetworkDir
from fedn.ports import ModelStore, Observed, StateStore
from fedn.reducer.auditing import Auditor
from fedn.reducer.event_keeping import STOPPED, EventKeeper, last_number
from fedn.reducer.events import EventHub
from fedn.reducer.federation import Limits, Reducer, believed
from fedn.reducer.leading import Leader, deposed, opened, unless_stopped
from fedn.reducer.links import GrpcCombinerControl
from fedn.reducer.observing import Background, Everybody, open_exporters
from fedn.reducer.registrar import Registrar
from fedn.reducer.rest import create_app
from fedn.reducer.retelling import Past
from fedn.reducer.roll import Roll
from fedn.reducer.service import ReducerService
from fedn.reducer.standby_sign import StandbySign
from fedn.reducer.web import Web, names_in
from fedn.running import first_of, run_until_signalled
from fedn.stores import open_models, open_state

log = logging.getLogger("fedn.reducer")

FLUSH_SECONDS = 15.0
"""Between looks for refusals that the audit log has to count."""
ROLL_SECONDS = 60.0
"""Between readings of who is in the network."""


def run(settings: ReducerSettings) -> None:
    """Run a reducer until SIGINT or SIGTERM. Raises InvalidConfig, Damaged, StoreUnavailable, StaleTerm."""
    if settings.insecure:
        logs.warn_insecure("reducer", settings.host)
    elif not settings.network_dir:
        logs.tell_plain("reducer", settings.host)
    run_until_signalled(lambda stop: serve(settings, stop))


async def serve(settings: ReducerSettings, stop: asyncio.Event) -> None:
    """Open network and stores, lead once nobody else does, and serve; close all when ``stop`` is set."""
    network = NetworkDir.open(Path(settings.network_dir)) if settings.network_dir else None
    async with AsyncExitStack() as stack:
        state = await unless_stopped(stop, opened("state store", open_state, settings.state_store))
        if state is None:
            return
        stack.callback(state.close)
        models = await unless_stopped(stop, opened("model store", open_models, settings.model_store))
        if models is None:
            return
        stack.callback(models.close)
        leader = Leader(state.leadership, settings.lease_seconds, StandbySign(settings.standby_file))
        stack.push_async_callback(leader.give_up)
        if term := await unless_stopped(stop, leader.take()):
            keeping = asyncio.create_task(leader.keep())  # from now on: to start may take longer than a lease
            stack.callback(keeping.cancel)
            await _serve(settings, network, state, models, keeping, term, stop)


async def _serve(
    settings: ReducerSettings, network: NetworkDir | None, state: StateStore, models: ModelStore,
    keeping: asyncio.Task[None], term: int, stop: asyncio.Event,
) -> None:  # fmt: skip
    keeper = EventKeeper(state, term, settings.events_kept)
    begin = await asyncio.to_thread(last_number, state, term)
    hub = EventHub(streams=settings.event_streams, begin=begin, keep=keeper.keep)
    limits = Limits(settings.combiner_grace, settings.client_grace)
    wallet = network.wallet if network else None
    dial = partial(GrpcCombinerControl, wallet=wallet)
    roll = Roll()
    exporters = await asyncio.to_thread(open_exporters, settings.observers)
    reducer = Reducer(state, models, dial, Everybody(hub, *exporters), limits,
                      roll.known_as if network else believed)  # fmt: skip
    service = ReducerService(reducer, asyncio.get_running_loop(), hub,
                             settings.max_model_bytes, settings.command_queue)  # fmt: skip
    registrar = await asyncio.to_thread(_registrar, settings, network, service, roll) if network else None
    hosts = (*network.hosts, *names_in(settings.https_certificate)) if network else ()
    web = Web(create_app(service, settings, registrar, hosts), settings, wallet)
    try:
        _catch_up(exporters, state)
        await reducer.start(term)
        web.start()
        log.info("reducer is up at %s://%s:%s", "https" if network else "http", settings.host, web.port)
        await first_of(stop, _ended(keeping), _deposed(reducer), *_keeping(network, registrar, roll))
    finally:
        hub.close()
        await asyncio.to_thread(web.stop)
        await reducer.close()
        hub.observe(Observed(STOPPED, {"term": term}))
        await asyncio.to_thread(keeper.close)
        await asyncio.gather(*(asyncio.to_thread(exporter.close) for exporter in exporters))
        if registrar:
            await asyncio.to_thread(registrar.auditor.flush, True)


async def _ended(task: asyncio.Task[None]) -> None:
    await task


def _catch_up(exporters: Sequence[Background], state: StateStore) -> None:
    """The port is ours by now: no other reducer of this place tells them, too."""
    if exporters:
        past = Past(state)
        for exporter in exporters:
            exporter.catch_up(past)


def _registrar(
    settings: ReducerSettings, network: NetworkDir, service: ReducerService, roll: Roll
) -> Registrar:
    def put_out(member: Member) -> None:
        roll.note(member)
        service.put_out(member)

    roll.read(service.state.identity)
    registrar = Registrar(
        service.state.identity, network.authority, Auditor(service.state.identity), name=network.name,
        admin=network.admin, certificate_seconds=settings.certificate_hours * 3600,
        on_joined=roll.note, on_revoked=put_out,
    )  # fmt: skip
    network.wallet.on_change(lambda _: service.redial())
    return registrar


def _keeping(
    network: NetworkDir | None, registrar: Registrar | None, roll: Roll
) -> Iterator[Coroutine[Any, Any, None]]:
    if network and registrar:
        yield network.keep_renewed()
        yield _read_again(roll, registrar)
        yield _flushed(registrar.auditor)


async def _flushed(auditor: Auditor) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        await asyncio.to_thread(auditor.flush)


async def _read_again(roll: Roll, registrar: Registrar) -> None:
    """What was changed behind the reducer's back, as by `fedn store forget-client`."""
    while True:
        await asyncio.sleep(ROLL_SECONDS)
        with suppress(StoreUnavailable):
            await asyncio.to_thread(roll.read, registrar.store)


async def _deposed(reducer: Reducer) -> None:
    await reducer.deposed.wait()
    raise deposed("a combiner has heard of it")
