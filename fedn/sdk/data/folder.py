"""The folder that `fedn data split` writes: a file per client, and ``partition.json``, which tells of them.

``partition.json`` comes last and goes first, so that a folder which has one is whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput, NotFound
from fedn.sdk.data.checks import MAX_CLIENTS, MAX_LABELS, IntArray
from fedn.sdk.data.counts import Distribution
from fedn.sdk.data.npz import write_npz
from fedn.sdk.data.whole_files import unreadable, written_whole

ABOUT = "partition.json"
NOTE = "For simulation only: in a real federation data stays where it is."
ALL = "all"
"""The one column of counts of data without labels."""
MAX_ABOUT_BYTES = 256 * 2**20
_CLIENT_FILE = re.compile(r"client-[1-9][0-9]{0,4}\.npz")


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """What a folder holds: how it was made, and how many examples of which label each client has."""

    how: Mapping[str, Any]
    counted: Distribution
    labelled: bool
    """Whether the counts are by label; else there is one column of all examples."""

    def as_dict(self) -> dict[str, Any]:
        """As it stands in ``partition.json``."""
        clients = [
            {"file": file_of(number), "examples": int(size), "counts": counts if self.labelled else {}}
            for number, (size, counts) in enumerate(
                zip(self.counted.sizes, self.counted.by_label(), strict=True), 1
            )
        ]
        labels = list(self.counted.labels) if self.labelled else []
        examples = int(self.counted.counts.sum())
        return {"note": NOTE, **self.how, "examples": examples, "labels": labels, "clients": clients}


def file_of(client: int) -> str:
    """The name of the file of a client, counted from 1."""
    return f"client-{client}.npz"


def check_room(folder: Path, force: bool) -> None:
    """Raises InvalidInput if something is in ``folder`` already, unless ``force`` is given."""
    try:
        filled = folder.is_dir() and next(folder.iterdir(), None) is not None
    except OSError as error:
        raise unreadable(folder, error) from None
    if filled and not force:
        raise InvalidInput(str(folder), "is not empty", "give another folder, or --force")


def write_split(
    folder: Path,
    arrays: Mapping[str, Array],
    parts: Sequence[IntArray],
    split: Split,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Write every client's share of ``arrays`` into ``folder``; a split that was there before goes away.

    ``advance`` is told of the bytes of each client's arrays. Other files in the folder are left alone.

    Raises InvalidInput naming the file that can't be written.
    """
    _clear(folder)
    for number, part in enumerate(parts, 1):
        share = {name: array[part] for name, array in arrays.items()}
        with written_whole(folder / file_of(number)) as file:
            write_npz(file, share)
        advance(sum(array.nbytes for array in share.values()))
    with written_whole(folder / ABOUT) as file:
        file.write(json.dumps(split.as_dict(), indent=1, ensure_ascii=False).encode())


def _clear(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ABOUT).unlink(missing_ok=True)
        for file in folder.iterdir():
            if _CLIENT_FILE.fullmatch(file.name):
                file.unlink()
    except OSError as error:
        raise InvalidInput(str(folder), f"can't be written to ({error.strerror})", "check the path") from None


def read_split(folder: Path) -> Split:
    """What ``partition.json`` in ``folder`` tells.

    Raises:
        NotFound: there is none, or a file of a client is gone.
        InvalidInput: it is not one of `write_split`.
    """
    file = folder / ABOUT
    try:
        with file.open("rb") as source:
            text = source.read(MAX_ABOUT_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"{folder} holds no split; `fedn data split FILE --out {folder}` makes one") from None
    except OSError as error:
        raise unreadable(file, error) from None
    try:
        split = _parsed(text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        problem, remedy = "is not as `fedn data split` writes it", "split the data again"
        raise InvalidInput(str(file), problem, remedy) from None
    for number in range(1, len(split.counted.counts) + 1):
        if not (folder / file_of(number)).is_file():
            raise NotFound(f"{folder / file_of(number)} is gone; split the data again")
    return split


def _parsed(text: bytes) -> Split:
    if len(text) > MAX_ABOUT_BYTES:
        raise ValueError
    told: dict[str, Any] = json.loads(text)
    del told["note"], told["examples"]
    labels, clients = told.pop("labels"), told.pop("clients")
    if not (1 <= len(clients) <= MAX_CLIENTS and len(labels) <= MAX_LABELS):
        raise ValueError
    if not all(isinstance(label, str) for label in labels):
        raise ValueError
    if not labels:
        return Split(told, Distribution((ALL,), _column([c["examples"] for c in clients])), labelled=False)
    places = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(clients), len(labels)), np.int64)
    for row, client in zip(counts, clients, strict=True):
        for label, count in client["counts"].items():
            row[places[label]] = _count(count)
    return Split(told, Distribution(tuple(labels), counts), labelled=True)


def _column(sizes: list[Any]) -> IntArray:
    return np.array([[_count(size)] for size in sizes], np.int64)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**40:
        raise ValueError
    return value
