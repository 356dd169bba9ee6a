"""Builds a client from its settings, runs it, closes it."""

from __future__ import annotations

import asyncio
import logging

from fedn.client.apps import load_app
from fedn.client.driver import Client
from fedn.client.journal import FileJournal
from fedn.client.links import GrpcCombiner
from fedn.client.state_dir import StateDir, claim
from fedn.client.trainer import AppTrainer
from fedn.config import ClientSettings
from fedn.domain.errors import InvalidConfig
from fedn.domain.messages import ClientInfo
from fedn.ports import Observed
from fedn.running import first_of, run_until_signalled
from fedn.stores.cache import file_cache
from fedn.wire.reducer_link import HttpReducer

log = logging.getLogger("fedn.client")

IN_MEMORY_BYTES = 256 * 2**20
"""Models up to this size are cached in memory: training will hold a copy there anyway."""


class LogObserver:
    """Implements ports.Observer: what happens goes to the log."""

    def observe(self, observed: Observed) -> None:
        fields = {key: value for key, value in observed.fields.items() if value != ""}
        level = logging.DEBUG if observed.event in {"working", "settled"} else logging.INFO
        log.log(level, "%s", observed.event, extra=fields)


def run(settings: ClientSettings) -> None:
    """Run a client until SIGINT or SIGTERM. Raises InvalidConfig, InvalidInput (the app), Conflict."""
    if not settings.app:
        raise InvalidConfig("app", "is missing", "give --app module:factory, your code that trains")
    state = claim(settings.state_dir, settings.name)
    try:
        app = load_app(settings.app, settings.app_options)
        run_until_signalled(lambda stop: serve(settings, state, app, stop))
    finally:
        state.release()


async def serve(settings: ClientSettings, state: StateDir, app: object, stop: asyncio.Event) -> None:
    """Attach and work, and close all when ``stop`` is set."""
    reducer = HttpReducer(settings.reducer)
    kept = state.kept if settings.keep_updates else None
    client = Client(
        ClientInfo(state.client, state.name), reducer, GrpcCombiner, AppTrainer(app, state.client),
        FileJournal(state.journal, settings.journal_bytes, kept),
        file_cache(state.models, settings.cache_models, IN_MEMORY_BYTES), LogObserver(),
        settings.combiner,
    )  # fmt: skip
    log.info("client is up", extra={"client": state.client})
    try:
        await first_of(stop, client.run())
    finally:
        await client.close()
        await reducer.close()
