"""`fedn client`: start one (`fedn.client.app`), and what its owner can do and see on its own machine.

Only `start` speaks with a network. The others work on the client's folder, which a running client watches.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedn.cli import screen
from fedn.cli.homes import Which, leaving_nothing, local
from fedn.cli.ledger import ledger
from fedn.cli.options import json_option, settings_options
from fedn.cli.start import prepare
from fedn.config import ClientSettings
from fedn.domain.errors import Damaged, InvalidConfig

if TYPE_CHECKING:
    from fedn.client.state_dir import Home


@click.group(name="client")
def client() -> None:
    """Start a client: trains on data that stays beside it, and opens no port. Pause it, and see what it did.

    Example: fedn client start
    """


client.add_command(ledger)


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
      fedn client start --data ~/mnist.npz
    """
    settings = prepare(ClientSettings, settings_file, given, as_json)
    if not (settings.app or settings.data):
        remedy = "give your code as --app module:factory, or --data to run the network's compute packages"
        raise InvalidConfig("app", "is missing", remedy)
    from fedn.client.app import run

    with leaving_nothing(settings.state_dir):
        run(settings, settings_file)


@client.command()
@click.option("--now", is_flag=True, help="Stop what is at work, instead of letting it end first.")
@local
def pause(now: bool, which: Which, as_json: bool) -> None:
    """Pause a client: it takes nothing new, and leaves when what it has begun is done and settled.

    It leaves after `leave_within` seconds at the latest, and stays away, also when it is started again,
    until `fedn client resume`. Training by an app of its own can't be stopped; its result is dropped.

    \b
    Examples:
      fedn client pause
      fedn client pause --name clinic-3 --now
    """
    from fedn.client.owner import Pause, pause, read_pause

    home = which.one()
    before = read_pause(home.paused)
    told = Pause(before.since if before else time.time(), now)
    pause(home.paused, told.since, now)
    if as_json:
        screen.put_json({**_about(home), "paused": True, "since": told.since, "now": now})
    else:
        click.echo(f"{home.path.name} is paused.{'' if home.running else ' It does not run just now.'}")


@client.command()
@local
def resume(which: Which, as_json: bool) -> None:
    """End a pause: a running client comes back within about a second.

    Example: fedn client resume --name clinic-3
    """
    from fedn.client.owner import resume

    home = which.one()
    paused = home.paused.exists()
    resume(home.paused)
    if as_json:
        screen.put_json({**_about(home), "paused": False, "was_paused": paused})
    else:
        words = "goes on" if paused else "was not paused"
        click.echo(f"{home.path.name} {words}.{'' if home.running else ' It does not run just now.'}")


@client.command()
@local
def status(which: Which, as_json: bool) -> None:
    """Show how clients of this machine stand: running or not, where attached, what they do and hold.

    \b
    Examples:
      fedn client status
      fedn client status --name clinic-3 --json
    """
    told = [_status(home) for home in which.all()]
    if as_json:
        screen.put_json({"clients": told})
        return
    for number, one in enumerate(told):
        if number:
            click.echo()
        _show(one)


def _about(home: Home) -> dict[str, Any]:
    return {"name": home.path.name, "folder": str(home.path), "running": home.running}


def _status(home: Home) -> dict[str, Any]:
    """What its folder says of a client; a running one is what it last wrote."""
    from fedn.client.journal import held_in
    from fedn.client.owner import read_pause
    from fedn.client.standing import read_standing

    about = _about(home)
    told = read_standing(home.standing)
    try:
        pause = read_pause(home.paused)
    except Damaged as error:
        screen.note(error.message)
        pause = None
    live = told if about["running"] else {}
    held = [
        {"session": h.session, "round": h.round, "size": h.size, "digest": h.digest}
        for h in held_in(home.journal)
    ]
    return {
        **about, "paused": home.paused.exists(), "paused_since": pause.since if pause else None,
        "state": live.get("state", "not running"), "reason": live.get("reason", ""),
        "combiner": live.get("combiner", ""), "address": live.get("address", ""),
        "working": live.get("working"), "held": held, "rounds": told.get("rounds", []),
        "settings": told.get("settings", {}),
    }  # fmt: skip


def _show(told: Mapping[str, Any]) -> None:
    working, settings = told["working"], told["settings"]
    words = {"attached": f"attached to {told['combiner']} ({told['address']})"}
    held = (f"{h['session']} round {h['round']} ({screen.bytes_of(h['size'])})" for h in told["held"])
    work = f"{working['kind']}, session {working['session']}, round {working['round']}" if working else ""
    lines = {
        "client": told["name"],
        "state": words.get(told["state"], told["state"]),
        "because": told["reason"],
        "paused": f"since {screen.moment(told['paused_since'] or 0)}" if told["paused"] else "",
        "at work": work,
        "holds": ", ".join(held),
        **{name: _setting(name, value) for name, value in settings.items()},
    }  # fmt: skip
    screen.pairs({name: value for name, value in lines.items() if value})
    if told["rounds"]:
        rows = [
            (r["session"], r["round"], r["outcome"], screen.moment(r["at"]), r["reason"])
            for r in told["rounds"]
        ]
        screen.table(("Session", "Round", "Update", "When", "Why"), rows, "")


def _setting(name: str, value: Any) -> str:
    if name == "memory":
        return screen.bytes_of(value) if value else ""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={one}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
