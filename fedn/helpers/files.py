"""Model files to named arrays and back, for the helpers; an update is laid out like its base model.

`fedn.client.trainer` and the command line read and write here. Reading goes through the one header
parser in `fedn.domain.model`; a seed file is written by the safetensors library.

numpy has no bfloat16. Reading a file gives such tensors as float32, which holds each of their values.
Arrays to be written may have the dtype that the package ml_dtypes gives numpy, ``ml_dtypes.bfloat16``: a
seed file keeps it as BF16. fedn itself knows it by name and does not need the package.
"""

from __future__ import annotations

import numpy as np

from fedn.aggregation.dtypes import NUMPY_DTYPES, Array, encode, first_unsafe, floats, widen_bfloat16
from fedn.domain.errors import InvalidModel
from fedn.domain.model import FLOAT_DTYPES, Layout, TensorSpec, layout_of
from fedn.ports import Tensors


def read_file(data: memoryview) -> dict[str, Array]:
    """The tensors of a model file in file order, as arrays of their own; BF16 comes as float32.

    Raises:
        InvalidModel: ``data`` is not a whole, well-formed safetensors file.
    """
    layout = layout_of(data)
    body = data[layout.data_start :]
    return {spec.name: _read(body[spec.start : spec.end], spec) for spec in layout.tensors}


def _read(raw: memoryview, spec: TensorSpec) -> Array:
    if spec.dtype == "BOOL":
        # Any byte may stand in a file; only 0 and 1 may stand in a numpy bool.
        flat: Array = np.frombuffer(raw, np.uint8) != 0
    elif spec.dtype in FLOAT_DTYPES:
        flat = floats(raw, spec.dtype)
    else:
        flat = np.frombuffer(raw, NUMPY_DTYPES[spec.dtype])
    return np.array(flat.reshape(spec.shape))


def write_update(base: memoryview, layout: Layout, tensors: Tensors) -> bytes:
    """``tensors`` as a file with the base model's own header bytes, dtypes and order.

    Any float width is taken for any other; whole numbers and booleans must keep their values.

    Raises:
        InvalidModel: naming the tensor whose name, shape or dtype differs from the base model's, or that
            does not fit the base model's dtype.
    """
    wanted = {spec.name for spec in layout.tensors}
    if missing := sorted(wanted - tensors.keys()):
        raise _bad(missing[0], "is missing", "return every tensor of the base model")
    if extra := sorted(tensors.keys() - wanted, key=str):
        raise _bad(extra[0], "is not in the base model", "return the base model's tensors only")
    body = [_bytes_of(np.asarray(tensors[spec.name]), spec) for spec in layout.tensors]
    return b"".join([base[: layout.data_start], *body])


def _bytes_of(value: Array, spec: TensorSpec) -> memoryview:
    if value.shape != spec.shape:
        problem = f"has shape {list(value.shape)}, the base model's is {list(spec.shape)}"
        raise _bad(spec.name, problem, "keep the shapes of the base model")
    # asarray keeps the shape of scalars, which ascontiguousarray would not.
    cast = _plain(_cast(value, spec))
    return cast.reshape(-1).view(np.uint8).data


def _cast(value: Array, spec: TensorSpec) -> Array:
    if spec.dtype != "BF16" and value.dtype == np.dtype(NUMPY_DTYPES[spec.dtype]):
        return value
    if spec.dtype in FLOAT_DTYPES and (value.dtype.kind == "f" or _is_bfloat16(value)):
        return _cast_float(widened(value), spec)
    if spec.dtype not in FLOAT_DTYPES and value.dtype.kind in "iub":
        with np.errstate(over="ignore"):
            cast = value.astype(NUMPY_DTYPES[spec.dtype])
        if np.array_equal(cast, value):
            return cast
        raise _bad(spec.name, f"has values that do not fit {spec.dtype}", "keep the base model's dtype")
    problem = f"has dtype {value.dtype}, the base model's is {spec.dtype}"
    raise _bad(spec.name, problem, "convert it before returning the model")


def _cast_float(value: Array, spec: TensorSpec) -> Array:
    cast = encode(value, spec.dtype)
    if first_unsafe(cast.tobytes(), spec.dtype) >= 0 and np.isfinite(value).all():
        raise _bad(spec.name, f"has values beyond the range of {spec.dtype}", "lower the learning rate")
    return cast


def seed_file(tensors: Tensors) -> bytes:
    """A new model file, laid out by the safetensors library.

    Raises:
        InvalidModel: there is no tensor, or one is no array of numbers.
    """
    from safetensors.numpy import save

    if not tensors:
        raise InvalidModel("model", "holds no tensors", "give at least one")
    return bytes(save({name: _plain(check_tensor(name, value)) for name, value in tensors.items()}))


def _plain(array: Array) -> Array:
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def widened(array: Array) -> Array:
    """``array`` itself, or as float32 if it holds bfloat16; exact."""
    return widen_bfloat16(array.view("<u2")) if _is_bfloat16(array) else array


def _is_bfloat16(array: Array) -> bool:
    return array.dtype.name == "bfloat16"


def check_tensor(name: object, value: object) -> Array:
    """``value`` as an array if it is one that a model file can hold.

    Raises:
        InvalidModel: naming the entry, when the name is no text or the value no array of numbers.
    """
    if not isinstance(name, str) or not name:
        raise InvalidModel(f"tensor {name!r}", "is not named by a text", "use names such as 'weights'")
    if not isinstance(value, np.ndarray | np.generic):
        raise _bad(name, f"is a {type(value).__name__}, not a numpy array", "wrap it in numpy.asarray()")
    array = np.asarray(value)
    if not _is_bfloat16(array) and array.dtype.newbyteorder("<").str not in NUMPY_DTYPES.values():
        problem = f"has dtype {array.dtype}, which no model file holds"
        raise _bad(name, problem, "use a float, integer or boolean dtype")
    return array


def _bad(name: object, problem: str, remedy: str) -> InvalidModel:
    return InvalidModel(f"tensor {str(name)[:80]!r}", problem, remedy)


__all__ = ["check_tensor", "layout_of", "read_file", "seed_file", "widened", "write_update"]
