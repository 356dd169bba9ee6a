"""How far two models lie apart, tensor by tensor, from their mapped files.

Pure. Numbers are read in blocks and compared in float64, so that two models of any size need no memory of
their own. Tensors go together by name and shape; their dtypes may differ.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fedn.aggregation.dtypes import NUMPY_DTYPES, floats
from fedn.domain.model import FLOAT_DTYPES, ITEM_BYTES, Layout, TensorSpec, layout_of
from fedn.ports import Vector

BLOCK = 2**18
"""Numbers compared at once."""
MOST_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Distance:
    """L2 norm of the difference, the same over the first's norm, and its largest absolute value.

    ``relative`` is None where the first is all zeros and the second is not; all are where numbers are not
    finite.
    """

    l2: float | None
    relative: float | None
    largest: float | None
    parameters: int


@dataclass(frozen=True, slots=True)
class TensorDistance:
    """One tensor that both have; ``dtype`` is the first's, ``other_dtype`` the second's."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    other_dtype: str
    distance: Distance


@dataclass(frozen=True, slots=True)
class Unlike:
    """A tensor that both have in shapes that differ."""

    name: str
    shape: tuple[int, ...]
    other_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """``total`` is over what is averaged: tensors of floats in both. ``uncounted`` others are not in it.

    ``tensors`` are those that changed most, in file order, and ``left_out`` of them are not in it; the
    other lists end at `MOST_ROWS`, too. ``same_layout``: names, shapes, dtypes and order are the same.
    """

    same_layout: bool
    total: Distance
    uncounted: int
    tensors: tuple[TensorDistance, ...]
    left_out: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    unlike: tuple[Unlike, ...]


def compare(first: memoryview, second: memoryview, limit: int = MOST_ROWS) -> Comparison:
    """Compare two whole model files; at most ``limit`` tensors are told of.

    Raises:
        InvalidModel: one is not a whole, well-formed safetensors file.
    """
    mine, others = layout_of(first), layout_of(second)
    by_name = {spec.name: spec for spec in others.tensors}
    total, uncounted, found, unlike = _Sums(), 0, list[TensorDistance](), list[Unlike]()
    for spec in mine.tensors:
        other = by_name.pop(spec.name, None)
        if other is None:
            continue
        if other.shape != spec.shape:
            unlike.append(Unlike(spec.name, spec.shape, other.shape))
            continue
        sums = _summed(first[mine.data_start :], spec, second[others.data_start :], other)
        if FLOAT_DTYPES.issuperset((spec.dtype, other.dtype)):
            total.join(sums)
        else:  # class labels and counters would drown what was learned
            uncounted += 1
        found.append(TensorDistance(spec.name, spec.shape, spec.dtype, other.dtype, sums.distance()))
    return Comparison(
        mine.digest == others.digest, total.distance(), uncounted,
        _most(found, limit), max(0, len(found) - limit),
        _only(mine, others)[:limit], tuple(by_name)[:limit], tuple(unlike[:limit]),
    )  # fmt: skip


def _only(mine: Layout, others: Layout) -> tuple[str, ...]:
    theirs = {spec.name for spec in others.tensors}
    return tuple(spec.name for spec in mine.tensors if spec.name not in theirs)


def _most(found: list[TensorDistance], limit: int) -> tuple[TensorDistance, ...]:
    """Those that changed most, in the order they came in."""
    places = range(len(found))
    chosen = heapq.nlargest(limit, places, key=lambda place: _rank(found[place].distance.l2))
    return tuple(found[place] for place in sorted(chosen))


def _rank(l2: float | None) -> float:
    return math.inf if l2 is None else l2


class _Sums:
    """Norms so far, of a difference and of the first tensor."""

    def __init__(self) -> None:
        self.difference = self.first = self.largest = 0.0
        self.parameters = 0

    def add(self, first: Vector, second: Vector) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            difference = second - first
        self.difference = math.hypot(self.difference, _norm(difference))
        self.first = math.hypot(self.first, _norm(first))
        self.largest = float(np.maximum(self.largest, np.abs(difference).max()))
        self.parameters += len(first)

    def join(self, other: _Sums) -> None:
        self.difference = math.hypot(self.difference, other.difference)
        self.first = math.hypot(self.first, other.first)
        self.largest = float(np.maximum(self.largest, other.largest))
        self.parameters += other.parameters

    def distance(self) -> Distance:
        same = 0.0 if self.difference == 0 else math.inf
        relative = self.difference / self.first if self.first else same
        return Distance(_finite(self.difference), _finite(relative), _finite(self.largest), self.parameters)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _norm(values: Vector) -> float:
    """The L2 norm, also of numbers whose squares no float64 holds."""
    largest = float(np.abs(values).max())
    if largest == 0 or not math.isfinite(largest) or 1e-140 < largest < 1e140:
        return math.sqrt(np.square(values).sum())  # BLAS would wake a thread on every processor
    return largest * math.sqrt(np.square(values / largest).sum())


def _summed(first: memoryview, spec: TensorSpec, second: memoryview, other: TensorSpec) -> _Sums:
    sums = _Sums()
    for mine, theirs in zip(_blocks(first, spec), _blocks(second, other), strict=True):
        sums.add(mine, theirs)
    return sums


def _blocks(body: memoryview, spec: TensorSpec) -> Iterator[Vector]:
    """A tensor's numbers as float64. Whole numbers beyond 2^53 lose their last digits."""
    step = BLOCK * ITEM_BYTES[spec.dtype]
    for start in range(spec.start, spec.end, step):
        raw = body[start : min(start + step, spec.end)]
        if spec.dtype == "BOOL":  # any byte may stand in a file
            yield (np.frombuffer(raw, np.uint8) != 0).astype(np.float64)
        elif spec.dtype in FLOAT_DTYPES:
            yield floats(raw, spec.dtype).astype(np.float64)
        else:
            yield np.frombuffer(raw, NUMPY_DTYPES[spec.dtype]).astype(np.float64)
