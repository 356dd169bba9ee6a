"""`fedn why`: what a session waits for, or why a round was slow, in one paragraph."""

from __future__ import annotations

import textwrap
from typing import Any

import click

from fedn.cli import screen
from fedn.cli.options import Where, remote

WIDTH = 100


@click.command()
@click.argument("session_id", metavar="SESSION")
@click.argument("number", metavar="[ROUND]", type=click.IntRange(min=1), required=False)
@remote
def why(session_id: str, number: int | None, at: Where, as_json: bool) -> None:
    """Say why a session waits, is slow, or ended as it did; of a committed ROUND, where its time went.

    One paragraph names the cause; below it stand what can be done, and what the reducer has recorded. SESSION
    may be any beginning or end of its id, or its name, that no other session has.

    \b
    Examples:
      fedn why 3f2a
      fedn why digits 12
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        path = f"/sessions/{reducer.session(session_id)}"
        answer = reducer.get(f"{path}/why" if number is None else f"{path}/rounds/{number}/why")
    if as_json:
        screen.put_json(answer)
    else:
        _draw(answer)


def _draw(answer: dict[str, Any]) -> None:
    cause = str(answer["cause"]).replace("_", " ")
    click.secho(screen.clean(cause[:1].upper() + cause[1:]), bold=True)
    click.echo(_wrapped(answer["text"]))
    if answer["remedy"]:
        click.echo(_wrapped(answer["remedy"], "What to do: "))
    if answer["evidence"]:
        click.echo("\nRecorded:")
        for line in answer["evidence"]:
            click.echo(_wrapped(line, "  - "))


def _wrapped(text: str, before: str = "") -> str:
    indent = " " * (len(before) if before.startswith(" ") else 0)
    return textwrap.fill(screen.clean(text), WIDTH, initial_indent=before, subsequent_indent=indent)
