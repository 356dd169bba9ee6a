"""`fedn network`: make a network's identity, see who has joined it, and send somebody away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import click

from fedn.cli import screen
from fedn.cli.options import Where, confirm, json_option, remote
from fedn.domain.errors import InvalidInput, NotFound

NEXT = """
Start the reducer, on this machine:
  fedn reducer start --network-dir {directory}{listen}

Then, in another terminal, a token for each who is to join:
  export FEDN_URL={url} FEDN_TOKEN_FILE={admin}
  fedn token create --role combiner -o combiner.token
  fedn token create --role client -o client.token

And on their machines:
  fedn combiner start --reducer {url} --join-file combiner.token{advertise}
  fedn client start --reducer {url} --join-file client.token --app module:factory"""

ROLE = click.Choice(["client", "combiner"])


@click.group()
def network() -> None:
    """Make a network's identity, list its members, and revoke them.

    Example: fedn network init --host reducer.example.org
    """


@network.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), default="network",
              show_default=True, help="Folder to make; the reducer needs it, and nobody else.")  # fmt: skip
@click.option("--name", default="fedn", show_default=True, help="What people call the network.")
@click.option("--host", "hosts", multiple=True, metavar="NAME",
              help="A name or address by which browsers reach the reducer. Repeatable.")  # fmt: skip
@json_option
def init(directory: Path, name: str, hosts: tuple[str, ...], as_json: bool) -> None:
    """Make a network: its certificate authority, the reducer's key, and the first admin's token.

    Asks nobody and starts nothing. The folder holds secrets that only its owner can read; a folder
    that holds a network already is refused.

    \b
    Examples:
      fedn network init
      fedn network init --dir network --name hospitals --host reducer.example.org
    """
    from fedn.identity.network_dir import create

    made = create(directory, name, hosts, time.time())
    admin = directory / "admin.token"
    if as_json:
        screen.put_json({
            "directory": str(directory), "name": name, "hosts": list(hosts),
            "fingerprint": made.fingerprint, "admin_token_file": str(admin),
        })  # fmt: skip
        return
    screen.pairs({"network": name, "fingerprint": made.fingerprint, "admin token": f"in {admin}"})
    click.echo(NEXT.format(
        url=f"https://{_in_url(hosts[0] if hosts else '127.0.0.1')}:8090",
        directory=quote(str(directory)), admin=quote(str(admin.absolute())),
        listen=" --host 0.0.0.0" if hosts else "",
        advertise=" --host 0.0.0.0 --advertise ITS-ADDRESS:12080" if hosts else "",
    ))  # fmt: skip


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@network.command()
@remote
def members(at: Where, as_json: bool) -> None:
    """List who has joined: combiners and clients, newest first.

    Example: fedn network members
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        answer = reducer.get("/members")
    if as_json:
        screen.put_json(answer)
        return
    rows = [
        (m["member"], m["role"], m["name"], screen.labels(m["labels"]), m["token"],
         screen.moment(m["joined_at"]), state(m))
        for m in answer["members"]
    ]  # fmt: skip
    columns = ("Member", "Role", "Name", "Labels", "Token", "Joined", "State")
    screen.table(columns, rows, "Nobody has joined. Invite somebody with `fedn token create --role client`.")


def state(member: dict[str, Any]) -> str:
    """In words: revoked, or until when its newest certificate is good."""
    if member["revoked_at"]:
        return f"revoked {screen.moment(member['revoked_at'])}"
    word = "expired" if member["expires_at"] <= time.time() else "until"
    return f"{word} {screen.moment(member['expires_at'])}"


@network.command()
@click.argument("name")
@click.option("--role", type=ROLE, help="Whether a client or a combiner is meant, where both have the name.")
@click.option("--exact", is_flag=True, help="NAME is the member's id, whatever others are called.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@remote
def revoke(name: str, role: str | None, exact: bool, yes: bool, at: Where, as_json: bool) -> None:
    """Send a client or combiner away: its certificate is refused within seconds, its streams end.

    NAME is the member's id or its name; nobody is sent away while it could be another's. There is no way
    back for that id: a client comes again with a fresh state folder and a new token, a combiner also needs
    a new name.

    \b
    Examples:
      fedn network revoke clinic-3
      fedn network revoke clinic-3-5a1f09c2 --exact
      fedn network revoke combiner-2 --role combiner --yes
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        member = the_one(reducer.get("/members")["members"], name, role, exact)
        if not yes:
            confirm(f"Revoke {member['role']} {member['member']}?")
        path = f"/members/{member['role']}/{member['member']}/revoke"
        answer = reducer.post(path)
    if as_json:
        screen.put_json(answer)
    else:
        click.echo(f"{member['role'].capitalize()} {member['member']} is revoked.")


def the_one(
    members: Sequence[dict[str, Any]], name: str, role: str | None, exact: bool = False
) -> dict[str, Any]:
    """The only member whose id is ``name`` or, unless ``exact``, who is called so and still may come in.

    If none may any more, the only one that was called so.
    """
    asked = [m for m in members if role in (None, m["role"])]
    by_id = [m for m in asked if m["member"] == name]
    called = [m for m in asked if m["name"] == name and m["member"] != name and not exact]
    found = by_id + [m for m in called if not m["revoked_at"]] or called
    if not found:
        raise NotFound(f"There is no member {name[:80]!r}. `fedn network members` shows all.", member=name)
    if len(found) > 1:
        some = ", ".join(f"{m['role']} {m['member']}" for m in found[:3])
        if by_id and len(found) > len(by_id):
            remedy = "add --exact for the one whose id that is, or give the id of another"
        elif len({m["role"] for m in found}) > 1:
            remedy = "add --role client or --role combiner"
        else:
            remedy = "give the id of one"
        raise InvalidInput("NAME", f"{name!r} is {len(found)} members ({some})", remedy)
    return found[0]
