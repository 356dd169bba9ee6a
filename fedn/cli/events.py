"""`fedn events`: what happened, each event as a sentence, also while it happens."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from fedn.cli import screen
from fedn.cli.options import Where, remote

if TYPE_CHECKING:
    from fedn.cli.rest_client import Reducer

AGAIN_SECONDS = 1.0
"""Before a stream that broke off is opened again."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
COLOURS = {"good": "green", "warning": "yellow", "error": "red"}
PAGE = 1000


def _since(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    if not (match := re.fullmatch(r"(\d{1,9})([smhd])", value)):
        raise click.BadParameter(f"'{value}' is not a time such as 30m, 2h or 7d.")
    return time.time() - int(match[1]) * UNITS[match[2]]


@click.command()
@click.option(
    "--session", metavar="SESSION", help="Only events of this session: its id, a part of it, its name."
)
@click.option("--name", "names", multiple=True, metavar="NAME",
              help="Only events of this name, such as round_committed. Repeatable.")  # fmt: skip
@click.option("--gravity", "gravities", multiple=True, type=click.Choice(["info", *COLOURS]),
              help="Only such events. Repeatable.")  # fmt: skip
@click.option("--since", metavar="TIME", callback=_since, help="All of the last 30m, 2h or 7d.")
@click.option("--limit", type=click.IntRange(1, PAGE), default=50, show_default=True,
              help="Without --since: so many, the newest.")  # fmt: skip
@click.option("--follow", is_flag=True, help="Then go on with what happens, until Ctrl-C.")
@remote
def events(
    session: str | None, names: tuple[str, ...], gravities: tuple[str, ...], since: float | None, limit: int,
    follow: bool, at: Where, as_json: bool,
) -> None:  # fmt: skip
    """Show what happened, oldest first, each event with its number. With --json one object per line.

    \b
    Examples:
      fedn events
      fedn events --session digits --gravity warning --gravity error --since 2h
      fedn events --follow --json
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        query: dict[str, Any] = {"event": list(names), "gravity": list(gravities)}
        if session:
            query["session"] = reducer.session(session)
        newest = reducer.get("/events", newest=1, limit=1)["events"]
        found = _page(reducer, query, limit) if since is None else _all_since(reducer, query, since)
        shown = 0
        for event in found:
            shown += 1
            _put(event, as_json)
        if follow:
            for event in _following(reducer, query, newest[0]["number"] if newest else 0):
                _put(event, as_json)
        elif not shown and not as_json:
            click.echo("Nothing of the kind has happened.")


def _page(reducer: Reducer, query: Mapping[str, Any], limit: int, **more: Any) -> list[dict[str, Any]]:
    page: list[dict[str, Any]] = reducer.get("/events", newest=1, limit=limit, **query, **more)["events"]
    return page


def _all_since(reducer: Reducer, query: Mapping[str, Any], since: float) -> list[dict[str, Any]]:
    """Page by page from the newest on, until they are too old."""
    page = found = _page(reducer, query, PAGE)
    while len(page) == PAGE and page[0]["at"] >= since:
        page = _page(reducer, query, PAGE, before=page[0]["number"])
        found = [*page, *found]
    return [event for event in found if event["at"] >= since]


def _following(reducer: Reducer, query: Mapping[str, Any], last: int) -> Iterator[dict[str, Any]]:
    """Events behind the ``last``, across restarts of the reducer; what the stream missed is looked up."""
    from fedn.domain.errors import LinkBroken, Unavailable

    while True:
        try:
            for event in reducer.events(str(last)):
                if event["event"] == "lagged":
                    yield from reducer.pages("/events", "events", last, **query)
                elif event["number"] > last and _fits(event, query):
                    yield event
                last = event["number"]
        except (LinkBroken, Unavailable) as error:
            screen.note(f"{error.message}; waiting for it")
        time.sleep(AGAIN_SECONDS)


def _fits(event: Mapping[str, Any], query: Mapping[str, Any]) -> bool:
    return (
        (not query["event"] or event["event"] in query["event"])
        and (not query["gravity"] or event["gravity"] in query["gravity"])
        and query.get("session", event["session"]) == event["session"]
    )


def _put(event: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        screen.put_json(event)
        return
    at = datetime.fromtimestamp(event["at"]).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    where = f"{event['session']}: " if event["session"] and event["session"] not in event["sentence"] else ""
    told = click.style(screen.clean(f"{where}{event['sentence']}"), fg=COLOURS.get(event["gravity"]))
    click.echo(f"{click.style(at, dim=True)}  {event['number']}  {told}")
