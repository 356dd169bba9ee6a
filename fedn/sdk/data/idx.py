"""The idx format, in which MNIST and its relatives are handed out.

Two zero bytes, a byte for the dtype, one for the number of dimensions, each dimension as a big-endian
uint32, then the values, big-endian. (LeCun, Cortes and Burges, "The MNIST database of handwritten digits".)
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput
from fedn.sdk.data.checks import MAX_BYTES
from fedn.sdk.data.whole_files import unreadable

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_DIMENSIONS = 8
_GZIP = b"\x1f\x8b"
_CHUNK = 2**20
_REMEDY = "get the file again"


def read_idx(path: str | Path) -> Array:
    """The array in an idx file, gzipped or not, in the machine's byte order.

    Raises:
        InvalidInput: naming the file: it can't be read, is not whole, is none, or is larger than 8 GiB.
    """
    file = Path(path)
    try:
        with file.open("rb") as raw:
            packed = raw.read(2) == _GZIP
            raw.seek(0)
            if not packed:
                return _read(raw, file)
            with gzip.open(raw) as unpacked:
                return _read(unpacked, file)  # type: ignore[arg-type]
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise InvalidInput(str(file), "is not a whole gzip file", _REMEDY) from None
    except OSError as error:
        raise unreadable(file, error) from None


def _read(source: BinaryIO, file: Path) -> Array:
    dtype, shape = _header(source, file)
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_BYTES:
        raise InvalidInput(str(file), f"says it holds {size} bytes", f"files of up to {MAX_BYTES} are read")
    data = _exactly(source, size)
    if len(data) != size or source.read(1):
        raise InvalidInput(str(file), f"does not hold the {size} bytes that its header says", _REMEDY)
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _header(source: BinaryIO, file: Path) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    magic = source.read(4)
    if (
        len(magic) < 4
        or magic[:2] != b"\0\0"
        or magic[2] not in DTYPES
        or not 1 <= magic[3] <= MAX_DIMENSIONS
    ):
        raise InvalidInput(str(file), "is not an idx file", "give one such as train-images-idx3-ubyte.gz")
    raw = source.read(4 * magic[3])
    if len(raw) < 4 * magic[3]:
        raise InvalidInput(str(file), "ends within its header", _REMEDY)
    return np.dtype(DTYPES[magic[2]]), struct.unpack(f">{magic[3]}I", raw)


def _exactly(source: BinaryIO, size: int) -> bytearray:
    """Up to ``size`` bytes; memory is spent on bytes that come, not on what a header promises."""
    data = bytearray()
    while len(data) < size and (piece := source.read(min(_CHUNK, size - len(data)))):
        data += piece
    return data
