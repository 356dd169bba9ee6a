"""Finding the numbers of a file wherever they start, and the ones that can't be averaged."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedn.aggregation.blocks import BLOCK_ELEMENTS, check_finite, decode, float_blocks, scratch_for
from fedn.aggregation.dtypes import encode
from fedn.domain.model import ITEM_BYTES, Layout, parse_layout

FLOATS = ["F16", "BF16", "F32", "F64"]


def build_file(tensors: list[tuple[str, str, list[int], bytes]], pad: int = 0) -> memoryview:
    """A safetensors file with ``pad`` spaces after its header, at an address of any alignment."""
    entries, position = {}, 0
    for name, dtype, shape, raw in tensors:
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + len(raw)]}
        position += len(raw)
    header = json.dumps(entries).encode() + b" " * pad
    return memoryview(len(header).to_bytes(8, "little") + header + b"".join(t[3] for t in tensors))


def layout_of(file: memoryview) -> Layout:
    return parse_layout(bytes(file), len(file))


@pytest.mark.parametrize("pad", range(9))
@pytest.mark.parametrize("dtype", FLOATS)
def test_any_header_length_is_read(dtype: str, pad: int) -> None:
    values = np.array([0.0, 1.5, -2.0, 640.0, 2.0**-10])
    file = build_file(
        [("mask", "BOOL", [3], b"\1\0\1"), ("w", dtype, [5], encode(values, dtype).tobytes())], pad
    )
    layout = layout_of(file)
    data = file[layout.data_start :]
    (block,) = float_blocks(layout)
    np.testing.assert_array_equal(decode(data, block, scratch_for(layout)), values)
    assert check_finite(data, layout) == ""


def test_blocks_cover_every_float_once_and_in_order() -> None:
    count = BLOCK_ELEMENTS + 7
    file = build_file(
        [
            ("a", "F32", [count], bytes(4 * count)),
            ("b", "F32", [2], bytes(8)),
            ("steps", "I64", [1], bytes(8)),
            ("empty", "F32", [0], b""),
            ("c", "F64", [3], bytes(24)),
        ]
    )
    layout = layout_of(file)
    blocks = list(float_blocks(layout))
    assert [block.first for block in blocks] == [0, BLOCK_ELEMENTS, count + 2]
    assert [block.elements for block in blocks] == [BLOCK_ELEMENTS, 9, 3]
    assert sum(block.elements for block in blocks) == layout.float_elements
    assert scratch_for(layout).size == BLOCK_ELEMENTS


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("where", [0, 1, BLOCK_ELEMENTS - 1, BLOCK_ELEMENTS, BLOCK_ELEMENTS + 4])
def test_a_number_that_is_not_finite_is_named_by_its_tensor(dtype: str, bad: float, where: int) -> None:
    values = np.ones(BLOCK_ELEMENTS + 5)
    values[where] = bad
    raw = encode(values, dtype).tobytes()
    width = ITEM_BYTES[dtype]
    cut = 2 * width
    file = build_file(
        [
            ("first", dtype, [2], raw[:cut]),
            ("second", dtype, [BLOCK_ELEMENTS + 3], raw[cut:]),
            ("third", dtype, [1], raw[:width]),
        ],
        pad=3,
    )
    layout = layout_of(file)
    assert check_finite(file[layout.data_start :], layout) == ("first" if where < 2 else "second")


@pytest.mark.parametrize(("dtype", "largest"), [("F16", 65504.0), ("BF16", 3.38e38), ("F32", 3.4e38)])
def test_the_largest_numbers_of_a_dtype_are_finite(dtype: str, largest: float) -> None:
    raw = encode(np.array([largest, -largest, 1e-45]), dtype).tobytes()
    file = build_file([("w", dtype, [3], raw)])
    layout = layout_of(file)
    assert check_finite(file[layout.data_start :], layout) == ""


@pytest.mark.parametrize(("value", "name"), [(2.0**959, ""), (-(2.0**960), "w"), (1.7e308, "w")])
def test_a_float64_whose_weighted_sum_could_overflow_counts_as_infinite(value: float, name: str) -> None:
    file = build_file([("w", "F64", [1], np.array([value]).tobytes())])
    layout = layout_of(file)
    assert check_finite(file[layout.data_start :], layout) == name


def test_whole_numbers_are_never_looked_at() -> None:
    file = build_file([("steps", "U32", [1], b"\xff\xff\xff\xff"), ("mask", "BOOL", [1], b"\xff")])
    layout = layout_of(file)
    assert check_finite(file[layout.data_start :], layout) == ""
    assert scratch_for(layout).size == 0
