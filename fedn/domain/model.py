"""What a model is: one safetensors file, known by its sha256, and the layout of its tensors.

The header parser here is the only one that bytes from outside meet. It trusts nothing: sizes are
bounded before they are believed, and tensors must cover the data exactly, without gap or overlap. Its
time and memory are linear in the header's length, with a factor that does not depend on what is in it.

Format: 8 bytes little-endian header length, a JSON header, one contiguous data buffer
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import InvalidModel
from fedn.domain.ids import Digest, digest_of
from fedn.domain.kinds import START_BYTES, kind_of

INLINE_BYTES = 64 * 2**10
"""Models, updates and parts up to this size ride inside the message that announces them."""
MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 100_000
MAX_DIMENSIONS = 32
MAX_NAME_LENGTH = 512
MAX_METADATA_LENGTH = 2**20
"""Letters of all names and values of ``__metadata__``."""
PREFIX_BYTES = 8

ITEM_BYTES: Mapping[str, int] = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8,
    "F16": 2, "BF16": 2, "F32": 4, "F64": 8,
}  # fmt: skip
FLOAT_DTYPES = frozenset({"F16", "BF16", "F32", "F64"})
"""Averaged. Everything else (counters, masks) keeps the base model's value."""

_MARKS: Mapping[bytes, int] = {b"{": 2, b"[": 4, b",": 16, b'"': 12}
"""How many of each a header may have for each tensor that is allowed: more than any model needs. A byte
such as ``[`` becomes an object of 64, so they are counted before the header is parsed."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor: name, dtype (safetensors' word), shape, and byte range in the data buffer."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FloatRun:
    """Neighbouring float tensors of one dtype: bytes [start, end) of the data buffer.

    ``first`` is the index of its first element in the flat vector of all averaged elements.
    """

    dtype: str
    start: int
    end: int
    first: int

    @property
    def elements(self) -> int:
        return (self.end - self.start) // ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Layout:
    """The tensors of a model in file order; every update and model of a session shares it."""

    tensors: tuple[TensorSpec, ...]
    data_start: int

    @cached_property
    def digest(self) -> Digest:
        """Names a layout: equal digests mean equal names, dtypes, shapes and order."""
        return digest_of(canonical_json([[t.name, t.dtype, list(t.shape)] for t in self.tensors]))

    @property
    def data_bytes(self) -> int:
        return self.tensors[-1].end if self.tensors else 0

    @property
    def file_bytes(self) -> int:
        return self.data_start + self.data_bytes

    @cached_property
    def float_runs(self) -> tuple[FloatRun, ...]:
        """The averaged parts of the buffer, neighbours of one dtype joined."""
        return tuple(_join_floats(self.tensors))

    @property
    def float_elements(self) -> int:
        return sum(run.elements for run in self.float_runs)

    def difference(self, other: Layout) -> str:
        """In words, the first thing in which ``other`` is not laid out like this; '' if nothing."""
        mine = {t.name: t for t in self.tensors}
        theirs = {t.name: t for t in other.tensors}
        if missing := sorted(mine.keys() - theirs.keys()):
            return f"tensor {missing[0]!r} is missing"
        if extra := sorted(theirs.keys() - mine.keys()):
            return f"tensor {extra[0]!r} is not in the base model"
        for name, spec in mine.items():
            if (spec.dtype, spec.shape) != (theirs[name].dtype, theirs[name].shape):
                want, got = (f"{s.dtype}{list(s.shape)}" for s in (spec, theirs[name]))
                return f"tensor {name!r} is {got}, the base model's is {want}"
        if [t.name for t in self.tensors] != [t.name for t in other.tensors]:
            return "the tensors are in another order"
        return ""


def _join_floats(tensors: tuple[TensorSpec, ...]) -> Iterator[FloatRun]:
    run: FloatRun | None = None
    first = 0
    for tensor in tensors:
        if tensor.dtype not in FLOAT_DTYPES or tensor.start == tensor.end:
            continue
        if run and run.dtype == tensor.dtype and run.end == tensor.start:
            run = FloatRun(run.dtype, run.start, tensor.end, run.first)
        else:
            if run:
                yield run
                first += run.elements
            run = FloatRun(tensor.dtype, tensor.start, tensor.end, first)
    if run:
        yield run


def header_bytes(prefix: bytes) -> int:
    """The length of the JSON header that the first 8 bytes of a file announce.

    With more of the file, up to `START_BYTES`, it can better say what a file is that is no model.

    Raises:
        InvalidModel: too short, or a length that no sane model has.
    """
    if len(prefix) < PREFIX_BYTES:
        problem = "shorter than 8 bytes" if prefix else "is empty"
        raise InvalidModel("model", problem, "give a safetensors file")
    length = int.from_bytes(prefix[:PREFIX_BYTES], "little")
    sane = 2 <= length <= MAX_HEADER_BYTES
    if not (sane and prefix[PREFIX_BYTES : PREFIX_BYTES + 1] in (b"", b"{")):
        what, remedy = kind_of(prefix)
        if what:
            raise InvalidModel("model", f"{what}, and not safetensors", remedy)
    if not sane:
        raise InvalidModel(
            "model", f"is not safetensors: it announces a header of {length} bytes", "give a safetensors file"
        )
    return length


def parse_layout(head: bytes, file_bytes: int) -> Layout:
    """Read the layout from ``head`` (prefix and JSON header) of a file of ``file_bytes`` bytes.

    Raises:
        InvalidModel: not safetensors, truncated, or tensors that overlap, leave gaps or do not fit.
    """
    length = header_bytes(head)
    data_start = PREFIX_BYTES + length
    if len(head) < data_start:
        raise InvalidModel("model", "ends inside its header", "the file is truncated; export it again")
    entries = _entries(head, data_start)
    _check_metadata(entries.pop("__metadata__", {}))
    if not 1 <= len(entries) <= MAX_TENSORS:
        raise InvalidModel("model", f"holds {len(entries)} tensors", f"1 to {MAX_TENSORS} are allowed")
    tensors = sorted((_spec(name, entry) for name, entry in entries.items()), key=lambda t: (t.start, t.end))
    _check_cover(tensors, file_bytes - data_start)
    return Layout(tuple(tensors), data_start)


def layout_of(file: memoryview | bytes) -> Layout:
    """The layout of a whole model file in memory; raises InvalidModel."""
    length = header_bytes(bytes(file[:START_BYTES]))
    return parse_layout(bytes(file[: PREFIX_BYTES + length]), len(file))


def _entries(head: bytes, data_start: int) -> dict[str, object]:
    for mark, most in _MARKS.items():
        if head.count(mark, PREFIX_BYTES, data_start) > most * MAX_TENSORS:
            problem = f"has a header with more {mark.decode()} than {MAX_TENSORS} tensors need"
            raise InvalidModel("model", problem, "give a safetensors file")
    if head[PREFIX_BYTES] != ord("{"):  # the format allows padding behind the header, not before it
        raise InvalidModel("model", "has a header that is not an object", "give a safetensors file")
    try:
        text = str(memoryview(head)[PREFIX_BYTES:data_start], "utf-8")
        entries: dict[str, object] = json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError):
        raise InvalidModel("model", "has no JSON header", "give a safetensors file") from None
    return entries


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of the header. A name that comes twice could mean one tensor to us, another to others."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidModel("model", "has a name twice in its header", "export it again")
    return found


def _check_metadata(metadata: object) -> None:
    """Free words for people; never used here, but copied into every model of a session."""
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InvalidModel("model", "has __metadata__ that is not made of texts", "export it again")
    if (length := sum(len(name) + len(value) for name, value in metadata.items())) > MAX_METADATA_LENGTH:
        remedy = f"at most {MAX_METADATA_LENGTH} are allowed"
        raise InvalidModel("model", f"has __metadata__ of {length} letters", remedy)


def _spec(name: str, entry: object) -> TensorSpec:
    def bad(problem: str) -> InvalidModel:
        return InvalidModel(f"tensor {name[:80]!r}", problem, "export the model again")

    if not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise bad(f"has a name that is not 1 to {MAX_NAME_LENGTH} printable letters")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise bad("has a malformed header entry")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise bad(f"has dtype {str(dtype)[:20]!r}; known are {', '.join(ITEM_BYTES)}")
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        raise bad("has a malformed shape")
    if not _naturals(offsets) or len(offsets) != 2:
        raise bad("has malformed offsets")
    # Beside a 0 a dimension may be anything without changing the size; numpy refuses it all the same.
    if math.prod(filter(None, shape)) * ITEM_BYTES[dtype] >= 2**63:
        raise bad("has a shape that no memory holds")
    if offsets[1] - offsets[0] != math.prod(shape) * ITEM_BYTES[dtype]:
        raise bad("has offsets that do not match its shape")
    return TensorSpec(name, dtype, tuple(shape), offsets[0], offsets[1])


def _naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _check_cover(tensors: list[TensorSpec], data_bytes: int) -> None:
    position = 0
    for tensor in tensors:
        if tensor.start != position:
            raise InvalidModel("model", f"tensor {tensor.name!r} overlaps or leaves a gap", "export it again")
        position = tensor.end
    if position != data_bytes:
        problem = "is truncated" if data_bytes < position else "has bytes behind its last tensor"
        raise InvalidModel("model", f"{problem} ({data_bytes} of {position} data bytes)", "export it again")
