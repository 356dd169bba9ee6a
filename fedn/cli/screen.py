"""How answers look: JSON on stdout for scripts, tables for people. rich is loaded only when it draws."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

PIPED_WIDTH = 250
"""Columns of what goes into a pipe or a file, where nothing needs to be folded."""
UNITS = ("B", "kB", "MB", "GB", "TB")


def put_json(value: Any) -> None:
    """One JSON document on one line of stdout."""
    click.echo(json.dumps(value, default=str))


def console(stderr: bool = False) -> Console:
    """rich's console; markup in what others named is never read."""
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not made.is_terminal:
        made.width = PIPED_WIDTH
    return made


def note(text: str) -> None:
    """A sentence beside the answer, on stderr."""
    click.secho(clean(text), dim=True, err=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """A plain table on stdout, or the sentence ``empty``."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(columns):
        drawn.add_column(
            column, overflow="fold", no_wrap=index == 0
        )  # the id stays in one piece, to be copied
    for row in rows:
        drawn.add_row(*(Text(clean(str(cell))) for cell in row))
    if drawn.row_count:
        console().print(drawn)
    else:
        click.echo(empty)


def pairs(values: Mapping[str, Any]) -> None:
    """Names and values under each other."""
    width = max(map(len, values), default=0)
    for name, value in values.items():
        click.echo(f"{name:<{width}}  {clean(str(value))}")


def transfer(as_json: bool) -> Progress:
    """A progress bar for bytes, on stderr; silent where nobody watches."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    drawn = console(stderr=True)
    return Progress(*columns, console=drawn, disable=as_json or not drawn.is_terminal)


def clean(text: str) -> str:
    """``text`` without control characters, which could redraw a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def bytes_of(size: float) -> str:
    """A size in words: 1536 is '1.5 kB'."""
    for unit in UNITS[:-1]:
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} {UNITS[-1]}"


def counted(number: int, noun: str) -> str:
    """'1 client', '3 clients', '3 entries'."""
    if number == 1:
        return f"{number} {noun}"
    return f"{number} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{number} {noun}s"


def labels(values: Mapping[str, str]) -> str:
    """Labels in a row."""
    return " ".join(f"{name}={value}" for name, value in values.items())


def moment(seconds: float) -> str:
    """Unix time as local date and time, to the minute."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M") if seconds else ""


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Metrics in a row, accuracy first."""
    names = sorted(metrics, key=lambda name: (name != "accuracy", name))
    return "  ".join(f"{name} {metrics[name]:.4f}" for name in names)
