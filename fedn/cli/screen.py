"""How answers look: JSON on stdout for scripts, tables for people. rich is loaded only when it draws."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from fedn.sdk.terminal import clean, console, counted, metrics_text, transfer

UNITS = ("B", "kB", "MB", "GB", "TB")


def put_json(value: Any) -> None:
    """One JSON document on one line of stdout."""
    click.echo(json.dumps(value, default=str))


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


def bytes_of(size: float) -> str:
    """A size in words: 1536 is '1.5 kB'."""
    for unit in UNITS[:-1]:
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} {UNITS[-1]}"


def labels(values: Mapping[str, str]) -> str:
    """Labels in a row."""
    return " ".join(f"{name}={value}" for name, value in values.items())


def moment(seconds: float) -> str:
    """Unix time as local date and time, to the minute."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M") if seconds else ""


__all__ = [
    "bytes_of", "clean", "console", "counted", "labels", "metrics_text", "moment", "note", "pairs",
    "put_json", "table", "transfer",
]  # fmt: skip
