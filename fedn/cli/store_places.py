"""Commands that work on the stores themselves: where these are, how they are opened, how far a command is."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedn.cli import screen
from fedn.cli.options import json_option
from fedn.domain.errors import InvalidInput, NotFound
from fedn.domain.identity import AuditNote

if TYPE_CHECKING:
    from fedn.ports import ModelStore, StateStore
    from fedn.stores.naming import Told

TO = "FEDN_TO_"
"""What the variables with the passwords and keys of a copy's target begin with, instead of FEDN_."""
FILE = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Places:
    """URLs of the two stores of a network."""

    state: str
    models: str


def on_stores(command: Callable[..., Any]) -> Callable[..., Any]:
    """For a command that opens stores: --json, and where they are, as ``places: Places``."""

    @wraps(command)
    def placed(*, settings: Path | None, state: str | None, models: str | None, **given: Any) -> Any:
        return command(places=places_of(settings, state, models), **given)

    for option in (
        click.option("--models", metavar="URL", help="Model store, instead of that of the settings."),
        click.option("--state", metavar="URL", help="State store, instead of that of the settings."),
        click.option(
            "-c", "--config", "settings", type=FILE,
            help="Settings file of the reducer whose stores these are; else its environment and defaults.",
        ),
    ):  # fmt: skip
        placed = option(placed)
    return json_option(placed)


def places_of(
    settings: Path | None, state: str | None, models: str | None, side: str = "",
    environ: Mapping[str, str] = os.environ,
) -> Places:  # fmt: skip
    """Where the stores are: as given, else as the reducer would find them; ``side`` begins the flags."""
    flags = f"--{side}state", f"--{side}models"
    given = dict(zip(flags, (state, models), strict=True))
    if all(url is None for url in given.values()):
        from fedn.config import ReducerSettings, load

        loaded = load(ReducerSettings, settings, environ=environ)
        found = Places(loaded.state_store, loaded.model_store)
    elif state is None or models is None:
        raise InvalidInput(flags[0], f"goes with {flags[1]}", "give both, or none to use the settings'")
    else:
        found = Places(state, models)
        check_places(given)
    return found


def check_places(given: dict[str, str | None]) -> None:
    """Refuse what is no place for a command, and passwords, which others could see."""
    from fedn.domain.urls import holds_secret

    for flag, url in given.items():
        if url is not None and holds_secret(url):
            variable = "S3_SECRET_KEY_FILE" if url.startswith("s3:") else "MONGO_PASSWORD_FILE"
            raise InvalidInput(
                flag, "holds a password, which other users can see among the arguments of a process",
                f"leave it out, and set {TO if flag.startswith('--to-') else 'FEDN_'}{variable}",
            )  # fmt: skip


def of_target(environ: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """The environment for a copy's target: its own login and keys, where there are any.

    Those of one kind come all from one side: a target with a password of its own has its user, too.
    """
    found = dict(environ)
    for kind in ("MONGO_", "S3_"):
        own = {name: value for name, value in environ.items() if name.startswith(TO + kind)}
        if any(own.values()):
            found = {name: value for name, value in found.items() if not name.startswith("FEDN_" + kind)}
            found |= {"FEDN_" + name.removeprefix(TO): value for name, value in own.items()}
    return found


def place(url: str) -> str:
    """What tells a store from another: a path in full, however it was written; else the address."""
    for scheme in ("sqlite:///", "file://", "file:"):
        if url.startswith(scheme):
            return str(Path(url.removeprefix(scheme)).resolve())
    return url


def check_kept(places: Places) -> None:
    """Refuse stores that are gone with their process; raises InvalidInput."""
    for name, url in (("--state", places.state), ("--models", places.models)):
        if url == "memory://":
            raise InvalidInput(name, "memory:// is gone with its process", "name the stores of a reducer")


@contextmanager
def opened(
    places: Places, *, write: bool, create: bool = False, environ: Mapping[str, str] = os.environ
) -> Iterator[tuple[StateStore, ModelStore]]:
    """Both stores. What is not there is not made by mistake: raises NotFound unless it is to ``create``."""
    from fedn.stores import open_models, open_state

    check_kept(places)
    if not create:
        try:
            open_state(places.state, read_only=True, current=write).close()
            open_models(places.models, read_only=True).close()
        except NotFound as error:
            where = "say where they are: with -c settings-reducer.yaml, or with --state and --models"
            raise NotFound(f"{error.message}; {where}") from None
    with (
        closing(open_state(places.state, read_only=not write, environ=environ)) as state,
        closing(open_models(places.models, read_only=not write, environ=environ)) as models,
    ):
        yield state, models


@contextmanager
def bars(as_json: bool) -> Iterator[Told]:
    """A bar for everything that is told of, on stderr; silent where nobody watches."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from fedn.sdk.terminal import console, watched

    at = console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=at, disable=as_json or not watched(at)) as drawn:
        tasks: dict[str, Any] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = drawn.add_task(screen.clean(what), total=total)
            drawn.update(tasks[what], completed=done, total=total)

        yield told


def noted(event: str, subject: str, **details: str | int) -> AuditNote:
    """What the audit log is to say of somebody who worked on the stores themselves."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return AuditNote(time.time(), f"stores:{user}", event, subject, details)
