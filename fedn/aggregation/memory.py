"""What a server optimizer remembers between rounds, as a safetensors file: one float64 tensor per slot.

Written beside each new model from the same `ServerStep`, and kept in the model store under the digest that
the round's record names; `fedn.reducer.merging` does both. Read back as views of the mapped file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import numpy as np

from fedn.aggregation.write import OPTIMIZER, ServerStep
from fedn.domain.canonical import canonical_json
from fedn.domain.errors import Damaged, InvalidInput, InvalidModel
from fedn.domain.model import PREFIX_BYTES, Layout, layout_of
from fedn.ports import ServerOptimizer, Vector

MAX_SLOTS = 8
ITEM = 8
"""Bytes of a float64."""


def check_slots(optimizer: ServerOptimizer) -> None:
    """Raise InvalidInput unless its slots are a few names with finite numbers."""
    slots = optimizer.slots
    if not isinstance(slots, Mapping) or len(slots) > MAX_SLOTS:
        raise InvalidInput(OPTIMIZER, f"its slots are not a mapping of at most {MAX_SLOTS} names")
    for name, first in slots.items():
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,63}", name):
            raise InvalidInput(OPTIMIZER, f"its slot {str(name)[:80]!r} is not a name", "use such as 'm'")
        if not isinstance(first, int | float) or not math.isfinite(first):
            raise InvalidInput(OPTIMIZER, f"its slot {name!r} starts at {first!r}", "give a finite number")


def write_memory(step: ServerStep, about: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The slots after ``step`` as a file, in small chunks. ``about`` is kept with them.

    Raises:
        InvalidInput: the optimizer failed, or a slot is not finite any more.
    """
    size = ITEM * step.layout.float_elements
    entries: dict[str, object] = {"__metadata__": dict(about)}
    for place, name in enumerate(step.optimizer.slots):
        offsets = [place * size, (place + 1) * size]
        entries[name] = {"dtype": "F64", "shape": [size // ITEM], "data_offsets": offsets}
    header = canonical_json(entries)
    header += b" " * (-len(header) % ITEM)
    yield len(header).to_bytes(PREFIX_BYTES, "little") + header
    for name in step.optimizer.slots:
        yield from step.slot(name)


def read_memory(file: memoryview, layout: Layout, optimizer: ServerOptimizer) -> Mapping[str, Vector]:
    """Each slot's vector, shape (layout.float_elements,), as a read-only view of ``file``.

    Raises:
        Damaged: it is no such file.
        InvalidInput: it is of an optimizer with other slots, or of a model with another layout.
    """
    try:
        found = layout_of(file)
    except InvalidModel as error:
        raise Damaged(f"the server optimizer's state can't be read: {error.message}") from None
    wanted = dict.fromkeys(optimizer.slots, ("F64", (layout.float_elements,)))
    if {spec.name: (spec.dtype, spec.shape) for spec in found.tensors} != wanted:
        problem = f"it keeps {_listed(wanted)}, but the session's state has " + _listed(
            spec.name for spec in found.tensors
        )
        raise InvalidInput(OPTIMIZER, problem, "install the version that the session began with")
    body = file[found.data_start :]
    return {spec.name: np.frombuffer(body[spec.start : spec.end], "<f8") for spec in found.tensors}


def _listed(names: Iterator[str] | Mapping[str, object]) -> str:
    return ", ".join(names) or "nothing"
