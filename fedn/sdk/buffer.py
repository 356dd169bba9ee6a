"""New examples of a client, kept until there are enough of them for an update."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import Busy, InvalidInput, Unavailable

Row = tuple[Array, ...]


class Examples:
    """First in, first out, in memory; gone with the process. Safe to use from many threads.

    One update takes ``per_update`` of them; at most ``most_bytes`` bytes are kept.
    """

    def __init__(self, per_update: int, most_bytes: int) -> None:
        self._per_update = per_update
        self._most_bytes = most_bytes
        self._blocks: deque[Row] = deque()
        self._kind: tuple[Any, ...] = ()
        self._waiting = 0
        self._bytes = 0
        self._lock = threading.Condition()

    def __len__(self) -> int:
        return self._waiting

    def add(self, *arrays: Any) -> int:
        """Keep copies of examples, one along the first axis of each array; how many there are now.

        Raises:
            InvalidInput: no array, arrays of several lengths, or of other shapes or dtypes than before.
            Busy: they are more than there is room for; none of them is kept.
        """
        block = tuple(np.array(array) for array in arrays)
        if not block or any(array.ndim == 0 or len(array) != len(block[0]) for array in block):
            shapes = ", ".join(str(list(array.shape)) for array in block) or "none"
            problem = f"arrays of shapes {shapes} do not hold the same number of examples"
            raise InvalidInput("examples", problem, "give arrays with one example along the first axis")
        kind = tuple((array.shape[1:], array.dtype) for array in block)
        with self._lock:
            if self._kind not in ((), kind):
                problem = f"are {_words(kind)}, those before were {_words(self._kind)}"
                raise InvalidInput("examples", problem, "add examples of one kind")
            held = self._bytes + _bytes(block)
            if held > self._most_bytes:
                raise Busy(f"{held} bytes of examples are more than buffer_bytes ({self._most_bytes})")
            self._kind, self._bytes = kind, held
            self._blocks.append(block)
            self._waiting += len(block[0])
            self._lock.notify_all()
            return self._waiting

    @contextmanager
    def taken(self, seconds: float = 0.0, stop: threading.Event | None = None) -> Iterator[Row]:
        """The oldest ``per_update`` examples, stacked; they stay if the block raises.

        They are waited for at most so long, or until `wake` when ``stop`` is set.

        Raises:
            Unavailable: there are fewer.
        """
        with self._lock:
            self._lock.wait_for(lambda: self._enough or (stop is not None and stop.is_set()), seconds)
            if not self._enough:
                raise Unavailable(f"not enough new examples: {self._waiting} of {self._per_update}")
            found = tuple(np.concatenate(columns)[: self._per_update] for columns in self._first())
        yield found
        with self._lock:
            self._drop()

    @property
    def _enough(self) -> bool:
        return self._waiting >= self._per_update

    def wake(self) -> None:
        """Have whoever waits look again whether to stop."""
        with self._lock:
            self._lock.notify_all()

    def _first(self) -> Iterator[tuple[Array, ...]]:
        """For each array, the blocks that hold the oldest examples, and perhaps some more."""
        blocks, found = [], 0
        for block in self._blocks:
            blocks.append(block)
            found += len(block[0])
            if found >= self._per_update:
                break
        return zip(*blocks, strict=True)

    def _drop(self) -> None:
        left = self._per_update
        while left:
            block = self._blocks.popleft()
            self._bytes -= _bytes(block)
            if len(block[0]) > left:
                rest = tuple(array[left:].copy() for array in block)
                self._blocks.appendleft(rest)
                self._bytes += _bytes(rest)
            left -= min(left, len(block[0]))
        self._waiting -= self._per_update


def _bytes(block: Row) -> int:
    return sum(array.nbytes for array in block)


def _words(kind: tuple[Any, ...]) -> str:
    return ", ".join(f"{dtype}{list(shape)}" for shape, dtype in kind)
