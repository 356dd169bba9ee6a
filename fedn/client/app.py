"""Builds a client from its settings, runs it, closes it."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import closing
from pathlib import Path

from fedn import logs
from fedn.client import confine, confinement
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
from fedn.client.unseen import Unseen
from fedn.config import INSECURE_FLAG, ClientSettings
from fedn.domain.errors import InvalidConfig, Revoked
from fedn.domain.hours import parse_hours
from fedn.domain.identity import Role
from fedn.domain.ids import ClientId, CombinerName
from fedn.domain.messages import ClientInfo
from fedn.domain.slots import numbered
from fedn.helpers.host import this_host
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


class Resting:
    """Implements ports.Observer: while the client is away its trainer keeps nothing that takes memory."""

    def __init__(self, trainer: AppTrainer | PackageTrainer) -> None:
        self._trainer = trainer

    def observe(self, observed: Observed) -> None:
        if observed.event in {"away", "back"}:
            self._trainer.rest(observed.event == "away")


def run(settings: ClientSettings, file: Path | None = None) -> None:
    """Run a client until SIGINT or SIGTERM. ``file`` is where its settings were read from, if from one.

    Raises InvalidConfig, InvalidInput (the app), Conflict, Unauthenticated, Revoked.
    """
    if not (settings.app or settings.data):
        remedy = "give --app module:factory, your code that trains, or --data to run compute packages"
        raise InvalidConfig("app", "is missing", remedy)
    if settings.insecure:
        logs.warn_plain("client", settings.reducer)
    if settings.data and settings.confinement != confinement.NONE:
        check_apart(settings, file)
    state = claim(settings.state_dir, settings.name)
    settings = settings.model_copy(update={"data": numbered(settings.data, state.slot)})
    try:
        limit_cpus(settings.cpus, state.client)
        with closing(Ledger(state.ledger, settings.ledger_files)) as ledger:
            _run(settings, state, ledger, file)
    except Revoked as error:
        remedy = f"to come back, remove {state.path} (or give another --name) and join with a new token"
        raise Revoked(f"{error.message}; {remedy}") from None
    finally:
        state.release()


def _run(settings: ClientSettings, state: StateDir, ledger: Ledger, file: Path | None) -> None:
    observer = LogObserver()
    trainer = _trainer(settings, state, observer, Unseen(ledger), file)
    told = Both(observer, Resting(trainer))
    try:
        run_until_signalled(lambda stop: serve(settings, state, ledger, trainer, stop, told))
    finally:
        trainer.close()


def check_apart(settings: ClientSettings, file: Path | None) -> None:
    """Raise InvalidConfig if what is the client's own lies in what its packages read."""
    secrets = {"state_dir": settings.state_dir}
    if settings.join_file:
        secrets["join_file"] = Path(settings.join_file)
    if file:
        secrets["its settings"] = file
    for data in (settings.data, os.environ.get("FEDN_DATA_DIR", "")):
        confinement.check_apart(data, secrets)


def _trainer(
    settings: ClientSettings, state: StateDir, observer: Observer, unseen: Unseen, file: Path | None
) -> AppTrainer | PackageTrainer:
    predictions = Path(settings.predictions) if settings.predictions else state.path / "predictions"
    if not settings.app:
        confine.hide()  # from what packages start
        return package_trainer(settings, state.client, state.path, predictions, observer, file, unseen)
    limit_memory(settings.memory)
    app = load_app(settings.app, settings.app_options)
    return AppTrainer(app, state.client, settings.hyperparameters, settings.share_errors, predictions)


def package_trainer(
    settings: ClientSettings, client: ClientId, home: Path, predictions: Path, observer: Observer,
    file: Path | None = None, unseen: Unseen | None = None,
) -> PackageTrainer:  # fmt: skip
    """What runs packages as ``settings`` say, with its folders in ``home``. To be closed.

    Without ``unseen`` no ledger is kept of what begins there.
    """
    path = Path(settings.data).expanduser()
    rules = Rules(
        data=str(path.absolute()) if is_path(str(path)) else settings.data,
        allow=frozenset(settings.allow), hyperparameters=settings.hyperparameters,
        environments=settings.environments, confinement=settings.confinement, memory=settings.memory,
        worker_memory=settings.worker_memory, worker_idle=settings.worker_idle,
        task_timeout=settings.task_timeout,
        share_errors=settings.share_errors,
    )  # fmt: skip
    state = settings.state_dir.resolve()
    own = (settings.join_file, file)
    hidden = (state, home.resolve(), *(Path(path).resolve() for path in own if path))
    # No client has a name that begins with a dot; all of this machine share what was installed once.
    places = Places(home.absolute(), state / ".environments", predictions.absolute(), hidden)
    return PackageTrainer(client, places, rules, observer, unseen)


async def serve(
    settings: ClientSettings, state: StateDir, ledger: Ledger, trainer: Trainer, stop: asyncio.Event,
    observer: Observer | None = None,
) -> None:  # fmt: skip
    """Join, attach and work until ``stop`` is set. ``observer`` is told what happens, else the log."""
    with logs.Kept() as kept:
        await first_of(stop, _serve(settings, state, ledger, trainer, observer or LogObserver(), kept))


async def _serve(
    settings: ClientSettings, state: StateDir, ledger: Ledger, trainer: Trainer, observer: Observer,
    kept_log: logs.Kept,
) -> None:  # fmt: skip
    notes = Notes(ledger, settings.reducer)
    hours = parse_hours("hours", settings.hours)
    allowed = Allowed(settings.sessions, settings.allow, hours, settings.leave_within)
    confined = confinement.words(settings.confinement, confine.landlock()) if settings.data else ""
    observer = Both(observer, Standing(state.standing, settings.as_dict() | {"confinement": confined}))
    me = Applicant(Role.CLIENT, state.client, state.name, state.identity)
    member = await enter(settings.reducer, settings.token, me, settings.ca_bundle, notes.identity_asked)
    wallet = member.wallet if member else None
    reducer = HttpReducer(settings.reducer, wallet, settings.ca_bundle)
    kept = state.kept if settings.keep_updates else None
    host = this_host("app" if settings.app else "packages")
    client = Client(
        ClientInfo(state.client, state.name, host), reducer, Dial(wallet, settings.insecure),
        trainer, FileJournal(state.journal, settings.journal_bytes, kept),
        file_cache(state.models, settings.cache_models, IN_MEMORY_BYTES), observer,
        settings.combiner, ready=member.fresh if member else None,
        owner=Owner(allowed, state.paused), notes=notes,
        log_lines=kept_log.fresh if settings.share_log else tuple,
    )  # fmt: skip
    log.info("client is up", extra={"client": state.client})
    try:
        await first_of(asyncio.Event(), client.run(), *([member.keep()] if member else []))
    finally:
        await client.close()
        await reducer.close()
