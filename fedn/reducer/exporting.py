"""A model in other programs' forms: numpy's .npz, and a PyTorch state dict where PyTorch is there.

What a safetensors file does not hold can't be made of it: a Keras file needs the model's architecture, which
the code of the package alone knows. Nothing is pickled for numpy; what PyTorch writes can be read with
``torch.load(weights_only=True)``. `rest_models` and the command line ask here.
"""

from __future__ import annotations

import io
import mmap
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from fedn.aggregation.dtypes import NUMPY_DTYPES, widen_bfloat16
from fedn.domain.errors import InvalidInput
from fedn.domain.model import Layout, TensorSpec, layout_of
from fedn.helpers.frameworks import framework

CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Format:
    """A form to download a model in. ``reason`` says why it can't be had here, '' if it can."""

    format: str
    suffix: str
    doc: str
    reason: str = ""


_IN_PYTHON = (
    "take it as safetensors, or in Python: fedn.Network(…).session(…).load_into(model), "
    "then model.save('model.keras')"
)
_FORMATS = (
    Format("safetensors", ".safetensors", "The file itself, whose sha256 is the model's digest."),
    Format("npz", ".npz", "numpy.load() reads it, without pickle; bfloat16 becomes float32."),
    Format("torch", ".pt", "A state dict for torch.load(…, weights_only=True), in every dtype as it is."),
    Format("keras", ".keras", "A Keras file.",
           "needs the model's architecture, which only the code of the package knows"),
)  # fmt: skip
NAMES = tuple(one.format for one in _FORMATS)


def formats() -> tuple[Format, ...]:
    """All that people ask for, each with why it can't be had here, if it can't. Imports nothing."""
    lacking = "" if find_spec("torch") else "needs PyTorch, which is not installed here"
    return tuple(
        Format(one.format, one.suffix, one.doc, lacking if one.format == "torch" else one.reason)
        for one in _FORMATS
    )


def checked_format(name: str) -> Format:
    """The format of that name; raises InvalidInput if there is none, or it can't be had here."""
    found = next((one for one in formats() if one.format == name), None)
    if found is None:
        raise InvalidInput("format", f"{name[:80]!r} is unknown", f"give one of {', '.join(NAMES)}")
    if found.reason:
        remedies = {"torch": "take npz, or safetensors, which safetensors.torch.load_file() reads"}
        raise InvalidInput("format", f"{name} {found.reason}", remedies.get(name, _IN_PYTHON))
    return found


def write_as(wanted: Format, source: IO[bytes], target: IO[bytes]) -> None:
    """A whole model file in another form; ``source`` is mapped, so it must be a real file.

    Raises:
        InvalidModel: it is not a well-formed safetensors file.
    """
    if wanted.format == "torch":
        write_torch(source, target)
        return
    for chunk in npz_chunks(memoryview(mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ))):
        target.write(chunk)


# --- numpy -----------------------------------------------------------------------------------------


def npz_chunks(file: memoryview) -> Iterator[bytes]:
    """A whole model file as an .npz, made while it is read: no more of it is held than a block.

    Raises:
        InvalidModel: with the first chunk, if it is not a well-formed safetensors file.
    """
    layout, sink = layout_of(file), _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for spec in layout.tensors:
            with archive.open(zipfile.ZipInfo(f"{spec.name}.npy"), "w", force_zip64=True) as member:
                for piece in _npy_pieces(file[layout.data_start :], spec):
                    member.write(piece)
                    if sink.held >= CHUNK:
                        yield sink.taken()
    yield sink.taken()


def _npy_pieces(body: memoryview, spec: TensorSpec) -> Iterator[bytes]:
    descr = "<f4" if spec.dtype == "BF16" else NUMPY_DTYPES[spec.dtype]
    head = io.BytesIO()
    npy.write_array_header_1_0(head, {"descr": descr, "fortran_order": False, "shape": spec.shape})
    yield head.getvalue()
    for start in range(spec.start, spec.end, CHUNK):
        raw = body[start : min(start + CHUNK, spec.end)]
        if spec.dtype == "BF16":
            yield widen_bfloat16(np.frombuffer(raw, "<u2")).tobytes()
        elif spec.dtype == "BOOL":  # any byte may stand in a file
            yield (np.frombuffer(raw, np.uint8) != 0).tobytes()
        else:
            yield bytes(raw)


class _Sink(io.RawIOBase):
    """A file that can only be written; what was is taken away in pieces."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.held = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self.held += len(piece)
        return len(piece)

    def taken(self) -> bytes:
        pieces, self._pieces, self.held = b"".join(self._pieces), [], 0
        return pieces


# --- PyTorch ---------------------------------------------------------------------------------------

_TORCH_DTYPES: Mapping[str, str] = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32",
    "I32": "int32", "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16",
    "F32": "float32", "F64": "float64",
}  # fmt: skip


def write_torch(source: IO[bytes], target: IO[bytes]) -> None:
    """A model file as a state dict in PyTorch's own form.

    ``source`` is mapped, so it must be a real file; its pages are read while they are written.

    Raises:
        InvalidModel: it is not a well-formed safetensors file.
        InvalidInput: PyTorch can't be imported.
    """
    # Private pages: PyTorch takes writable memory alone, and nothing here writes to it.
    mapping = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_COPY)
    layout = layout_of(memoryview(mapping))
    tensors = {spec.name: _torch_tensor(mapping, layout, spec) for spec in layout.tensors}
    framework("torch", "torch").save(tensors, target)


def _torch_tensor(mapping: mmap.mmap, layout: Layout, spec: TensorSpec) -> Any:
    torch = framework("torch", "torch")
    dtype = getattr(torch, _TORCH_DTYPES[spec.dtype])
    if spec.start == spec.end:
        return torch.empty(spec.shape, dtype=dtype)
    start, stop = layout.data_start + spec.start, layout.data_start + spec.end
    if spec.dtype == "BOOL":  # any byte may stand in a file
        return (
            torch.frombuffer(mapping, dtype=torch.uint8, count=stop - start, offset=start)
            .ne(0)
            .reshape(spec.shape)
        )
    raw = mapping if start % dtype.itemsize == 0 else bytearray(mapping[start:stop])
    count = (stop - start) // dtype.itemsize
    flat = torch.frombuffer(raw, dtype=dtype, count=count, offset=start if raw is mapping else 0)
    return flat.reshape(spec.shape)
