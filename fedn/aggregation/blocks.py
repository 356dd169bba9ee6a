"""The averaged numbers of a model file as float64, a cache-sized block at a time.

Reads the data buffer that `fedn.domain.model` describes; `mean` folds the blocks and `write` makes the
next model of them. Buffers may start at any address: headers have any length, and numpy copes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fedn.aggregation.dtypes import first_unsafe, floats
from fedn.domain.model import ITEM_BYTES, FloatRun, Layout
from fedn.ports import Vector

BLOCK_ELEMENTS = 64 * 1024
"""512 KiB of float64: a block and its scratch stay in the second-level cache."""


def float_blocks(layout: Layout) -> Iterator[FloatRun]:
    """The layout's float runs, cut into pieces of at most `BLOCK_ELEMENTS`."""
    for run in layout.float_runs:
        width = ITEM_BYTES[run.dtype]
        for done in range(0, run.elements, BLOCK_ELEMENTS):
            start = run.start + done * width
            end = min(run.end, start + BLOCK_ELEMENTS * width)
            yield FloatRun(run.dtype, start, end, run.first + done)


def scratch_for(layout: Layout) -> Vector:
    """A block to decode into, no larger than the layout needs."""
    return np.empty(min(BLOCK_ELEMENTS, layout.float_elements), np.float64)


def decode(data: memoryview, block: FloatRun, scratch: Vector) -> Vector:
    """The block's numbers as float64, in ``scratch``; returns the filled part of it."""
    values = scratch[: block.elements]
    values[:] = floats(data[block.start : block.end], block.dtype)
    return values


def check_finite(data: memoryview, layout: Layout) -> str:
    """The name of the first tensor in ``data`` that can't be averaged; '' if there is none.

    That is one with a NaN, an infinity, or a float64 of 2^960 or more, whose weighted sum could
    overflow. Only when a block fails is its tensor looked for.
    """
    for block in float_blocks(layout):
        unsafe = first_unsafe(data[block.start : block.end], block.dtype)
        if unsafe >= 0:
            return tensor_at(layout, block.start + unsafe)
    return ""


def tensor_at(layout: Layout, position: int) -> str:
    """The name of the tensor that holds byte ``position`` of the data buffer."""
    return next(t.name for t in layout.tensors if t.start <= position < t.end)
