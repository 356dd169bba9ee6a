"""The one parser that bytes from outside meet: it reads what is safe and refuses everything else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import save

from fedn.domain.errors import InvalidModel
from fedn.domain.model import FLOAT_DTYPES, ITEM_BYTES, MAX_HEADER_BYTES, Layout, header_bytes, parse_layout

GOOD = save(
    {
        "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
        "bias": np.ones(3, np.float32),
        "half": np.ones(2, np.float16),
        "steps": np.array([7], np.int64),
    },
    metadata={"framework": "none"},
)


def build_file(entries: object, data: bytes = b"") -> bytes:
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + data


def parsed(file: bytes) -> Layout:
    return parse_layout(file, len(file))


def entry(dtype: Any = "F32", shape: Any = (1,), start: Any = 0, end: Any = 4) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_a_file_of_the_library_is_read() -> None:
    layout = parsed(GOOD)
    assert {t.name: (t.dtype, t.shape) for t in layout.tensors} == {
        "weights": ("F32", (2, 3)),
        "bias": ("F32", (3,)),
        "half": ("F16", (2,)),
        "steps": ("I64", (1,)),
    }
    assert layout.file_bytes == len(GOOD)
    assert layout.float_elements == 11


def test_the_digest_names_the_tensors_and_nothing_else() -> None:
    one = parsed(save({"w": np.zeros(3), "n": np.zeros(2, np.int64)}))
    padded = parsed(save({"w": np.ones(3), "n": np.ones(2, np.int64)}, metadata={"long": "x" * 99}))
    wider = parsed(save({"w": np.zeros(4), "n": np.zeros(2, np.int64)}))
    assert one.digest == padded.digest != wider.digest
    assert one.data_start != padded.data_start


def test_neighbouring_floats_of_one_dtype_are_one_run() -> None:
    entries = {
        "a": entry("F32", [2], 0, 8),
        "gone": entry("F64", [0], 8, 8),
        "b": entry("F32", [], 8, 12),
        "n": entry("U8", [1], 12, 13),
        "c": entry("F32", [1], 13, 17),
        "d": entry("BF16", [1], 17, 19),
    }
    layout = parsed(build_file(entries, bytes(19)))
    runs = [(run.dtype, run.start, run.end, run.first) for run in layout.float_runs]
    assert runs == [("F32", 0, 12, 0), ("F32", 13, 17, 3), ("BF16", 17, 19, 4)]
    assert layout.float_elements == 5


@pytest.mark.parametrize(
    ("entries", "data", "problem"),
    [
        ({}, b"", "holds 0 tensors"),
        ([], b"", "not an object"),
        ({"w": entry()}, bytes(3), "is truncated"),
        ({"w": entry()}, bytes(5), "bytes behind its last tensor"),
        ({"w": entry(start=1, end=5)}, bytes(5), "overlaps or leaves a gap"),
        ({"w": entry(), "v": entry()}, bytes(4), "overlaps or leaves a gap"),
        ({"w": entry(), "v": entry(start=2, end=6)}, bytes(6), "overlaps or leaves a gap"),
        ({"w": entry(shape=[2])}, bytes(4), "tensor 'w': has offsets that do not match its shape"),
        ({"w": entry(dtype="F128")}, bytes(4), "tensor 'w': has dtype 'F128'"),
        ({"w": entry(dtype=None)}, bytes(4), "tensor 'w': has dtype"),
        ({"w": entry(shape=[-1])}, bytes(4), "malformed shape"),
        ({"w": entry(shape=[True])}, bytes(4), "malformed shape"),
        ({"w": entry(shape=[1] * 33)}, bytes(4), "malformed shape"),
        ({"w": entry(shape=[2**63])}, bytes(4), "malformed shape"),
        ({"w": entry(shape=[2**62] * 30, start=0, end=4)}, bytes(4), "no memory holds"),
        ({"w": entry(start=0.0)}, bytes(4), "malformed offsets"),
        ({"w": entry(start=4, end=0)}, bytes(4), "do not match"),
        ({"w": {"dtype": "F32", "shape": [1]}}, bytes(4), "malformed header entry"),
        ({"w": entry() | {"more": 1}}, bytes(4), "malformed header entry"),
        ({"w": "F32"}, bytes(4), "malformed header entry"),
    ],
)
def test_a_header_that_lies_is_refused(entries: object, data: bytes, problem: str) -> None:
    with pytest.raises(InvalidModel, match=problem):
        parsed(build_file(entries, data))


@pytest.mark.parametrize("length", [0, 1, MAX_HEADER_BYTES + 1, 2**63, 2**64 - 1])
def test_an_insane_header_length_is_refused_before_it_is_believed(length: int) -> None:
    with pytest.raises(InvalidModel, match="announces a header"):
        header_bytes(length.to_bytes(8, "little"))


@pytest.mark.parametrize(
    "body", [b"{" * 50_000, b"[" * 200_000, b'{"w":' * 50_000, b"\xff\xfe{}", b"1" * 9999]
)
def test_a_header_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidModel, match="header"):
        parsed(len(body).to_bytes(8, "little") + body)


@pytest.mark.parametrize("cut", [0, 7, 8, 9, 60, len(GOOD) - 1])
def test_a_truncated_file_is_refused(cut: int) -> None:
    with pytest.raises(InvalidModel):
        parsed(GOOD[:cut])


def check_safe(file: bytes) -> None:
    """Whatever the bytes: refused as InvalidModel, or a layout that covers them exactly."""
    try:
        layout = parsed(file)
    except InvalidModel:
        return
    position = 0
    for tensor in layout.tensors:
        assert tensor.start == position
        assert (
            tensor.end - tensor.start == int(np.prod(tensor.shape, dtype=object)) * ITEM_BYTES[tensor.dtype]
        )
        position = tensor.end
    assert layout.data_start + position == len(file)
    floats = sum(t.end - t.start for t in layout.tensors if t.dtype in FLOAT_DTYPES)
    assert sum(run.end - run.start for run in layout.float_runs) == floats
    assert len(layout.digest) == 64


@given(st.binary(max_size=300))
def test_random_bytes(file: bytes) -> None:
    check_safe(file)


@given(st.binary(max_size=300))
def test_random_header(header: bytes) -> None:
    check_safe(len(header).to_bytes(8, "little") + header)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=5))
def test_flipped_bytes_of_a_good_file(flips: list[tuple[int, int]]) -> None:
    file = bytearray(GOOD)
    for position, value in flips:
        file[position] = value
    check_safe(bytes(file))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
dimensions = st.lists(st.sampled_from([0, 1, 2, 3, 2**31, 2**62, -1, True, 1.0]), max_size=4)
entries_like = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*ITEM_BYTES, "F8", "", 7]),
        "shape": dimensions | json_values,
        "data_offsets": st.lists(st.integers(-1, 40), min_size=1, max_size=3) | json_values,
    }
)


@given(st.dictionaries(st.text(max_size=8), entries_like | json_values, max_size=4), st.binary(max_size=64))
@example({"\ud800": entry()}, bytes(4))
@example({"__metadata__": {"a": 1}, "": entry()}, bytes(4))
def test_headers_of_nearly_the_right_form(entries: Mapping[str, Any], data: bytes) -> None:
    check_safe(build_file(entries, data))


def test_the_first_difference_is_told_in_words() -> None:
    base = parsed(save({"a": np.zeros(2), "b": np.zeros(3)}))
    for other, words in [
        ({"a": np.zeros(2)}, "tensor 'b' is missing"),
        ({"a": np.zeros(2), "b": np.zeros(3), "c": np.zeros(1)}, "tensor 'c' is not in the base model"),
        ({"a": np.zeros(2), "b": np.zeros(4)}, "tensor 'b' is F64[4], the base model's is F64[3]"),
        (
            {"a": np.zeros(2), "b": np.zeros(3, np.float32)},
            "tensor 'b' is F32[3], the base model's is F64[3]",
        ),
        ({"a": np.ones(2), "b": np.ones(3)}, ""),
    ]:
        assert base.difference(parsed(save(other))) == words
    swapped = {"b": entry("F64", [3], 0, 24), "a": entry("F64", [2], 24, 40)}
    assert base.difference(parsed(build_file(swapped, bytes(40)))) == "the tensors are in another order"
