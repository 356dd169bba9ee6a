"""npz files, without pickle: read within bounds, and written the same, byte for byte, for the same arrays."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput
from fedn.sdk.data.checks import MAX_BYTES
from fedn.sdk.data.whole_files import unreadable

MAX_ARRAYS = 1_000
_NAME = re.compile(r"[\w.-]{1,64}")
_HEADERS: Mapping[
    tuple[int, int], Callable[[IO[bytes]], tuple[tuple[int, ...], bool, np.dtype[np.generic]]]
] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(
    path: Path, only: Collection[str] = (), advance: Callable[[int], None] = lambda _: None
) -> dict[str, Array]:
    """The arrays in an npz file, by name; with ``only``, these.

    ``advance`` is told of the bytes of each array that was read.

    Raises:
        InvalidInput: naming the file and the array: it is missing, damaged, of Python objects, or the
            arrays are larger than 8 GiB together.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            entries = _chosen(path, archive, only)
            arrays = {}
            for name, entry in entries.items():
                arrays[name] = _array(path, archive, name, entry)
                advance(arrays[name].nbytes)
            return arrays
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        # RuntimeError: encrypted. NotImplementedError: packed in a way that Python can't unpack.
        raise InvalidInput(str(path), "is not a whole npz file", "write it anew with numpy.savez") from None
    except OSError as error:
        raise unreadable(path, error) from None


def write_npz(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write ``arrays`` as `numpy.load` reads them, without a date."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _chosen(path: Path, archive: zipfile.ZipFile, only: Collection[str]) -> dict[str, zipfile.ZipInfo]:
    entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    if not 1 <= len(entries) <= MAX_ARRAYS:
        raise InvalidInput(str(path), f"has {len(entries)} arrays", f"give a file with 1 to {MAX_ARRAYS}")
    for name in entries:
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                str(path), f"has an array named {name[:80]!r}", "use letters, digits, _, . and -"
            )
    for name in only:
        if name not in entries:
            raise InvalidInput(str(path), f"has no array {name!r}", f"it has {', '.join(list(entries)[:20])}")
    chosen = {name: entry for name, entry in entries.items() if not only or name in only}
    total = sum(entry.file_size for entry in chosen.values())
    if total > MAX_BYTES:
        raise InvalidInput(str(path), f"holds {total} bytes unpacked", f"up to {MAX_BYTES} are read")
    return chosen


def _array(path: Path, archive: zipfile.ZipFile, name: str, entry: zipfile.ZipInfo) -> Array:
    # numpy makes room for what the header says before it reads, so the header is checked against the size.
    try:
        with archive.open(entry) as source:
            shape, _, dtype = _HEADERS[np.lib.format.read_magic(source)](source)
            size = math.prod(shape) * dtype.itemsize
            if dtype.hasobject or min(shape, default=0) < 0 or size != entry.file_size - source.tell():
                raise ValueError
        with archive.open(entry) as source:
            array: Array = np.lib.format.read_array(source, allow_pickle=False)
            return array
    except (ValueError, KeyError, OverflowError, TypeError):
        problem = f"holds no plain array as {name!r}"
        raise InvalidInput(str(path), problem, "write numbers or texts with numpy.savez") from None
