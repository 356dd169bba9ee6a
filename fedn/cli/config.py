"""`fedn config`: check a settings file, and show every setting with where its value comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from fedn.cli import screen
from fedn.cli.options import json_option
from fedn.domain.errors import InvalidConfig

KINDS = click.Choice(["reducer", "combiner", "client"])
FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def config() -> None:
    """Check a settings file; show every setting and where its value comes from.

    Example: fedn config check settings-reducer.yaml
    """


@config.command()
@click.argument("file", type=FILE)
@click.option("--kind", type=KINDS, help="Whose settings these are; without it the file's name tells.")
@json_option
def check(file: Path, kind: str | None, as_json: bool) -> None:
    """Check a settings file as `start` would read it, environment included. Exit code 2 if it is wrong.

    \b
    Examples:
      fedn config check settings-reducer.yaml
      fedn config check mine.yaml --kind client
    """
    from fedn.config import TIERS, load

    tier = kind or guess(file)
    settings = load(TIERS[tier], file)
    if as_json:
        screen.put_json({"file": str(file), "kind": tier, "ok": True, "settings": settings.as_dict()})
    else:
        click.echo(f"{file} is good: settings of a {tier}.")


def guess(file: Path) -> str:
    """The tier that a file's name tells of."""
    found = [tier for tier in KINDS.choices if tier in file.name.lower()]
    if len(found) != 1:
        problem = "does not tell by its name whose settings it holds"
        raise InvalidConfig(str(file), problem, "add --kind reducer, combiner or client")
    return str(found[0])


@config.command()
@click.argument("kind", type=KINDS)
@click.option("-c", "--config", "file", type=FILE, help="Settings file to read first.")
@json_option
def show(kind: str, file: Path | None, as_json: bool) -> None:
    """Show every setting of a tier: its value, where that comes from, and what it means.

    \b
    Examples:
      fedn config show reducer
      fedn config show client -c settings-client.yaml --json
    """
    from fedn.config import TIERS, gather, load

    settings = load(TIERS[kind], file)
    given = gather(TIERS[kind], file, {}, os.environ)
    values: dict[str, Any] = settings.as_dict()
    rows = [
        {
            "name": name,
            "value": values[name],
            "from": given[name].where if name in given else "default",
            "doc": field.description,
            "environment": f"FEDN_{kind.upper()}_{name.upper()}",
        }
        for name, field in TIERS[kind].model_fields.items()
    ]
    if as_json:
        screen.put_json({"kind": kind, "settings": rows})
        return
    columns = ("Setting", "Value", "From", "Meaning")
    screen.table(columns, [(r["name"], r["value"], r["from"], r["doc"]) for r in rows], "")
    screen.note(
        f"Each may be set in a file, by FEDN_{kind.upper()}_<NAME>, or by a flag of `fedn {kind} start`."
    )
