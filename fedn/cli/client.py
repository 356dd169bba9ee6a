"""`fedn client start`: settings to a running client (`fedn.client.app`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fedn.cli.options import json_option, settings_options
from fedn.cli.start import prepare
from fedn.config import ClientSettings
from fedn.domain.errors import InvalidConfig


@click.group(name="client")
def client() -> None:
    """Start a client: trains on data that stays beside it, and opens no port.

    Example: fedn client start
    """


@client.command()
@settings_options(ClientSettings)
@json_option
def start(settings_file: Path | None, as_json: bool, **given: Any) -> None:
    """Start a client: trains on data that stays beside it, and opens no port.

    Runs until Ctrl-C. A flag beats the environment (FEDN_CLIENT_…), which beats the file. With --json the
    log is one JSON object per line.

    \b
    Examples:
      fedn client start --app my_module:make_app
      fedn client start -c settings-client.yaml --app train.py:make_app --app-options index=3
    """
    settings = prepare(ClientSettings, settings_file, given, as_json)
    if not settings.app:
        raise InvalidConfig("app", "is missing", "give your code as --app module:factory")
    from fedn.client.app import run

    run(settings)
