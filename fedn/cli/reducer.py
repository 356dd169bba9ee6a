"""`fedn reducer start`: settings to a running reducer (`fedn.reducer.app`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fedn.cli.options import json_option, settings_options
from fedn.cli.start import prepare
from fedn.config import ReducerSettings


@click.group(name="reducer")
def reducer() -> None:
    """Start the reducer, the top tier: REST API, web UI, control loop and model trail.

    Example: fedn reducer start
    """


@reducer.command()
@settings_options(ReducerSettings)
@json_option
def start(settings_file: Path | None, as_json: bool, **given: Any) -> None:
    """Start the reducer, the top tier: REST API, web UI, control loop and model trail.

    Runs until Ctrl-C. A flag beats the environment (FEDN_REDUCER_…), which beats the file. With --json the
    log is one JSON object per line.

    \b
    Examples:
      fedn reducer start
      fedn reducer start -c settings-reducer.yaml --port 8091
      FEDN_REDUCER_PORT=8091 fedn reducer start
    """
    settings = prepare(ReducerSettings, settings_file, given, as_json)
    from fedn.reducer.app import run

    run(settings)
