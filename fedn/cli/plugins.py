"""`fedn plugins`: the names that a plan or an app can use, and what is behind them."""

from __future__ import annotations

import click

from fedn.cli import screen
from fedn.cli.options import json_option


@click.command()
@json_option
def plugins(as_json: bool) -> None:
    """List aggregators, server optimizers, helpers and client selectors.

    A package adds its own by an entry point in the group shown; nothing is imported for this listing.

    Example: fedn plugins
    """
    from fedn.plugins import available

    found = available()
    if as_json:
        screen.put_json(found)
        return
    rows = [(group, name, target) for group, names in found.items() for name, target in names.items()]
    screen.table(("Group", "Name", "Behind it"), rows, "None is registered; install this project again.")
