"""A data set on disk, as `fedn data split` takes it: an npz file, a folder of idx files, or a CSV table."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput
from fedn.sdk.data.checks import looks_like_classes
from fedn.sdk.data.dealing import common_length
from fedn.sdk.data.mnist_files import Subset, read_subset
from fedn.sdk.data.npz import read_npz
from fedn.sdk.data.whole_files import unreadable

MAX_COLUMNS = 10_000
MAX_TEXT = 256
"""Characters of a label or key."""
MAX_CSV_BYTES = 2 * 2**30
MAX_LINE_BYTES = 2**20
USUAL_LABEL = "y"

Advance = Callable[[int], None]
"""Told how many bytes more were read."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Arrays of one length by name; which of them, if any, is the label and the key; what a table's x is."""

    arrays: dict[str, Array]
    label: str | None
    key: str | None
    columns: tuple[str, ...] = ()

    @property
    def examples(self) -> int:
        return common_length(self.arrays)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to read: the names of label and key, only some arrays or columns, which half of a folder."""

    label: str | None = None
    key: str | None = None
    only: tuple[str, ...] = ()
    subset: Subset = "train"

    @property
    def names(self) -> tuple[str, ...]:
        """``only``, with label and key, which are always wanted; empty if everything is."""
        return (*self.only, *(name for name in (self.label, self.key) if name)) if self.only else ()


def read_source(path: Path, wanted: Wanted, advance: Advance = lambda _: None) -> Source:
    """Read a data set.

    An npz file gives its arrays, a folder of idx files ``x`` and ``y``. A CSV table has a header row; its
    label column becomes ``y``, its key column ``key``, and the others, which hold numbers, together ``x`` of
    shape (examples, columns), float64. What is called ``y`` is the label unless another is named.

    Raises:
        InvalidInput: naming the file, the line, the array or the column.
    """
    if path.is_dir():
        source = _from_folder(path, wanted)
    elif path.suffix.lower() == ".csv":
        source = _from_csv(path, wanted, advance)
    elif path.suffix.lower() == ".npz" or not path.exists():
        source = _from_npz(path, wanted, advance)
    else:
        raise InvalidInput(str(path), "is of no known kind", "give an .npz, a .csv or a folder of idx files")
    if source.examples < 1:
        raise InvalidInput(str(path), "holds no examples", "give a file that does")
    return source


def _from_npz(path: Path, wanted: Wanted, advance: Advance) -> Source:
    arrays = read_npz(path, wanted.names, advance)
    for option, name in (("--label", wanted.label), ("--key", wanted.key)):
        if name and name not in arrays:
            raise InvalidInput(option, f"{path} has no array {name!r}", f"it has {', '.join([*arrays][:20])}")
    usual = USUAL_LABEL if USUAL_LABEL in arrays and looks_like_classes(arrays[USUAL_LABEL]) else None
    return Source(arrays, wanted.label or usual, wanted.key)


def _from_folder(path: Path, wanted: Wanted) -> Source:
    images, labels = read_subset(path, wanted.subset)
    arrays = {"x": images, "y": labels}
    for option, name in (("--label", wanted.label), ("--key", wanted.key)):
        if name and name not in arrays:
            raise InvalidInput(option, f"{name!r} is not in a folder of idx files", "it has x and y")
    return Source(arrays, wanted.label or "y", wanted.key)


# --- csv -------------------------------------------------------------------------------------------


def _from_csv(path: Path, wanted: Wanted, advance: Advance) -> Source:
    try:
        with path.open("rb") as file:
            rows = csv.reader(_lines(path, file, advance), strict=True)
            header = _header(path, rows)
            label = wanted.label or (USUAL_LABEL if USUAL_LABEL in header else None)
            _check_columns(path, header, wanted)
            texts = list(dict.fromkeys(name for name in (label, wanted.key) if name))
            numbers = [n for n in header if n not in texts and (not wanted.only or n in wanted.only)]
            table = _Table(path, header, numbers, texts)
            for row in rows:
                table.add(row, rows.line_num)
    except csv.Error as error:
        raise InvalidInput(
            str(path), f"line {rows.line_num}: {error}", "write it as CSV with commas"
        ) from None
    except UnicodeDecodeError:
        raise InvalidInput(str(path), "is not UTF-8 text", "save it as UTF-8") from None
    except OSError as error:
        raise unreadable(path, error) from None
    return _source(table, label, wanted.key)


def _lines(path: Path, file: BinaryIO, advance: Advance) -> Iterator[str]:
    """Lines as text; a byte order mark is dropped. Tells of progress once in a MiB."""
    read, told = 0, 0
    while line := file.readline(MAX_LINE_BYTES):
        read += len(line)
        if read > MAX_CSV_BYTES:
            raise InvalidInput(str(path), f"is larger than {MAX_CSV_BYTES} bytes", "save it as an npz file")
        if len(line) == MAX_LINE_BYTES:
            raise InvalidInput(str(path), f"has a line of {MAX_LINE_BYTES} bytes or more", "write it as CSV")
        if read - told > 2**20:
            advance(read - told)
            told = read
        yield line.decode("utf-8-sig" if read == len(line) else "utf-8")
    advance(read - told)


def _header(path: Path, rows: Iterator[list[str]]) -> list[str]:
    header = [name.strip() for name in next(rows, [])]
    if not header or not all(header) or len({*header}) != len(header):
        raise InvalidInput(str(path), "has no header row of different names", "name each column in line 1")
    if len(header) > MAX_COLUMNS:
        raise InvalidInput(str(path), f"has {len(header)} columns", f"up to {MAX_COLUMNS} are read")
    return header


def _check_columns(path: Path, header: list[str], wanted: Wanted) -> None:
    asked = [("--label", wanted.label), ("--key", wanted.key), *(("--array", name) for name in wanted.only)]
    for option, name in asked:
        if name and name not in header:
            raise InvalidInput(option, f"{path} has no column {name!r}", f"it has {', '.join(header[:20])}")


class _Table:
    """Rows as they come: numbers eight bytes each, labels and keys as texts."""

    def __init__(self, path: Path, header: list[str], numbers: list[str], texts: list[str]) -> None:
        self.path = path
        self.header = header
        self.numbers = numbers
        self._places = [header.index(name) for name in numbers]
        self._text_places = [(name, header.index(name)) for name in texts]
        self.values = array("d")
        self.texts: dict[str, list[str]] = {name: [] for name in texts}
        self._known: dict[str, str] = {}

    def add(self, row: list[str], line: int) -> None:
        if not row:
            return  # an empty line
        if len(row) != len(self.header):
            problem = f"line {line} has {len(row)} cells for {len(self.header)} columns"
            raise InvalidInput(str(self.path), problem, "give each row as many cells as the header has")
        try:
            self.values.extend([float(row[place]) for place in self._places])
        except ValueError:
            raise self._no_number(row, line) from None
        for name, place in self._text_places:
            cell = row[place].strip()
            if not 1 <= len(cell) <= MAX_TEXT:
                problem = f"line {line}, column {name} has {len(cell)} characters"
                raise InvalidInput(str(self.path), problem, f"give 1 to {MAX_TEXT}")
            self.texts[name].append(self._known.setdefault(cell, cell))  # one object for all that are equal

    def _no_number(self, row: list[str], line: int) -> InvalidInput:
        name = next(
            name for name, place in zip(self.numbers, self._places, strict=True) if not _is_number(row[place])
        )
        cell = row[self.header.index(name)]
        problem = f"line {line}, column {name}: {cell[:40]!r} is no number"
        remedy = "fill it in, name the column with --label or --key, or choose others with --array"
        return InvalidInput(str(self.path), problem, remedy)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _source(table: _Table, label: str | None, key: str | None) -> Source:
    arrays: dict[str, Array] = {}
    if table.numbers:
        arrays["x"] = np.frombuffer(table.values, np.float64).reshape(-1, len(table.numbers))
    for name, column in (("y", label), ("key", key)):
        if column:
            arrays[name] = _typed(table.texts[column])
    if not arrays:
        raise InvalidInput(str(table.path), "has no columns left", "choose some with --array")
    return Source(arrays, "y" if label else None, "key" if key else None, tuple(table.numbers))


def _typed(cells: list[str]) -> Array:
    """Whole numbers as int64, else numbers as float64, else texts."""
    for dtype, convert in ((np.int64, int), (np.float64, float)):
        try:
            return np.array([convert(cell) for cell in cells], dtype)
        except (ValueError, OverflowError):
            continue
    return np.array(cells, np.str_)
