"""The example buffer: exactly so many for an update, first in first out, bounded, and none lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedn.domain.errors import Busy, InvalidInput, Unavailable
from fedn.sdk.buffer import Examples


def numbered(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(first, first + count)
    return np.stack([y, y], axis=1).astype(float), y


def take(examples: Examples) -> list[int]:
    with examples.taken() as (x, y):
        assert (x[:, 0] == y).all()
        return [int(one) for one in y]


def test_an_update_takes_exactly_its_examples_and_the_remainder_is_kept():
    examples = Examples(4, 2**20)
    assert examples.add(*numbered(0, 3)) == 3
    assert examples.add(*numbered(3, 7)) == 10
    assert take(examples) == [0, 1, 2, 3]
    assert take(examples) == [4, 5, 6, 7]
    assert len(examples) == 2
    with pytest.raises(Unavailable, match=r"^not enough new examples: 2 of 4$"), examples.taken():
        pass
    examples.add(*numbered(10, 2))
    assert take(examples) == [8, 9, 10, 11]
    assert len(examples) == 0


def test_what_a_failed_training_took_stays():
    examples = Examples(2, 2**20)
    examples.add(*numbered(0, 3))
    with pytest.raises(ZeroDivisionError), examples.taken():
        raise ZeroDivisionError
    assert take(examples) == [0, 1]


def test_copies_are_kept():
    examples = Examples(1, 2**20)
    x, y = numbered(0, 1)
    examples.add(x, y)
    x[:], y[:] = 9, 9
    assert take(examples) == [0]


def test_its_bytes_are_bounded_and_come_free_again():
    x, y = numbered(0, 4)
    examples = Examples(3, x.nbytes + y.nbytes)
    examples.add(x, y)
    with pytest.raises(Busy, match="buffer_bytes"):
        examples.add(*numbered(4, 1))
    assert len(examples) == 4
    take(examples)
    assert examples.add(*numbered(4, 3)) == 4
    with pytest.raises(Busy):
        examples.add(*numbered(7, 1))


@pytest.mark.parametrize(
    "arrays",
    [(), (np.float64(1),), (np.zeros((3, 2)), np.zeros(2)), (np.zeros((3, 5)), np.zeros(3)),
     (np.zeros((3, 2), np.float32), np.zeros(3, np.int64)), (np.zeros((3, 2)),)],
    ids=["none", "no axis", "two lengths", "another shape", "another dtype", "one array"],
)  # fmt: skip
def test_what_does_not_go_with_the_others_is_refused(arrays):
    examples = Examples(1, 2**20)
    examples.add(*numbered(0, 1))
    with pytest.raises(InvalidInput, match=r"^examples: "):
        examples.add(*arrays)
    assert take(examples) == [0]


def test_a_training_may_wait_for_them_until_nobody_wants_it_any_more():
    examples = Examples(2, 2**20)
    stop, taken = threading.Event(), list[Any]()

    def training() -> None:
        try:
            with examples.taken(60, stop) as (_, y):
                taken.append(y.tolist())
        except Unavailable as error:
            taken.append(error.message)

    def after(act: Callable[[], object]) -> None:
        thread = threading.Thread(target=training)
        thread.start()
        act()
        thread.join(30)
        assert not thread.is_alive()

    after(lambda: [examples.add(*numbered(number, 1)) for number in range(3)])
    after(lambda: [stop.set(), examples.wake()])
    assert taken == [[0, 1], "not enough new examples: 1 of 2"]
