"""The server's step, a block at a time: from base model and clients' mean to the next global model.

Takes the mean from `PartMerger`, the step from `optimizers` and what they remember from `memory`; the bytes
go straight to a model store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from fedn.aggregation.blocks import decode, float_blocks, scratch_for, tensor_at
from fedn.aggregation.dtypes import encode, first_unsafe
from fedn.aggregation.faults import blamed, checked
from fedn.domain.errors import InvalidInput, InvalidModel
from fedn.domain.model import ITEM_BYTES, FloatRun, Layout
from fedn.ports import ServerOptimizer, Vector

CHUNK_BYTES = 2**20
OPTIMIZER = "server_optimizer"
"""The plan field that is to blame for a bad step."""


@dataclass(frozen=True, slots=True)
class ServerStep:
    """Step ``number`` of a session, from ``base``, a model file with ``layout``.

    ``mean`` and the vectors of ``memory``, one for each slot, have shape (layout.float_elements,); without
    any this is the first step. Nothing of it is changed: model and slots are written by passes of their
    own, each stepping anew, so that memory is constant. Raises InvalidInput for the optimizer's faults.
    """

    base: memoryview
    layout: Layout
    mean: Vector
    optimizer: ServerOptimizer
    number: int = 1
    memory: Mapping[str, Vector] = field(default_factory=dict)

    def model(self) -> Iterator[bytes | memoryview]:
        """The next model file in chunks of at most 1 MiB: laid out like ``base``, header and all.

        Averaged numbers are rounded to their dtype; every other byte is the base's own.

        Raises:
            InvalidModel: naming the tensor, when a number does not fit its dtype.
        """
        data = self.base[self.layout.data_start :]
        yield from _slices(self.base[: self.layout.data_start])
        position = 0
        for block, stepped, _ in self._blocks():
            yield from _slices(data[position : block.start])
            yield self._encoded(stepped, block)
            position = block.end
        yield from _slices(data[position:])

    def slot(self, name: str) -> Iterator[memoryview]:
        """What the optimizer remembers under ``name`` after the step: little-endian float64, in blocks."""
        for block, _, memory in self._blocks():
            values = memory[name]
            if not (finite := np.isfinite(values)).all():
                at = block.start + int(np.argmin(finite)) * ITEM_BYTES[block.dtype]
                problem = f"its {name!r} of tensor {tensor_at(self.layout, at)!r} is not finite any more"
                raise InvalidInput(OPTIMIZER, problem, "lower the learning rates")
            yield values.astype("<f8", copy=False).data.cast("B")

    def _blocks(self) -> Iterator[tuple[FloatRun, Vector, Mapping[str, Vector]]]:
        data, scratch = self.base[self.layout.data_start :], scratch_for(self.layout)
        for block in float_blocks(self.layout):
            base = decode(data, block, scratch)
            span = slice(block.first, block.first + block.elements)
            mean = self.mean[span]
            mean.flags.writeable = False  # the next pass needs it, too
            memory = {name: self._remembered(name, span) for name in self.optimizer.slots}
            with blamed(OPTIMIZER, self.optimizer), np.errstate(all="ignore"):
                stepped = self.optimizer.step(base, mean, MappingProxyType(memory), self.number)
            yield block, checked(OPTIMIZER, self.optimizer, stepped, block.elements), memory

    def _remembered(self, name: str, span: slice) -> Vector:
        if self.memory:
            return self.memory[name][span].astype(np.float64)
        return np.full(span.stop - span.start, self.optimizer.slots[name], np.float64)

    def _encoded(self, stepped: Vector, block: FloatRun) -> memoryview:
        encoded = encode(stepped, block.dtype)
        unsafe = first_unsafe(encoded, block.dtype)
        if unsafe >= 0:
            name = tensor_at(self.layout, block.start + unsafe)
            problem = f"the next value is not finite as {block.dtype}"
            raise InvalidModel(f"tensor {name!r}", problem, "lower the learning rates, or use a wider dtype")
        return encoded.data.cast("B")


def _slices(raw: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(raw), CHUNK_BYTES):
        yield raw[start : start + CHUNK_BYTES]
