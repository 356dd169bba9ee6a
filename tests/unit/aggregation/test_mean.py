"""The four verbs, and the reducer's merging of parts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedn.aggregation.mean import Mean, PartMerger
from fedn.domain.errors import InvalidInput
from fedn.domain.model import Layout, parse_layout


def layout_for(**tensors: tuple[str, int, int]) -> Layout:
    """Name to (dtype, elements, item bytes)."""
    entries, position = {}, 0
    for name, (dtype, elements, width) in tensors.items():
        end = position + elements * width
        entries[name] = {"dtype": dtype, "shape": [elements], "data_offsets": [position, end]}
        position = end
    header = json.dumps(entries).encode()
    return parse_layout(len(header).to_bytes(8, "little") + header, 8 + len(header) + position)


ONE = layout_for(w=("F32", 1, 4))
TWO = layout_for(w=("F64", 2, 8))


def raw(*values: float, dtype: type = np.float32) -> memoryview:
    return memoryview(np.array(values, dtype).tobytes())


def test_a_weighted_mean_of_two_clients() -> None:
    mean, total = Mean(), Mean().zero(ONE)
    mean.accumulate(total, raw(1.0), ONE, 3)
    mean.accumulate(total, raw(13.0), ONE, 1)
    assert total.tolist() == [16.0]
    assert mean.report(total, 4).tolist() == [4.0]


def test_equal_weights_give_the_plain_mean() -> None:
    """(1, 1, 1) at one client and (13) at another: by client the mean is 7, by example 4."""
    mean = Mean()
    for weights, expected in [((1, 1), 7.0), ((3, 1), 4.0)]:
        total = mean.zero(ONE)
        for value, weight in zip((1.0, 13.0), weights, strict=True):
            mean.accumulate(total, raw(value), ONE, weight)
        assert mean.report(total, sum(weights)).tolist() == [expected]


def test_the_sum_is_made_in_place_and_in_float64() -> None:
    mean, total = Mean(), Mean().zero(ONE)
    address = total.ctypes.data
    for _ in range(10):
        mean.accumulate(total, raw(0.1), ONE, 2**40)
    assert mean.report(total, 10 * 2**40) is total
    assert total.ctypes.data == address
    assert total[0] == pytest.approx(float(np.float32(0.1)), rel=1e-15)


def test_whole_numbers_take_no_place_in_the_sum() -> None:
    layout = layout_for(a=("F32", 2, 4), steps=("I64", 1, 8), b=("F16", 1, 2))
    data = memoryview(
        np.array([1, 2], "<f4").tobytes() + np.array([99], "<i8").tobytes() + np.array([3], "<f2").tobytes()
    )
    mean, total = Mean(), Mean().zero(layout)
    mean.accumulate(total, data, layout, 10)
    assert total.tolist() == [10.0, 20.0, 30.0]


def test_no_weight_has_no_mean() -> None:
    with pytest.raises(InvalidInput, match="nothing was summed"):
        Mean().report(Mean().zero(ONE), 0)


class TestPartMerger:
    def test_weighted_counts_examples_whatever_their_combiner(self) -> None:
        merger = PartMerger(TWO, "weighted")
        merger.merge("a", np.array([30.0, 3.0]), 3)
        merger.merge("b", np.array([10.0, 1.0]), 1)
        merger.merge("a", np.array([4.0, 0.0]), 4)
        assert merger.weight == 8
        assert merger.report().tolist() == [44 / 8, 4 / 8]

    def test_simple_counts_combiners_whatever_their_examples(self) -> None:
        merger = PartMerger(TWO, "simple")
        merger.merge("a", np.array([30.0, 3.0]), 3)
        merger.merge("b", np.array([20.0, 1.0]), 1)
        merger.merge("a", np.array([10.0, 1.0]), 1)
        assert merger.weight == 5
        assert merger.report().tolist() == [(40 / 4 + 20) / 2, (4 / 4 + 1) / 2]

    def test_weighted_keeps_the_first_array_and_no_other(self) -> None:
        merger = PartMerger(TWO, "weighted")
        first = np.array([1.0, 2.0])
        merger.merge("a", first, 1)
        merger.merge("b", np.array([3.0, 4.0]), 1)
        assert np.shares_memory(merger.report(), first)

    def test_a_read_only_part_is_copied_first(self) -> None:
        merger = PartMerger(TWO, "weighted")
        frozen = np.frombuffer(np.array([1.0, 2.0]).tobytes(), np.float64)
        merger.merge("a", frozen, 1)
        merger.merge("a", frozen, 1)
        assert merger.report().tolist() == [1.0, 2.0]
        assert frozen.tolist() == [1.0, 2.0]

    @pytest.mark.parametrize("averaging", ["weighted", "simple"])
    def test_empty_parts_count_nothing(self, averaging: str) -> None:
        merger = PartMerger(TWO, averaging)
        merger.merge("empty", np.zeros(0), 0)
        merger.merge("a", np.array([2.0, 4.0]), 2)
        assert merger.report().tolist() == [1.0, 2.0]

    @pytest.mark.parametrize("averaging", ["weighted", "simple"])
    def test_nothing_merged_has_no_mean(self, averaging: str) -> None:
        with pytest.raises(InvalidInput, match="no part holds an update"):
            PartMerger(TWO, averaging).report()

    def test_a_part_of_another_length_is_refused_by_name(self) -> None:
        with pytest.raises(InvalidInput, match="from west holds 3 numbers, not 2"):
            PartMerger(TWO, "weighted").merge("west", np.zeros(3), 1)

    def test_unknown_averaging_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match="'median' is unknown"):
            PartMerger(TWO, "median")
