"""`fedn audit`: who did what, and proof that nothing of it was changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from fedn.cli import screen
from fedn.cli.options import Where, remote

if TYPE_CHECKING:
    from fedn.cli.rest_client import Reducer

PAGE = 500


@click.group()
def audit() -> None:
    """Show and verify the audit log: who joined, was refused, seeded, started, downloaded, revoked.

    Example: fedn audit show
    """


@audit.command()
@click.option("--after", type=click.IntRange(min=0), default=0, help="Begin behind the entry of this number.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many entries; without it all.")
@remote
def show(after: int, limit: int | None, at: Where, as_json: bool) -> None:
    """Show the entries, oldest first. With --json one object per line.

    \b
    Examples:
      fedn audit show
      fedn audit show --after 1000 --limit 50 --json
    """
    from fedn.cli.rest_client import connect

    with connect(at) as reducer:
        if as_json:
            for entry in _entries(reducer, after, limit):
                screen.put_json(entry)
            return
        rows = [
            (
                e["number"],
                screen.moment(e["at"]),
                e["actor"],
                e["event"],
                e["subject"],
                _details(e["details"]),
            )
            for e in _entries(reducer, after, limit)
        ]
    screen.table(("Number", "When", "Who", "What", "Of what", "Details"), rows, "Nothing was written down.")


def _entries(reducer: Reducer, after: int, limit: int | None) -> Iterator[dict[str, Any]]:
    """Entries above ``after``, page by page."""
    following: int | None = after
    while following is not None and (limit is None or limit > 0):
        page = reducer.get("/audit", after=following, limit=min(limit or PAGE, PAGE))
        yield from page["entries"]
        limit = None if limit is None else limit - len(page["entries"])
        following = page["next"]


def _details(details: dict[str, Any]) -> str:
    return "  ".join(f"{name}={value if isinstance(value, str) else json.dumps(value)}"
                     for name, value in details.items())  # fmt: skip


@audit.command()
@click.option("--pinned", metavar="DIGEST",
              help="A head that was printed earlier, all 64 letters; it must still be there.")  # fmt: skip
@click.option("--state", metavar="URL", help="Verify this state store here, without a reducer.")
@remote
def verify(pinned: str | None, state: str | None, at: Where, as_json: bool) -> None:
    """Prove that the audit log is whole: every entry, and every link of the chain.

    Note the head that is printed, somewhere else, and give it as --pinned later: a chain alone can't show
    that its end was cut off, or all of it rewritten. Exit code 1 when something is damaged.

    \b
    Examples:
      fedn audit verify
      fedn audit verify --pinned DIGEST
      fedn audit verify --state sqlite:///fedn-data/reducer/state.db
    """
    report = _remotely(at, pinned) if state is None else _here(state, pinned)
    if as_json:
        screen.put_json(report)
    elif report["ok"]:
        click.secho(f"The audit log is whole: {screen.counted(report['entries'], 'entry')}.", fg="green")
        click.echo(f"Head {report['head']}")
    else:
        click.secho(screen.clean(f"The audit log is damaged: {report['problem']}"), fg="red")
    if not report["ok"]:
        raise SystemExit(1)


def _remotely(at: Where, pinned: str | None) -> dict[str, Any]:
    from fedn.cli.rest_client import connect

    query: dict[str, Any] = {"pinned": pinned} if pinned else {}
    with connect(at) as reducer:
        report: dict[str, Any] = reducer.get("/audit/verify", patient=True, **query)
        return report


def _here(state_url: str, pinned: str | None) -> dict[str, Any]:
    from contextlib import closing
    from dataclasses import asdict

    from fedn.cli.store_places import check_places
    from fedn.domain.ids import check_digest
    from fedn.identity.audit import verify_audit
    from fedn.stores import open_state

    check_places({"--state": state_url})
    with closing(open_state(state_url, read_only=True)) as state:
        head = check_digest("--pinned", pinned) if pinned else None
        return asdict(verify_audit(state.identity, head))
