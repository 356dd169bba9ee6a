"""The next global model, written a block at a time from the base model's file and the clients' mean.

Takes the mean from `PartMerger` and the step from `optimizers`; the bytes go straight to a model store.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fedn.aggregation.blocks import decode, float_blocks, scratch_for, tensor_at
from fedn.aggregation.dtypes import encode, first_unsafe
from fedn.domain.errors import InvalidModel
from fedn.domain.model import FloatRun, Layout
from fedn.ports import ServerOptimizer, Vector

CHUNK_BYTES = 2**20


def write_model(
    base: memoryview, layout: Layout, mean: Vector, optimizer: ServerOptimizer
) -> Iterator[bytes | memoryview]:
    """The next model file in chunks of at most 1 MiB: laid out like ``base``, header and all.

    Averaged numbers take the optimizer's step and are rounded to their dtype; every other byte is the
    base's own. ``mean`` has shape (layout.float_elements,). Memory is constant.

    Raises:
        InvalidModel: naming the tensor, when a number does not fit its dtype.
    """
    data = base[layout.data_start :]
    scratch = scratch_for(layout)
    yield from _slices(base[: layout.data_start])
    position = 0
    for block in float_blocks(layout):
        yield from _slices(data[position : block.start])
        values = decode(data, block, scratch)
        yield _stepped(values, mean[block.first : block.first + block.elements], block, layout, optimizer)
        position = block.end
    yield from _slices(data[position:])


def _stepped(
    base: Vector, mean: Vector, block: FloatRun, layout: Layout, optimizer: ServerOptimizer
) -> memoryview:
    with np.errstate(over="ignore", invalid="ignore"):
        stepped = optimizer.step(base, mean)
    encoded = encode(stepped, block.dtype)
    unsafe = first_unsafe(encoded, block.dtype)
    if unsafe >= 0:
        name = tensor_at(layout, block.start + unsafe)
        problem = f"the next value is not finite as {block.dtype}"
        raise InvalidModel(f"tensor {name!r}", problem, "lower the learning rates, or use a wider dtype")
    return encoded.data.cast("B")


def _slices(raw: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(raw), CHUNK_BYTES):
        yield raw[start : start + CHUNK_BYTES]
