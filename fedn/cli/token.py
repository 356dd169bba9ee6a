"""`fedn token`: invite people and machines, see who was invited, and take it back."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from fedn.cli import screen
from fedn.cli.options import Where, confirm, read_labels, remote
from fedn.domain.errors import InvalidInput

ROLES = click.Choice(["client", "combiner", "viewer", "operator", "admin"])
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """30m, 24h or 7d as seconds."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([smhd])", value)
    if found is None or not int(found[1]):
        raise click.BadParameter(f"'{value}' is not a time; give 30m, 24h or 7d.")
    return int(found[1]) * UNITS[found[2]]


@click.group()
def token() -> None:
    """Create, list and revoke tokens: how people log in, and how combiners and clients join.

    Example: fedn token create --role client --name clinic-3 -o clinic-3.token
    """


@token.command()
@click.option("--role", type=ROLES, required=True, help="What its holder is to be.")
@click.option("--name", default="",
              help="A person's name; for a client or combiner the only name it may join by.")  # fmt: skip
@click.option("--uses", type=click.IntRange(0, 1_000_000),
              help="How many may join by it, 0 for any number. Without it 1; not for people.")  # fmt: skip
@click.option("--expires", callback=seconds, metavar="TIME",
              help="How long it can be used: 30m, 24h, 7d. Without it 24h, people's 90d.")  # fmt: skip
@click.option("--labels", multiple=True, metavar="NAME=VALUE",
              help="Words about who joins by it. Repeatable.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
              help="Write it into a new file that only you can read, instead of printing it.")  # fmt: skip
@remote
def create(
    *, role: str, name: str, uses: int | None, expires: int | None, labels: tuple[str, ...],
    output: Path | None, at: Where, as_json: bool,
) -> None:  # fmt: skip
    """Create a token. It is shown once, alone on stdout; the network keeps its sha256 only.

    Whoever holds it is let in: hand it over as you would a password.

    \b
    Examples:
      fedn token create --role client --name clinic-3 -o clinic-3.token
      fedn token create --role client --uses 20 --expires 7d --labels site=north
      fedn token create --role viewer --name ada
    """
    from fedn.cli.rest_client import connect

    wanted = {"name": name, "uses": uses, "expires_in": expires, "labels": read_labels(labels, "--labels")}
    body = {"role": role} | {key: value for key, value in wanted.items() if value not in (None, "", {})}
    with connect(at) as reducer, _written(output) as file:
        made = reducer.post("/tokens", body)
        if file is not None:
            file.write(made.pop("text") + "\n")
    if as_json:
        screen.put_json(made | ({"file": str(output)} if output else {}))
        return
    until = screen.moment(made["expires_at"])
    uses_left = f", for {screen.counted(made['uses'], 'use')}" if made["uses"] else ""
    screen.note(f"Token {made['token']} for a {made['role']}, good until {until}{uses_left}.")
    if output is None:
        click.echo(made["text"])
        screen.note("This is the only time that it is shown.")
    else:
        screen.note(f"It is in {output}.")


@contextmanager
def _written(output: Path | None) -> Iterator[IO[str] | None]:
    """A new file of its owner's alone, made before anything is asked for, gone if that fails."""
    if output is None:
        yield None
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidInput(str(output), "is there already", "give another name with -o") from None
    except OSError as error:
        raise InvalidInput(str(output), f"can't be written ({error.strerror})", "check the path") from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            yield file
    except BaseException:
        output.unlink(missing_ok=True)
        raise


@token.command("list")
@remote
def listing(at: Where, as_json: bool) -> None:
    """List tokens, newest first. Their texts are kept nowhere.

    Example: fedn token list
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        answer = reducer.get("/tokens")
    if as_json:
        screen.put_json(answer)
        return
    rows = [
        (t["token"], t["role"], t["name"], screen.labels(t["labels"]),
         f"{t['used']} of {t['uses']}" if t["uses"] else t["used"], t["created_by"], state(t))
        for t in answer["tokens"]
    ]  # fmt: skip
    columns = ("Token", "Role", "Name", "Labels", "Used", "Made by", "State")
    screen.table(columns, rows, "No token. Make one with `fedn token create`.")


def state(token: dict[str, Any]) -> str:
    """In words: revoked, used up, or until when it is good."""
    if token["revoked_at"]:
        return f"revoked {screen.moment(token['revoked_at'])}"
    if token["expires_at"] <= time.time():
        return f"expired {screen.moment(token['expires_at'])}"
    if token["uses"] and token["used"] >= token["uses"]:
        return "used up"
    return f"until {screen.moment(token['expires_at'])}"


@token.command()
@click.argument("token_id", metavar="TOKEN")
@click.option("--members", is_flag=True, help="Also revoke everybody who joined by it.")
@click.option("--yes", is_flag=True, help="Don't ask about members.")
@remote
def revoke(token_id: str, members: bool, yes: bool, at: Where, as_json: bool) -> None:
    """Revoke a token: nobody logs in or joins by it any more.

    TOKEN is its id as `fedn token list` shows it, or any beginning of it that no other has. Who joined by
    it stays, unless --members sends them away, too.

    \b
    Examples:
      fedn token revoke 3f2a90b1
      fedn token revoke 3f2a90b1 --members --yes
    """
    from fedn.cli.rest_client import connect, only

    with connect(at) as reducer:
        known = [item["token"] for item in reducer.get("/tokens")["tokens"]]
        found = only("token", token_id, known, "fedn token list")
        if members and not yes:
            confirm(f"Revoke token {found} and everybody who joined by it?")
        answer = reducer.post(f"/tokens/{found}/revoke", {"members": members})
    if as_json:
        screen.put_json(answer)
    else:
        click.echo(f"Token {found} is revoked{', and who joined by it' if members else ''}.")
