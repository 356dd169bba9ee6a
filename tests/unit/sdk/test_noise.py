"""Noise on updates: of the right size, on floats alone, and never the same twice."""

from __future__ import annotations

import numpy as np
import pytest

from fedn.domain.errors import InvalidModel
from fedn.helpers.files import read_file, seed_file
from fedn.sdk.noise import noisy

FILE = seed_file({"w": np.full((200, 250), 3.0), "s": np.zeros(20_000, np.float32), "n": np.arange(9)})


def difference(file: bytes, name: str) -> np.ndarray:
    before, after = read_file(memoryview(FILE))[name], read_file(memoryview(file))[name]
    return (after - before).ravel()


def test_every_float_element_gets_a_draw_of_its_own_from_the_normal_distribution():
    added = noisy(FILE, 0.5)
    for name in ("w", "s"):
        drawn = difference(added, name)
        assert (drawn != 0).all()
        # Six standard errors: wrong once in five hundred million runs.
        assert abs(drawn.mean()) < 6 * 0.5 / np.sqrt(drawn.size)
        assert abs(drawn.std() / 0.5 - 1) < 6 / np.sqrt(2 * drawn.size)
        assert abs((np.abs(drawn) < 0.5).mean() - 0.6827) < 6 * 0.4654 / np.sqrt(drawn.size)
    assert not np.array_equal(difference(added, "w")[:100], difference(added, "s")[:100])


def test_whole_numbers_stay_and_the_layout_too():
    added = noisy(FILE, 0.5)
    assert (difference(added, "n") == 0).all()
    assert len(added) == len(FILE)
    assert read_file(memoryview(added))["s"].dtype == np.float32


def test_nobody_can_draw_it_again():
    np.random.seed(0)
    one = noisy(FILE, 0.5)
    np.random.seed(0)
    assert not np.isin(difference(one, "w"), difference(noisy(FILE, 0.5), "w")).any()


def test_what_a_dtype_can_not_hold_is_named():
    file = seed_file({"h": np.full(1000, 65_000.0, np.float16)})
    with pytest.raises(InvalidModel, match="'h': has values beyond the range of F16"):
        noisy(file, 1e5)
