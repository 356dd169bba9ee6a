"""The promises of `fedn.ports.Aggregator`, as tests. See the package docstring for how to use them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest

from fedn.aggregation.blocks import BLOCK_ELEMENTS
from fedn.aggregation.dtypes import Array, encode
from fedn.aggregation.mean import elements_of, empty_sum
from fedn.domain.model import ITEM_BYTES, Layout, parse_layout
from fedn.domain.update import MAX_EXAMPLES
from fedn.ports import Aggregator, Vector

Update = tuple[Array, int]
"""Its numbers and its examples."""

UPDATES: Sequence[Update] = [
    (np.array([1.0, -2.0, 0.5, 8.0, 0.0]), 1),
    (np.array([3.0, 2.0, -0.25, 8.0, 1e-3]), 10),
    (np.array([-1.0, 0.0, 4.0, 8.0, -1e3]), 7),
    (np.array([0.0, 64.0, 0.125, 8.0, 5.0]), 500),
]
"""As far apart as clients may be; on the fourth number they agree."""

CLOSE = 1e-9
"""Sums in another order differ in their last bits."""


class AggregatorContract:
    """Subclass and provide a fixture ``aggregator`` that returns one as a session builds it."""

    def test_it_says_whether_its_parts_merge(self, aggregator: Aggregator) -> None:
        assert isinstance(aggregator.mergeable, bool)

    def test_zero_is_an_empty_vector_of_the_length_it_says(self, aggregator: Aggregator) -> None:
        layout = layout_for("F64", 5)
        zero = empty_sum(aggregator, layout)
        assert zero.shape == (elements_of(aggregator, layout),)
        fold(aggregator, zero, layout, UPDATES[:1])
        again = aggregator.zero(layout)
        assert not np.shares_memory(zero, again)
        np.testing.assert_array_equal(again, type(aggregator)().zero(layout))

    def test_the_report_is_a_finite_model(self, aggregator: Aggregator) -> None:
        layout = layout_for("F64", 5)
        report = reported(aggregator, layout, UPDATES)
        assert report.dtype == np.float64
        assert report.shape == (5,)
        assert np.isfinite(report).all()

    def test_one_client_alone_has_a_report(self, aggregator: Aggregator) -> None:
        assert np.isfinite(reported(aggregator, layout_for("F64", 5), UPDATES[:1])).all()

    def test_the_most_examples_overflow_nothing(self, aggregator: Aggregator) -> None:
        updates = [(values, MAX_EXAMPLES) for values, _ in UPDATES]
        assert np.isfinite(reported(aggregator, layout_for("F64", 5), updates)).all()

    def test_updates_may_come_in_any_order(self, aggregator: Aggregator) -> None:
        layout = layout_for("F64", 5)
        reports = [reported(aggregator, layout, order) for order in permutations(UPDATES)]
        for other in reports[1:]:
            assert_close(other, reports[0])

    @pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
    def test_dtypes_make_no_difference(self, aggregator: Aggregator, dtype: str) -> None:
        exact = [(np.array([1.0, -2.0, 0.5, 8.0, 0.0]) + k, 3 + k) for k in range(4)]
        wanted = reported(aggregator, layout_for("F64", 5), exact)
        assert_close(reported(aggregator, layout_for(dtype, 5), exact), wanted)

    def test_it_may_be_laid_out_in_many_tensors(self, aggregator: Aggregator) -> None:
        """Whole numbers in between have no place in the vector."""
        wanted = reported(aggregator, layout_for("F64", 5), UPDATES)
        apart = layout_for("F64", 2, 3)
        assert_close(reported(aggregator, apart, UPDATES), wanted)

    def test_a_large_model_is_as_many_small_ones(self, aggregator: Aggregator) -> None:
        copies = BLOCK_ELEMENTS // 5 + 1
        large = [(np.tile(values, copies), examples) for values, examples in UPDATES]
        first = reported(aggregator, layout_for("F64", 5 * copies), large)
        halves = reported(aggregator, layout_for("F64", 5, 5 * (copies - 1)), large)
        assert_close(halves, first)

    def test_a_report_needs_no_more_than_the_vector(self, aggregator: Aggregator) -> None:
        """A combiner's bytes are all that the reducer, where another object reports, ever sees."""
        layout = layout_for("F64", 5)
        total = fold(aggregator, aggregator.zero(layout), layout, UPDATES)
        arrived = np.frombuffer(total.tobytes(), np.float64).copy()
        report = type(aggregator)().report(arrived, weight_of(UPDATES))
        np.testing.assert_array_equal(report, aggregator.report(total, weight_of(UPDATES)))

    def test_sums_do_not_disturb_one_another(self, aggregator: Aggregator) -> None:
        """One object folds the updates of many sessions, a little of each at a time."""
        layout = layout_for("F64", 5)
        one, other = aggregator.zero(layout), aggregator.zero(layout)
        for update in UPDATES:
            fold(aggregator, one, layout, [update])
            fold(aggregator, other, layout, [(update[0] * -3, update[1] + 5)])
        wanted = reported(type(aggregator)(), layout, UPDATES)
        np.testing.assert_array_equal(aggregator.report(one, weight_of(UPDATES)), wanted)

    def test_zero_is_neutral(self, aggregator: Aggregator) -> None:
        _needs_merging(aggregator)
        layout = layout_for("F64", 5)
        part = fold(aggregator, aggregator.zero(layout), layout, UPDATES)
        before, into = part.copy(), aggregator.zero(layout)
        aggregator.merge(part, aggregator.zero(layout))
        aggregator.merge(into, part)
        np.testing.assert_array_equal(part, before)
        np.testing.assert_array_equal(into, before)

    @pytest.mark.parametrize(
        "split",
        [[[0], [1, 2, 3]], [[0, 1], [2, 3]], [[3, 1], [0], [2]], [[2], [1], [3], [0]]],
        ids=["uneven", "even", "three", "each alone"],
    )
    def test_parts_merge_to_what_one_combiner_has(
        self, aggregator: Aggregator, split: list[list[int]]
    ) -> None:
        _needs_merging(aggregator)
        layout = layout_for("F64", 5)
        for order in permutations(split):
            total = aggregator.zero(layout)
            for members in order:
                mine = [UPDATES[k] for k in members]
                aggregator.merge(total, fold(aggregator, aggregator.zero(layout), layout, mine))
            report = aggregator.report(total, weight_of(UPDATES))
            assert_close(report, reported(aggregator, layout, UPDATES))


def layout_for(dtype: str, *tensors: int) -> Layout:
    """Float tensors of so many elements, with a whole number behind each."""
    entries: dict[str, object] = {}
    position = 0

    def place(name: str, dtype: str, elements: int) -> None:
        nonlocal position
        end = position + elements * ITEM_BYTES[dtype]
        entries[name] = {"dtype": dtype, "shape": [elements], "data_offsets": [position, end]}
        position = end

    for number, elements in enumerate(tensors):
        place(f"w{number}", dtype, elements)
        place(f"steps{number}", "I32", 1)
    header = json.dumps(entries).encode()
    return parse_layout(len(header).to_bytes(8, "little") + header, 8 + len(header) + position)


def data_of(values: Array, layout: Layout) -> memoryview:
    """An update's data buffer."""
    pieces: list[bytes] = []
    done = 0
    for tensor in layout.tensors:
        if tensor.dtype == "I32":
            pieces.append(b"\xff\xff\xff\x7f")
        else:
            elements = tensor.shape[0]
            pieces.append(encode(values[done : done + elements], tensor.dtype).tobytes())
            done += elements
    return memoryview(b"".join(pieces))


def fold(aggregator: Aggregator, total: Vector, layout: Layout, updates: Sequence[Update]) -> Vector:
    """Accumulate every update into ``total``, which is returned."""
    for values, examples in updates:
        aggregator.accumulate(total, data_of(values, layout), layout, examples)
    return total


def assert_close(found: Vector, wanted: Vector) -> None:
    """Equal but for rounding."""
    np.testing.assert_allclose(found, wanted, rtol=CLOSE, atol=CLOSE)


def weight_of(updates: Sequence[Update]) -> int:
    """Σ examples."""
    return sum(examples for _, examples in updates)


def reported(aggregator: Aggregator, layout: Layout, updates: Sequence[Update]) -> Vector:
    """What a session with one combiner would have."""
    total = fold(aggregator, aggregator.zero(layout), layout, updates)
    return aggregator.report(total, weight_of(updates))


def _needs_merging(aggregator: Aggregator) -> None:
    if not aggregator.mergeable:
        pytest.skip("its parts don't merge, and it says so")
