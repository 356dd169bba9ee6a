"""Builds a client from its settings, runs it, closes it."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from fedn.client.apps import load_app
from fedn.client.driver import Client
from fedn.client.journal import FileJournal
from fedn.client.links import GrpcCombiner
from fedn.client.state_dir import StateDir, claim
from fedn.client.trainer import AppTrainer
from fedn.config import ClientSettings
from fedn.domain.errors import InvalidConfig, Revoked
from fedn.domain.identity import Role
from fedn.domain.messages import ClientInfo
from fedn.identity.entering import Applicant, enter
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
    """Run a client until SIGINT or SIGTERM.

    Raises InvalidConfig, InvalidInput (the app), Conflict, Unauthenticated, Revoked.
    """
    if not settings.app:
        raise InvalidConfig("app", "is missing", "give --app module:factory, your code that trains")
    if settings.insecure:
        log.warning("INSECURE: %s is plain HTTP. Whoever is on the way can read and change everything, and "
                    "be the network. Use it on a closed network only.", settings.reducer)  # fmt: skip
    state = claim(settings.state_dir, settings.name)
    try:
        app = load_app(settings.app, settings.app_options)
        run_until_signalled(lambda stop: serve(settings, state, app, stop))
    except Revoked as error:
        remedy = f"to come back, remove {state.path} (or give another --name) and join with a new token"
        raise Revoked(f"{error.message}; {remedy}") from None
    finally:
        state.release()


async def serve(settings: ClientSettings, state: StateDir, app: object, stop: asyncio.Event) -> None:
    """Join, attach and work, and close all when ``stop`` is set."""
    await first_of(stop, _serve(settings, state, app))


async def _serve(settings: ClientSettings, state: StateDir, app: object) -> None:
    me = Applicant(Role.CLIENT, state.client, state.name, state.identity)
    member = await enter(settings.reducer, settings.token, me, settings.ca_bundle)
    wallet = member.wallet if member else None
    reducer = HttpReducer(settings.reducer, wallet, settings.ca_bundle)
    kept = state.kept if settings.keep_updates else None
    client = Client(
        ClientInfo(state.client, state.name), reducer, partial(GrpcCombiner, wallet=wallet),
        AppTrainer(app, state.client), FileJournal(state.journal, settings.journal_bytes, kept),
        file_cache(state.models, settings.cache_models, IN_MEMORY_BYTES), LogObserver(),
        settings.combiner, ready=member.fresh if member else None,
    )  # fmt: skip
    log.info("client is up", extra={"client": state.client})
    try:
        await first_of(asyncio.Event(), client.run(), *([member.keep()] if member else []))
    finally:
        await client.close()
        await reducer.close()
