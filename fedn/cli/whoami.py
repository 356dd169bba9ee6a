"""`fedn whoami`: as whom the reducer knows the holder of a token."""

from __future__ import annotations

import click

from fedn.cli import screen
from fedn.cli.options import Where, remote


@click.command()
@remote
def whoami(at: Where, as_json: bool) -> None:
    """Say who the reducer takes you for, and until when.

    Example: fedn whoami --reducer https://reducer.example.org:8090 --token-file admin.token
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        answer = reducer.get("/whoami")
    if as_json:
        screen.put_json(answer)
        return
    until = f", until {screen.moment(answer['expires_at'])}" if answer["expires_at"] else ""
    click.echo(screen.clean(f"{answer['role']} {answer['name']}{until}"))
