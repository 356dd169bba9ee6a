"""What the data tools take: whole numbers, labels, shares and parts, checked before anything is computed."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput

IntArray = npt.NDArray[np.int64]

MAX_EXAMPLES = 10**9
MAX_CLIENTS = 10_000
MAX_LABELS = 10_000
"""Distinct ones; more are a quantity rather than a label, and clients × labels are counted in memory."""
MAX_SEED = 2**64 - 1
MAX_BYTES = 8 * 2**30
"""Of one data set, unpacked."""


def whole(field: str, value: SupportsIndex, low: int, high: int) -> int:
    """``value`` as an int within low … high. Raises InvalidInput naming ``field``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidInput(field, f"{value!r} is no whole number", f"give {low} to {high}") from None
    if not low <= number <= high:
        raise InvalidInput(field, f"{number} is out of bounds", f"give {low} to {high}")
    return number


def one_each(field: str, values: Any) -> Array:
    """``values`` as an array with one number or text for each example. Raises InvalidInput."""
    array = np.asarray(values)
    if array.ndim != 1:
        remedy = "give one for each example, such as array.argmax(axis=1) of one-hot rows"
        raise InvalidInput(field, f"has shape {array.shape} instead of (examples,)", remedy)
    if not len(array):
        raise InvalidInput(field, "is empty", "give one for each example")
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array):
        array = array.astype(np.str_)  # what a pandas column of texts looks like
    if array.dtype.kind not in "biufUS":
        raise InvalidInput(field, f"has dtype {array.dtype}", "give numbers or texts")
    return array


def classes(labels: Array) -> tuple[Array, IntArray]:
    """(the distinct labels in order, for each example the place of its own). Raises InvalidInput."""
    distinct, places = np.unique(labels, return_inverse=True)
    if len(distinct) > MAX_LABELS:
        problem = f"has {len(distinct)} distinct values, more than {MAX_LABELS}"
        raise InvalidInput(
            "labels", problem, "give classes; a quantity can be put into bins with numpy.digitize"
        )
    return distinct, places.astype(np.int64)


def looks_like_classes(values: Array) -> bool:
    """Whether ``values`` are labels by the look of them: a vector of whole numbers or texts that recur."""
    return values.ndim == 1 and values.dtype.kind in "biuUS" and len(np.unique(values)) <= MAX_LABELS


def shares_of(sizes: Sequence[float] | Array | None, clients: int) -> npt.NDArray[np.float64]:
    """The fraction of the examples that each client is to have; sums to 1. Raises InvalidInput."""
    if sizes is None:
        return np.full(clients, 1.0 / clients)
    try:
        shares = np.asarray(sizes, np.float64)
    except (TypeError, ValueError):
        raise InvalidInput("sizes", f"{sizes!r} are no numbers", "give one for each client") from None
    if shares.shape != (clients,):
        problem = f"has shape {shares.shape} for {clients} clients"
        raise InvalidInput("sizes", problem, "give one number for each client")
    if not np.all(np.isfinite(shares) & (shares > 0)):
        raise InvalidInput(
            "sizes", "has a number that is not above 0", "give shares or counts, such as 3,1,1"
        )
    total = math.fsum(shares)  # correctly rounded, so that it is the same on every machine
    if not math.isfinite(total) or (shares / total).min() < 1 / MAX_EXAMPLES:
        raise InvalidInput("sizes", "differ too much", f"give shares of at least 1 in {MAX_EXAMPLES}")
    return np.asarray(shares / total)


def check_parts(parts: Sequence[Any], examples: int) -> list[IntArray]:
    """Index arrays as int64. Raises InvalidInput unless each index is one of ``examples``."""
    whole("clients", len(parts), 1, MAX_CLIENTS)
    return [_part(number, part, examples) for number, part in enumerate(parts, 1)]


def _part(number: int, part: Any, examples: int) -> IntArray:
    indices = np.asarray(part)
    if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
        problem = f"that of client {number} has shape {indices.shape} and dtype {indices.dtype}"
        raise InvalidInput("parts", problem, "give what partition() returned: whole numbers in a row")
    if indices.size and not (indices.min() >= 0 and indices.max() < examples):
        problem = f"that of client {number} has an index beyond the {examples} examples"
        raise InvalidInput("parts", problem, "use them with the data they were made for")
    return indices.astype(np.int64)
