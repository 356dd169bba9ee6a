"""What a model file holds: its tensors, read from the header alone, and whether it can be a seed.

Asked by `rest_models`, the service and the command line; `fedn.domain.model` reads the header.
"""

from __future__ import annotations

import math
import mmap
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedn.aggregation.blocks import check_finite
from fedn.domain.errors import InvalidInput, InvalidModel
from fedn.domain.ids import Digest, digest_of
from fedn.domain.kinds import START_BYTES
from fedn.domain.model import PREFIX_BYTES, Layout, header_bytes, layout_of, parse_layout
from fedn.ports import ModelStore

SHOWN_TENSORS = 1000
"""Tensors of one answer; there are pages of them."""


@dataclass(frozen=True, slots=True)
class TensorForm:
    """One tensor as people see it. ``dtype`` is safetensors' word, ``number`` its place in the file."""

    number: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    parameters: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What a model holds in all. ``averaged`` are the parameters that rounds change; ``size`` is the file's.

    ``layout`` names names, shapes and dtypes: updates and models of one session have the same.
    ``dtypes`` counts the parameters of each.
    """

    size: int
    layout: Digest
    count: int
    parameters: int
    averaged: int
    bytes: int
    dtypes: Mapping[str, int]


def contents_of(layout: Layout) -> Contents:
    """A layout in numbers."""
    dtypes = Counter[str]()
    for spec in layout.tensors:
        dtypes[spec.dtype] += math.prod(spec.shape)
    return Contents(
        layout.file_bytes, layout.digest, len(layout.tensors), dtypes.total(), layout.float_elements,
        layout.data_bytes, dict(dtypes),
    )  # fmt: skip


def tensors_in(layout: Layout, after: int = -1, limit: int = SHOWN_TENSORS) -> tuple[TensorForm, ...]:
    """At most ``limit`` tensors with numbers above ``after``, in file order."""
    first = max(0, after + 1)
    return tuple(
        TensorForm(number, s.name, s.dtype, s.shape, math.prod(s.shape), s.end - s.start)
        for number, s in enumerate(layout.tensors[first : first + limit], start=first)
    )


def described(layout: Layout, after: int = -1, limit: int = SHOWN_TENSORS) -> dict[str, Any]:
    """Contents and a page of tensors; ``next`` is the ``after`` of the next page, or None."""
    page = tensors_in(layout, after, limit)
    more = bool(page) and page[-1].number + 1 < len(layout.tensors)
    return {"contents": contents_of(layout), "tensors": page, "next": page[-1].number if more else None}


def stored_layout(models: ModelStore, digest: Digest) -> Layout:
    """The layout of a stored model; no more than its header is read.

    Raises NotFound, and InvalidModel for what is stored and is no model, such as a package.
    """
    size, head = models.size(digest), bytearray()
    for chunk in models.read(digest):
        head += chunk
        if len(head) < min(START_BYTES, size):
            continue
        if len(head) >= PREFIX_BYTES + header_bytes(bytes(head[:START_BYTES])):
            break
    needed = PREFIX_BYTES + header_bytes(bytes(head[:START_BYTES]))
    return parse_layout(bytes(head[:needed]), size)


def check_seed(file: memoryview) -> Layout:
    """The layout of a whole file that a session can start from.

    Raises:
        InvalidModel: not safetensors, nothing to average, or numbers that are not finite.
    """
    layout = layout_of(file)
    if not layout.float_runs:
        raise InvalidModel("model", "holds no floating-point tensor", "there is nothing to average")
    if name := check_finite(file[layout.data_start :], layout):
        problem = "holds NaN, infinity or absurdly large numbers"
        raise InvalidModel(f"tensor {name!r}", problem, "export a model that has not diverged")
    return layout


def check_file(path: Path) -> tuple[Digest, Layout]:
    """(sha256, layout) of a file on this machine, checked as `check_seed` does; raises InvalidInput, too."""
    try:
        with path.open("rb") as file:
            empty = os.fstat(file.fileno()).st_size == 0
            view = memoryview(b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise InvalidInput(str(path), f"can't be read ({error.strerror})", "check the path") from None
    return digest_of(view), check_seed(view)
