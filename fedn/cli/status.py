"""`fedn status`: the network as a tree, and the sessions."""

from __future__ import annotations

from typing import Any

import click

from fedn.cli import screen
from fedn.cli.options import Where, remote
from fedn.domain.errors import Unavailable


@click.command()
@remote
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Show machines, traffic, and every gauge, not only those above half.",
)
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
        line = f"combiner {combiner['combiner']}  {combiner['address']}  {state_of(combiner)}"
        branch = tree.add(Text(screen.clean(line), style="" if combiner["live"] else "red"))
        for words in _about(combiner, verbose) + _gauges(combiner, verbose):
            branch.add(Text(screen.clean(words)))
        for client in combiner["clients"]:
            line = f"client {client['name'] or client['client']}  {client['client']}"
            branch.add(Text(screen.clean("  ".join([line, *_about(client, verbose)]))))
    if not network["combiners"]:
        tree.add("no combiner; start one with `fedn combiner start`")
    for item in sessions[:10]:
        head = f"round {item['head']['round']} of {item['plan']['rounds']}"
        reason = f": {item['reason']}" if item["reason"] else ""
        name = "" if item["name"] == item["session"] else f"  {item['name']}"
        tree.add(Text(screen.clean(f"session {item['session']}{name}  {item['state']}{reason}, {head}")))
    screen.console().print(tree)


def state_of(combiner: dict[str, Any]) -> str:
    """In words: whether it is here, drains, how many clients it has, and where those went that it had."""
    count = screen.counted(len(combiner["clients"]), "client")
    had = combiner.get("had", {"moved": {}, "gone": 0})  # a reducer of another version says nothing of them
    places = [f"{moved} moved to {place}" for place, moved in sorted(had["moved"].items())]
    places += [f"{had['gone']} attached nowhere"] if had["gone"] else []
    if combiner["live"] and combiner.get("draining"):
        return ", ".join([f"draining, {count} still there", *places])
    if combiner["live"]:
        return f"live, {count}"
    seen = f" since {screen.moment(combiner['seen_at'])}" if combiner.get("seen_at") else ""
    drained = [" (draining)"] if combiner.get("draining") else []
    return ", ".join(["out of reach" + seen + "".join(drained), *places])


def _about(holder: dict[str, Any], verbose: bool) -> list[str]:
    """Machine and traffic, in words; nothing unless asked for."""
    if not verbose or not (host := holder.get("host")):
        return []
    words = [host["system"], f"Python {host['python']}" if host["python"] else "", host["runs"]]
    words += [f"fedn {host['fedn']}" if host["fedn"] else "", screen.counted(host["cpus"], "cpu")]
    words += [f"memory {screen.bytes_of(host['memory'])}" if host["memory"] else ""]
    words += [f"received {screen.bytes_of(holder['received'])}, sent {screen.bytes_of(holder['sent'])}"]
    return [", ".join(filter(None, words))]


def _gauges(holder: dict[str, Any], verbose: bool) -> list[str]:
    """In words; a reducer of another version may have none."""
    shown = [g for g in holder.get("gauges", ()) if verbose or 2 * g["value"] > g["limit"]]
    return ["{name} {value} of {limit}, at most {peak} so far".format_map(gauge) for gauge in shown]
