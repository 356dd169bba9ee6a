"""A PNG of who has how much of what. matplotlib is loaded only here, and draws without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fedn.domain.errors import InvalidInput
from fedn.sdk.data.checks import IntArray
from fedn.sdk.data.counts import Distribution, distribution
from fedn.sdk.data.whole_files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BARS = 200
"""Clients that are drawn; more can't be told apart."""
COLOURS = 20
"""Labels are told apart by these; where there are more, the rarest share the last one, a grey."""


def plot(labels: npt.ArrayLike, parts: Sequence[npt.ArrayLike], path: str | Path, *, title: str = "") -> None:
    """Write a PNG with a bar per client, stacked by label. A file that is there is replaced.

    Args:
        labels: one per example, shape (examples,).
        parts: for each client, indices of its examples.
        path: ends in ``.png``.
        title: what is shown; "for simulation" is added in any case.

    Raises:
        InvalidInput: naming the argument, or what to install when matplotlib is missing.
    """
    check_plot(Path(path))
    draw(distribution(labels, parts), Path(path), title)


def check_plot(path: Path) -> None:
    """Find out before the work whether a plot can be drawn to ``path``. Raises InvalidInput."""
    if path.suffix.lower() != ".png":
        raise InvalidInput("plot", f"'{path}' does not end in .png", "give the name of a PNG file")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        remedy = "pip install '.[plot]' in fedn's source tree"
        raise InvalidInput("plot", "needs matplotlib, which is missing", remedy) from None


def draw(counted: Distribution, path: Path, title: str = "") -> None:
    """The same as `plot`, of what is counted already."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.0), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    _stack(figure, axes, counted)
    shown = _short(title or "Examples by client and label", 70)
    text = f"{shown} (for simulation)"
    axes.set_title(text, parse_math=False)
    with written_whole(path) as file:
        figure.savefig(file, format="png", metadata={"Title": text})


def _stack(figure: Figure, axes: Axes, counted: Distribution) -> None:
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    names, counts = _gathered(counted)
    shown = counts[:BARS]
    clients = np.arange(1, len(shown) + 1)
    below = np.zeros(len(shown))
    colours = _colours(len(names), gathered=len(counted.labels) > COLOURS)
    for column, colour in zip(shown.T, colours, strict=True):
        axes.bar(clients, column, 0.85, bottom=below, color=colour)
        below += column
    axes.set_xlabel("client" if len(shown) == len(counts) else f"client (first {BARS} of {len(counts)})")
    axes.set_ylabel("examples")
    axes.set_xlim(0.3, len(shown) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.spines[["top", "right"]].set_visible(False)
    if len(names) > 1:
        # Reversed, so that the list reads as the stack does: the last label is on top.
        handles = [Patch(color=colour) for colour in colours[::-1]]
        legend = figure.legend(handles, names[::-1], title="label", loc="outside right upper")
        for text in legend.get_texts():
            text.set_parse_math(False)


def _gathered(counted: Distribution) -> tuple[list[str], IntArray]:
    """Names and counts of at most `COLOURS` labels: where there are more, the rarest become one."""
    if len(counted.labels) <= COLOURS:
        return [_short(label) for label in counted.labels], counted.counts
    order = np.argsort(-counted.counts.sum(axis=0), kind="stable")
    kept, rest = np.sort(order[: COLOURS - 1]), order[COLOURS - 1 :]
    names = [_short(counted.labels[place]) for place in kept]
    others = counted.counts[:, rest].sum(axis=1, keepdims=True)
    return [*names, f"{len(rest)} others"], np.hstack([counted.counts[:, kept], others])


def _short(text: str, length: int = 20) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _colours(count: int, gathered: bool) -> list[tuple[float, float, float, float]]:
    from matplotlib import colormaps

    colours = [colormaps["tab10" if count <= 10 else "tab20"](place) for place in range(count)]
    return [*colours[:-1], (0.9, 0.9, 0.9, 1.0)] if gathered else colours
