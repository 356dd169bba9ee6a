"""MNIST, or a set in its form: from a folder, or as Keras downloads it."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Literal, TypeAlias

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput, Unavailable
from fedn.sdk.data.idx import read_idx
from fedn.sdk.data.npz import read_npz

Subset = Literal["train", "test"]
Pair: TypeAlias = tuple[Array, Array]

VARIABLE = "FEDN_DATA_DIR"
_STEMS: dict[Subset, str] = {"train": "train", "test": "t10k"}
_WITHIN = (".", "mnist", "MNIST/raw")
"""Where in the folder the files may be."""


def mnist(folder: str | Path | None = None) -> tuple[Pair, Pair]:
    """``((x_train, y_train), (x_test, y_test))``: 60,000 and 10,000 handwritten digits.

    Images are uint8 of shape (examples, 28, 28), labels uint8 of shape (examples,). They are read from
    ``folder``, else from the folder that FEDN_DATA_DIR names, else as Keras downloads them. A folder holds
    ``mnist.npz``, or the four idx files ``train-images-idx3-ubyte.gz`` … ``t10k-labels-idx1-ubyte.gz``,
    unpacked or not, directly or in ``mnist/``.

    Raises:
        InvalidInput: the folder has no such files, a file is damaged, or there is neither folder nor Keras.
        Unavailable: Keras could not download it.
    """
    named = folder if folder is not None else os.environ.get(VARIABLE)
    if not named:
        return _downloaded()
    for place in (Path(named) / within for within in _WITHIN):
        if (place / "mnist.npz").is_file():
            return _from_npz(place / "mnist.npz")
        if _find(place, "train-images-idx3-ubyte"):
            return read_subset(place, "train"), read_subset(place, "test")
    field = "folder" if folder is not None else VARIABLE
    problem = f"{named} has neither mnist.npz nor train-images-idx3-ubyte.gz"
    raise InvalidInput(field, problem, "give the folder with the files of MNIST")


def read_subset(folder: Path, subset: Subset) -> Pair:
    """(images, labels) of the idx files in ``folder``. Raises InvalidInput naming the file."""
    names = [f"{_STEMS[subset]}-{part}-ubyte" for part in ("images-idx3", "labels-idx1")]
    found = [_find(folder, name) for name in names]
    for name, file in zip(names, found, strict=True):
        if file is None:
            raise InvalidInput(str(folder), f"has no {name}.gz", "put it there")
    images, labels = (read_idx(file) for file in found if file)
    if len(images) != len(labels):
        problem = f"has {len(images)} {subset} images and {len(labels)} labels"
        raise InvalidInput(str(folder), problem, "get the files again")
    return images, labels


def _find(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / f"{name}.gz", folder / name) if file.is_file()), None)


def _from_npz(file: Path) -> tuple[Pair, Pair]:
    arrays = read_npz(file, ("x_train", "y_train", "x_test", "y_test"))
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def _downloaded() -> tuple[Pair, Pair]:
    remedy = f"put its files into a folder and name that in {VARIABLE}"
    try:
        source = import_module("keras.datasets.mnist")
    except ImportError:
        problem = "names no folder with MNIST, and Keras, which would download it, can't be imported"
        raise InvalidInput(VARIABLE, problem, f"{remedy}, or pip install keras") from None
    try:
        found: tuple[Pair, Pair] = source.load_data()
    except Exception as error:  # Keras raises a bare Exception for what the network does
        raise Unavailable(f"Keras could not download MNIST ({error}); {remedy}") from error
    return found
