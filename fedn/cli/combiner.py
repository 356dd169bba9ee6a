"""`fedn combiner start`: settings to a running combiner (`fedn.combiner.app`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fedn.cli.options import json_option, settings_options
from fedn.cli.start import prepare
from fedn.config import CombinerSettings


@click.group(name="combiner")
def combiner() -> None:
    """Start a combiner, the middle tier: takes its clients' updates and folds them.

    Example: fedn combiner start
    """


@combiner.command()
@settings_options(CombinerSettings)
@json_option
def start(settings_file: Path | None, as_json: bool, **given: Any) -> None:
    """Start a combiner, the middle tier: takes its clients' updates and folds them.

    Runs until Ctrl-C. A flag beats the environment (FEDN_COMBINER_…), which beats the file. With --json the
    log is one JSON object per line.

    \b
    Examples:
      fedn combiner start
      fedn combiner start -c settings-combiner.yaml --name combiner-2 --port 12081 \\
          --data-dir fedn-data/combiner-2
    """
    settings = prepare(CombinerSettings, settings_file, given, as_json)
    from fedn.combiner.app import run

    run(settings)
