"""`fedn combiner`: settings to a running combiner (`fedn.combiner.app`), and emptying one that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fedn.cli import screen
from fedn.cli.options import Where, json_option, remote, settings_options
from fedn.cli.start import prepare
from fedn.config import CombinerSettings
from fedn.domain.ids import check_id


@click.group(name="combiner")
def combiner() -> None:
    """Start a combiner, the middle tier: takes its clients' updates and folds them. Or empty one that runs.

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


@combiner.command()
@click.argument("name")
@remote
def drain(name: str, at: Where, as_json: bool) -> None:
    """Empty a combiner before it is stopped: no more clients are sent there, and its own go elsewhere.

    Rounds go on, and nobody trains twice. It stays so, also when it or the reducer starts again, until
    `fedn combiner undrain`. Refused while no other combiner is live. `fedn status` shows how many clients
    are still there.

    Example: fedn combiner drain combiner-2
    """
    shown = _ask(at, name, "drain")
    if as_json:
        screen.put_json(shown)
        return
    count = screen.counted(shown["clients"], "client")
    click.echo(f"Combiner {name} drains; {count} still there. `fedn status` shows when it is empty.")


@combiner.command()
@click.argument("name")
@remote
def undrain(name: str, at: Where, as_json: bool) -> None:
    """Let a combiner that drains have clients again; those that left it stay where they are.

    Example: fedn combiner undrain combiner-2
    """
    shown = _ask(at, name, "undrain")
    if as_json:
        screen.put_json(shown)
    else:
        click.echo(f"Combiner {name} takes clients again.")


def _ask(at: Where, name: str, what: str) -> dict[str, Any]:
    """The combiner as it is then, with the number of its clients."""
    from fedn.cli.rest_client import connect

    check_id("combiner", name)  # it becomes part of a path
    with connect(at) as reducer:
        shown: dict[str, Any] = reducer.post(f"/combiners/{name}/{what}")
    return shown | {"clients": len(shown["clients"])}
