"""How progress looks, in a terminal or a notebook, here and on the command line. rich is loaded late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

BEFORE = "before_"
"""How metrics begin that were measured before the training."""
PIPED_WIDTH = 250
"""Columns of what goes into a pipe or a file, where nothing needs to be folded."""


def console(stderr: bool = False) -> Console:
    """rich's console; markup in what others named is never read."""
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not watched(made):
        made.width = PIPED_WIDTH
    return made


def watched(at: Console) -> bool:
    """Whether somebody sees bars move there."""
    return at.is_terminal or at.is_jupyter


def transfer(quiet: bool) -> Progress:
    """A progress bar for bytes, on stderr; silent where nobody watches."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    drawn = console(stderr=True)
    return Progress(*columns, console=drawn, disable=quiet or not watched(drawn))


def clean(text: str) -> str:
    """``text`` without control characters, which could redraw a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def counted(number: int, noun: str) -> str:
    """'1 client', '3 clients', '3 entries'."""
    if number == 1:
        return f"{number} {noun}"
    return f"{number} {noun.removesuffix('y')}ies" if noun.endswith("y") else f"{number} {noun}s"


def before_fit(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Of training metrics those that were measured before the training."""
    return {name: value for name, value in metrics.items() if name.startswith(BEFORE)}


def metrics_text(metrics: Mapping[str, float | None]) -> str:
    """Metrics in a row, accuracy first, those measured before the fit last and named so."""
    before = before_fit(metrics)
    own = _row({name: value for name, value in metrics.items() if name not in before})
    said = _row({name.removeprefix(BEFORE): value for name, value in before.items()})
    return "  ".join(filter(None, [own, f"before fit: {said}" if said else ""]))


def _row(metrics: Mapping[str, float | None]) -> str:
    names = sorted(metrics, key=lambda name: (name != "accuracy", name))
    return "  ".join(f"{name} {value:.4f}" for name in names if (value := metrics[name]) is not None)
