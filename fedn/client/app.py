"""Builds a client from its settings, runs it, closes it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from fedn import logs
from fedn.client import confine
from fedn.client.apps import load_app
from fedn.client.driver import Client
from fedn.client.journal import FileJournal
from fedn.client.ledger import Ledger
from fedn.client.limits import limit_cpus, limit_memory
from fedn.client.links import GrpcCombiner
from fedn.client.noting import Notes
from fedn.client.owner import Allowed, Owner
from fedn.client.packages import PackageTrainer, Places, Rules
from fedn.client.standing import Both, Standing
from fedn.client.state_dir import StateDir, claim
from fedn.client.surroundings import is_path
from fedn.client.trainer import AppTrainer
from fedn.config import INSECURE_FLAG, ClientSettings
from fedn.domain.errors import InvalidConfig, Revoked
from fedn.domain.hours import parse_hours
from fedn.domain.identity import Role
from fedn.domain.ids import ClientId, CombinerName
from fedn.domain.messages import ClientInfo
from fedn.domain.slots import numbered
from fedn.identity.credentials import Wallet
from fedn.identity.entering import Applicant, enter
from fedn.ports import Observed, Observer, Trainer
from fedn.running import first_of, run_until_signalled
from fedn.stores.cache import file_cache
from fedn.wire.channel import is_loopback
from fedn.wire.reducer_link import HttpReducer

log = logging.getLogger("fedn.client")

IN_MEMORY_BYTES = 256 * 2**20
"""Models up to this size are cached in memory: training will hold a copy there anyway."""


class LogObserver:
    """Implements ports.Observer: what happens goes to the log."""

    def observe(self, observed: Observed) -> None:
        fields = {key: value for key, value in observed.fields.items() if value != ""}
        level = logging.DEBUG if observed.event in {"working", "worked", "settled"} else logging.INFO
        log.log(level, "%s", observed.event, extra=fields)


class Dial:
    """The way to a combiner. Without a wallet it stays on this machine, unless ``insecure`` was asked for."""

    def __init__(self, wallet: Wallet | None, insecure: bool) -> None:
        self._wallet = wallet
        self._anywhere = wallet is not None or insecure

    def __call__(self, address: str, combiner: CombinerName) -> GrpcCombiner:
        """Raises InvalidConfig where the way is open to others."""
        if not (self._anywhere or is_loopback(address)):
            problem = f"{combiner} is at {address}, another machine, and the way there is not encrypted"
            remedy = f"use a network with an identity, at https://; or give {INSECURE_FLAG}"
            raise InvalidConfig("combiner", problem, remedy)
        return GrpcCombiner(address, combiner, self._wallet)


def run(settings: ClientSettings) -> None:
    """Run a client until SIGINT or SIGTERM.

    Raises InvalidConfig, InvalidInput (the app), Conflict, Unauthenticated, Revoked.
    """
    if not (settings.app or settings.data):
        remedy = "give --app module:factory, your code that trains, or --data to run compute packages"
        raise InvalidConfig("app", "is missing", remedy)
    if settings.insecure:
        logs.warn_plain("client", settings.reducer)
    state = claim(settings.state_dir, settings.name)
    settings = settings.model_copy(update={"data": numbered(settings.data, state.slot)})
    try:
        limit_cpus(settings.cpus, state.client)
        trainer = _trainer(settings, state, LogObserver())
        try:
            run_until_signalled(lambda stop: serve(settings, state, trainer, stop))
        finally:
            trainer.close()
    except Revoked as error:
        remedy = f"to come back, remove {state.path} (or give another --name) and join with a new token"
        raise Revoked(f"{error.message}; {remedy}") from None
    finally:
        state.release()


def _trainer(settings: ClientSettings, state: StateDir, observer: Observer) -> AppTrainer | PackageTrainer:
    predictions = Path(settings.predictions) if settings.predictions else state.path / "predictions"
    if not settings.app:
        confine.hide()  # from what packages start
        return package_trainer(settings, state.client, state.path, predictions, observer)
    limit_memory(settings.memory)
    app = load_app(settings.app, settings.app_options)
    return AppTrainer(app, state.client, settings.hyperparameters, settings.share_errors, predictions)


def package_trainer(
    settings: ClientSettings, client: ClientId, home: Path, predictions: Path, observer: Observer
) -> PackageTrainer:
    """What runs packages as ``settings`` say, with its folders in ``home``. To be closed."""
    path = Path(settings.data).expanduser()
    rules = Rules(
        data=str(path.absolute()) if is_path(str(path)) else settings.data,
        allow=frozenset(settings.allow), hyperparameters=settings.hyperparameters,
        environments=settings.environments, unconfined=settings.unconfined, memory=settings.memory,
        worker_memory=settings.worker_memory, task_timeout=settings.task_timeout,
        share_errors=settings.share_errors,
    )  # fmt: skip
    state = settings.state_dir.resolve()
    hidden = (state, home.resolve(), *(Path(file).resolve() for file in [settings.join_file] if file))
    # No client has a name that begins with a dot; all of this machine share what was installed once.
    places = Places(home.absolute(), state / ".environments", predictions.absolute(), hidden)
    return PackageTrainer(client, places, rules, observer)


async def serve(
    settings: ClientSettings, state: StateDir, trainer: Trainer, stop: asyncio.Event,
    observer: Observer | None = None,
) -> None:  # fmt: skip
    """Join, attach and work until ``stop`` is set. ``observer`` is told what happens, else the log."""
    await first_of(stop, _serve(settings, state, trainer, observer or LogObserver()))


async def _serve(settings: ClientSettings, state: StateDir, trainer: Trainer, observer: Observer) -> None:
    ledger = Ledger(state.ledger, settings.ledger_files)
    notes = Notes(ledger, settings.reducer)
    hours = parse_hours("hours", settings.hours)
    allowed = Allowed(settings.sessions, settings.allow, hours, settings.leave_within)
    observer = Both(observer, Standing(state.standing, settings.as_dict()))
    me = Applicant(Role.CLIENT, state.client, state.name, state.identity)
    member = await enter(settings.reducer, settings.token, me, settings.ca_bundle, notes.identity_asked)
    wallet = member.wallet if member else None
    reducer = HttpReducer(settings.reducer, wallet, settings.ca_bundle)
    kept = state.kept if settings.keep_updates else None
    client = Client(
        ClientInfo(state.client, state.name), reducer, Dial(wallet, settings.insecure),
        trainer, FileJournal(state.journal, settings.journal_bytes, kept),
        file_cache(state.models, settings.cache_models, IN_MEMORY_BYTES), observer,
        settings.combiner, ready=member.fresh if member else None,
        owner=Owner(allowed, state.paused), notes=notes,
    )  # fmt: skip
    log.info("client is up", extra={"client": state.client})
    try:
        await first_of(asyncio.Event(), client.run(), *([member.keep()] if member else []))
    finally:
        await client.close()
        await reducer.close()
        ledger.close()
