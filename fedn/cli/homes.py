"""Options of the commands that work on a client's folder on this machine, without a network or a token."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedn.cli.options import json_option

if TYPE_CHECKING:
    from fedn.client.state_dir import Home


def local(command: Callable[..., Any]) -> Callable[..., Any]:
    """For a command on clients of this machine: --json, and which are meant, as ``which: Which``."""

    @wraps(command)
    def asked(*, settings_file: Path | None, state_dir: Path | None, name: str | None, **given: Any) -> Any:
        return command(which=Which(settings_file, state_dir, name), **given)

    for option in (
        click.option("--name", metavar="NAME", help="Name of the client, if there are several."),
        click.option(
            "--state-dir", type=click.Path(path_type=Path), metavar="DIR", envvar="FEDN_CLIENT_STATE_DIR",
            show_envvar=True, help="Folder of the clients, as they were started with.",
        ),
        click.option(
            "-c", "--config", "settings_file", type=click.Path(path_type=Path, dir_okay=False),
            help="Settings file that says both, such as settings-client.yaml.",
        ),
    ):  # fmt: skip
        asked = option(asked)
    return json_option(asked)


@contextmanager
def leaving_nothing(folder: Path) -> Iterator[None]:
    """A refused start leaves no folder behind that it made, unless something has left the machine already."""
    from fedn.client.state_dir import homes
    from fedn.domain.errors import FednError

    before = set(folder.iterdir()) if folder.is_dir() else set()
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except FednError:
        for home in homes(folder):
            if home.path not in before:
                _remove_unused(home.path)
        with suppress(OSError):  # others may have put something there meanwhile
            for path in missing:
                path.rmdir()
        raise


def _remove_unused(path: Path) -> None:
    """Nobody else has it, and nothing is in it that is worth keeping: no update, key or line of a ledger."""
    from fedn.client.state_dir import claim
    from fedn.domain.errors import FednError

    with suppress(FednError):  # another client has taken it meanwhile
        held = claim(path.parent, path.name)
        if not any(_holds(kept) for kept in (held.journal, held.identity, held.ledger, held.kept)):
            shutil.rmtree(path, ignore_errors=True)
        held.release()


def _holds(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


class Which:
    """Which clients are meant, by flags, environment and settings file."""

    def __init__(self, file: Path | None, state_dir: Path | None, name: str | None) -> None:
        from fedn.config import ClientSettings, gather
        from fedn.domain.slots import SLOT

        flags = {key: value for key, value in (("state_dir", state_dir), ("name", name)) if value is not None}
        given = gather(ClientSettings, file, flags, {})
        default = ClientSettings.model_fields["state_dir"].default
        self.folder = Path(str(given["state_dir"].value) if "state_dir" in given else default)
        said = str(given["name"].value) if "name" in given else ""
        self.name = "" if SLOT in said else said  # of which there may be several

    def one(self) -> Home:
        """The client that is meant. Raises NotFound, and InvalidInput if it could be several."""
        from fedn.client.state_dir import home

        return home(self.folder, self.name)

    def all(self) -> list[Home]:
        """The client that is meant, or without a name every one. Raises NotFound if there is none."""
        from fedn.client.state_dir import homes

        return (homes(self.folder) if not self.name else []) or [self.one()]
