"""How many examples of each label every client has; `picture` draws it, `folder` keeps it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedn.sdk.data.checks import IntArray, check_parts, classes, one_each


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """Examples by client and label: ``counts`` has shape (clients, labels), in the order of ``labels``."""

    labels: tuple[str, ...]
    counts: IntArray

    @property
    def sizes(self) -> IntArray:
        """Examples per client, shape (clients,)."""
        return np.asarray(self.counts.sum(axis=1), np.int64)

    def by_label(self) -> Iterator[Mapping[str, int]]:
        """For each client, its labels with their counts; labels that it has none of are left out."""
        for row in self.counts:
            yield {self.labels[place]: int(row[place]) for place in np.flatnonzero(row)}

    def __str__(self) -> str:
        head = ["client", "examples", *self.labels]
        rows = [[number, row.sum(), *row] for number, row in enumerate(self.counts, 1)]
        widths = [max(map(len, map(str, column))) for column in zip(head, *rows, strict=True)]
        return "\n".join(
            "  ".join(f"{cell!s:>{width}}" for cell, width in zip(line, widths, strict=True))
            for line in [head, *rows]
        )


def distribution(labels: npt.ArrayLike, parts: Sequence[npt.ArrayLike]) -> Distribution:
    """Count what `partition` dealt.

    Args:
        labels: one per example, shape (examples,).
        parts: for each client, indices of its examples.

    Raises:
        InvalidInput: naming ``labels`` or ``parts``; more than 10,000 distinct labels are refused.
    """
    known = one_each("labels", labels)
    indices = check_parts(parts, len(known))
    distinct, places = classes(known)
    counts = np.stack([np.bincount(places[part], minlength=len(distinct)) for part in indices])
    return Distribution(tuple(_text(value) for value in distinct), counts.astype(np.int64))


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
