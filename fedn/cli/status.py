"""`fedn status`: the network as a tree, and the sessions."""

from __future__ import annotations

from typing import Any

import click

from fedn.cli import screen
from fedn.cli.options import Where, remote
from fedn.domain.errors import Unavailable


@click.command()
@remote
@click.option("-v", "--verbose", is_flag=True, help="Show every gauge, not only those above half.")
def status(at: Where, as_json: bool, verbose: bool) -> None:
    """Show the reducer, its combiners and their clients, and the sessions.

    A combiner's gauges, what is bounded there, are shown where more than half of the limit is in use.

    Exit code 0 when the reducer is ready, 3 when it is not or is not there.

    Example: fedn status --reducer http://127.0.0.1:8090
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        network = reducer.get("/network")
        sessions = reducer.get("/sessions")["sessions"]
        try:
            reducer.get("/readyz")
            reason = ""
        except Unavailable as error:
            reason = error.message
    if as_json:
        about = {"url": at.url, "ready": not reason, "reason": reason}
        screen.put_json({"reducer": about, **network, "sessions": sessions})
    else:
        _draw(at.url, reason, network, sessions, verbose)
    if reason:
        raise SystemExit(3)


def _draw(
    url: str, reason: str, network: dict[str, Any], sessions: list[dict[str, Any]], verbose: bool
) -> None:
    from rich.text import Text
    from rich.tree import Tree

    words = f"not ready: {reason}" if reason else "ready"
    tree = Tree(Text(screen.clean(f"reducer {url}  {words}, term {network['term']}")))
    for words in _gauges(network, verbose):
        tree.add(Text(screen.clean(words)))
    for combiner in network["combiners"]:
        count = screen.counted(len(combiner["clients"]), "client")
        live = f"live, {count}" if combiner["live"] else "out of reach"
        line = f"combiner {combiner['combiner']}  {combiner['address']}  {live}"
        branch = tree.add(Text(screen.clean(line), style="" if combiner["live"] else "red"))
        for words in _gauges(combiner, verbose):
            branch.add(Text(screen.clean(words)))
        for client in combiner["clients"]:
            branch.add(Text(screen.clean(f"client {client['name'] or client['client']}  {client['client']}")))
    if not network["combiners"]:
        tree.add("no combiner; start one with `fedn combiner start`")
    for item in sessions[:10]:
        head = f"round {item['head']['round']} of {item['plan']['rounds']}"
        reason = f": {item['reason']}" if item["reason"] else ""
        name = "" if item["name"] == item["session"] else f"  {item['name']}"
        tree.add(Text(screen.clean(f"session {item['session']}{name}  {item['state']}{reason}, {head}")))
    screen.console().print(tree)


def _gauges(holder: dict[str, Any], verbose: bool) -> list[str]:
    """In words; a reducer of another version may have none."""
    shown = [g for g in holder.get("gauges", ()) if verbose or 2 * g["value"] > g["limit"]]
    return ["{name} {value} of {limit}, at most {peak} so far".format_map(gauge) for gauge in shown]
