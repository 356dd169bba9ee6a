"""`fedn client ledger`: everything that left the machine, as the client wrote it down before it left."""

from __future__ import annotations

import re
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedn.cli import screen
from fedn.cli.homes import Which, local
from fedn.domain.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from fedn.client.ledger import Entry
    from fedn.client.ledger_check import Totals

_SPAN = re.compile(r"(\d{1,6})([smhd])\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.command()
@click.argument("verify", type=click.Choice(["verify"]), required=False)
@click.option("--since", metavar="WHEN", help="From 2026-11-21[T18:00] on, or of the last 90m, 12h, 7d.")
@click.option("--session", metavar="ID", help="Of this session alone; a beginning or end of its id will do.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Show the last so many lines; 0 for all. Totals are of all.",
)
@click.option("--pinned", metavar="DIGEST", default="",
              help="With verify: a head that was printed earlier, all 64 letters of it.")  # fmt: skip
@local
def ledger(
    verify: str | None, since: str | None, session: str | None, limit: int, pinned: str, which: Which,
    as_json: bool,
) -> None:  # fmt: skip
    """Show what left this machine: what, when, to whom, how many bytes, with which sha256.

    Lines come oldest first, then what they come to for each session. Bytes are those of messages and files,
    without what TLS, HTTP and TCP add. With --json one object per line, all of them.

    With `verify`: prove that nothing in the ledger was changed, taken out or put in between. Note the head
    that is printed, somewhere else, and give it as --pinned later: a chain alone can't show that its end was
    cut off, its oldest files removed, or all of it rewritten. Exit code 1 when it is damaged.

    \b
    Examples:
      fedn client ledger --since 7d
      fedn client ledger --session s-20261121-180000-3f2a1c --json
      fedn client ledger verify --pinned DIGEST
    """
    if verify:
        _verify(which, pinned, as_json)
        return
    found = _found(which, _moment(since) if since else 0.0, session)
    if as_json:
        for entry in found:
            screen.put_json(asdict(entry))
    else:
        _tables(found, limit)


def _found(which: Which, since: float, session: str | None) -> Iterator[Entry]:
    from fedn.client.ledger_check import entries

    ledger = which.one().ledger
    wanted = _session(ledger, session) if session is not None else None
    for entry in entries(ledger):
        if entry.at >= since and wanted in (None, entry.session):
            yield entry


def _session(ledger: Path, text: str) -> str:
    """The id of the session in the ledger that ``text`` is, begins or ends. Raises NotFound, InvalidInput."""
    from fedn.cli.rest_client import only
    from fedn.client.ledger_check import entries
    from fedn.config import nearest

    known = sorted({entry.session for entry in entries(ledger)} - {""})
    try:
        return only("session", text, known, "fedn client ledger")
    except NotFound:
        hint = nearest(text[:80], known) or "`fedn client ledger` shows those it has"
        raise NotFound(f"The ledger has nothing of a session {text[:80]!r}; {hint}.", session=text) from None


def _tables(found: Iterator[Entry], limit: int) -> None:
    from fedn.client.ledger_check import Totals

    last: deque[Entry] = deque(maxlen=limit or None)
    totals: defaultdict[str, Totals] = defaultdict(Totals)
    for entry in found:
        last.append(entry)
        totals[entry.session].add(entry)
    columns = ("When", "What", "To whom", "Session", "Round", "Bytes", "Digest", "Details")
    screen.table(columns, map(_row, last), "Nothing has left.")
    if not totals:
        return
    if (more := sum(one.lines for one in totals.values()) - len(last)) > 0:
        screen.note(f"{screen.counted(more, 'older line')} not shown; --limit 0 shows all.")
    rows = [(session or "(of none)", *_sums(one)) for session, one in totals.items()]
    screen.table(("Session", "Messages", "Updates", "Bytes of updates", "Bytes in all"), rows, "")


def _sums(one: Totals) -> tuple[Any, ...]:
    return one.messages, len(one.updates), one.update_size, one.size


def _row(entry: Entry) -> tuple[Any, ...]:
    when = datetime.fromtimestamp(entry.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    to = f"{entry.to} ({entry.address})" if entry.to else ""
    details = "  ".join(f"{name}={_told(value)}" for name, value in entry.details.items())
    size = "" if "bytes" in entry.details else entry.size  # of what nobody here sees it is unknown
    return (
        when, entry.what.replace("_", " "), to, entry.session, entry.round or "", size,
        entry.digest[:12], details,
    )  # fmt: skip


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return screen.metrics_text(value)
    return str(value)[:12] if _DIGEST.match(str(value)) else str(value)[:200]


def _moment(text: str) -> float:
    """Unix time of a local date or time, or of a span ago."""
    if found := _SPAN.match(text):
        return time.time() - int(found[1]) * _SECONDS[found[2]]
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        remedy = "give 2026-11-21, 2026-11-21T18:00, or 90m, 12h, 7d"
        raise InvalidInput("--since", f"{text[:80]!r} is no time", remedy) from None


def _verify(which: Which, pinned: str, as_json: bool) -> None:
    from fedn.client.ledger_check import verify_ledger
    from fedn.domain.ids import check_digest

    report = verify_ledger(which.one().ledger, check_digest("--pinned", pinned) if pinned else "")
    if as_json:
        screen.put_json(asdict(report))
    elif report.ok:
        lines = f"lines {report.first} to {report.last}" if report.first else "it has no lines yet"
        click.secho(f"The ledger is whole: {lines}.", fg="green")
        click.echo(f"Head {report.head}")
    else:
        click.secho(screen.clean(f"The ledger is damaged: {report.problem}"), fg="red")
    if not report.ok:
        raise SystemExit(1)
