"""Arrays to files and back: an update is laid out like its base model, to the header's last byte."""

from __future__ import annotations

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load, save

from fedn.domain.errors import InvalidModel
from fedn.helpers.files import layout_of, read_file, seed_file, write_update

TENSORS = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "double": np.array([0.1, 0.2]),
    "half": np.array([1.5], np.float16),
    "scalar": np.array(4.0),
    "empty": np.zeros((0, 3), np.float32),
    "steps": np.array([7, -7], np.int64),
    "mask": np.array([True, False, True]),
}
BASE = memoryview(save(TENSORS, metadata={"made": "by a test"}))


def bfloat16_file(words: list[int], pad: int = 0) -> memoryview:
    entries = {"b": {"dtype": "BF16", "shape": [len(words)], "data_offsets": [0, 2 * len(words)]}}
    header = json.dumps(entries).encode() + b" " * pad
    return memoryview(len(header).to_bytes(8, "little") + header + np.array(words, "<u2").tobytes())


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and np.array_equal(one[name], other[name])
        for name in one
    )


def test_reading_gives_arrays_of_their_own() -> None:
    file = bytearray(BASE)
    tensors = read_file(memoryview(file))
    file[-50:] = b"\xff" * 50
    assert same(tensors, TENSORS)
    assert all(array.flags.owndata or array.base.flags.owndata for array in tensors.values())
    assert all(array.flags.writeable and array.flags.aligned for array in tensors.values())


@pytest.mark.parametrize("pad", range(8))
def test_bfloat16_is_read_as_float32_and_written_back(pad: int) -> None:
    base = bfloat16_file([0x3F80, 0xC000, 0x0001], pad)
    tensors = read_file(base)
    assert tensors["b"].dtype == np.float32
    assert tensors["b"].tolist() == [1.0, -2.0, 2.0**-133]
    assert write_update(base, layout_of(base), tensors) == base
    tensors["b"] = np.array([1 + 2**-8 + 2**-40, 0.0, -1.0])
    update = write_update(base, layout_of(base), tensors)
    assert np.frombuffer(update[-6:], "<u2").tolist() == [0x3F81, 0, 0xBF80]


def test_a_seed_keeps_bfloat16_through_load_and_update() -> None:
    values = np.array([[1.0, -2.0, 2.0**-133], [3.0, 0.5, 0.0]]).T
    seed = {"b": values.astype(ml_dtypes.bfloat16), "s": np.array(1.5, ml_dtypes.bfloat16), "f": np.ones(3)}
    file = memoryview(seed_file(seed))
    entries = json.loads(bytes(file[8 : 8 + int.from_bytes(file[:8], "little")]))
    assert [entries[name]["dtype"] for name in "bsf"] == ["BF16", "BF16", "F64"]
    tensors = read_file(file)
    assert tensors["b"].dtype == np.float32
    assert tensors["b"].tolist() == values.tolist()
    assert tensors["s"].tolist() == 1.5
    assert write_update(file, layout_of(file), tensors) == file
    assert write_update(file, layout_of(file), seed) == file


def test_bfloat16_is_taken_for_any_other_float_and_for_nothing_else() -> None:
    update = write_update(BASE, layout_of(BASE), TENSORS | {"double": np.array([0.5, 3], ml_dtypes.bfloat16)})
    assert load(update)["double"].tolist() == [0.5, 3.0]
    with pytest.raises(InvalidModel, match="tensor 'steps': has dtype bfloat16, the base model's is I64"):
        write_update(BASE, layout_of(BASE), TENSORS | {"steps": np.zeros(2, ml_dtypes.bfloat16)})


def test_an_unchanged_model_is_the_same_file() -> None:
    assert write_update(BASE, layout_of(BASE), read_file(BASE)) == BASE


def test_an_update_keeps_the_header_and_the_dtypes() -> None:
    changed = {name: (array + 1 if array.dtype != bool else ~array) for name, array in TENSORS.items()}
    changed["weights"] = np.asfortranarray(changed["weights"].astype(np.float64))
    changed["double"] = changed["double"].astype(">f8")
    changed["steps"] = changed["steps"].astype(np.int32)
    update = write_update(BASE, layout_of(BASE), dict(reversed(changed.items())))
    start = layout_of(BASE).data_start
    assert update[:start] == BASE[:start]
    after = load(update)
    assert after["weights"].tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert after["weights"].dtype == np.float32
    assert after["double"].tolist() == [1.1, 1.2]
    assert after["steps"].tolist() == [8, -6]
    assert after["mask"].tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"weights": None}, "tensor 'weights': is missing"),
        ({"more": np.zeros(1)}, "tensor 'more': is not in the base model"),
        ({"weights": np.zeros((3, 2), np.float32)}, r"tensor 'weights': has shape \[3, 2\], .* \[2, 3\]"),
        ({"weights": np.zeros((2, 3), int)}, "tensor 'weights': has dtype int64, the base model's is F32"),
        ({"steps": np.zeros(2)}, "tensor 'steps': has dtype float64, the base model's is I64"),
        ({"mask": np.array([0, 1, 2])}, "tensor 'mask': has values that do not fit BOOL"),
        ({"half": np.array([7e4])}, "tensor 'half': has values beyond the range of F16"),
        ({"scalar": np.array([4.0])}, r"tensor 'scalar': has shape \[1\]"),
        ({"double": np.array(["a", "b"])}, "tensor 'double': has dtype <U1"),
    ],
)
def test_what_is_not_laid_out_like_the_base_model_is_refused(change: dict[str, Any], problem: str) -> None:
    tensors = {name: array for name, array in (TENSORS | change).items() if array is not None}
    with pytest.raises(InvalidModel, match=problem):
        write_update(BASE, layout_of(BASE), tensors)


def test_numbers_that_are_not_finite_pass_for_the_combiner_to_refuse() -> None:
    update = write_update(BASE, layout_of(BASE), TENSORS | {"half": np.array([np.inf])})
    assert load(update)["half"].tolist() == [np.inf]


def test_a_seed_file_is_read_by_everyone() -> None:
    file = seed_file(TENSORS | {"big": np.arange(3, dtype=">f4"), "turned": TENSORS["weights"].T})
    after = load(file)
    assert after["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert after["big"].tolist() == [0, 1, 2]
    assert same(read_file(memoryview(file)), after)


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({}, "holds no tensors"),
        ({"w": [1.0, 2.0]}, "tensor 'w': is a list, not a numpy array"),
        ({"w": np.array(["a"])}, "tensor 'w': has dtype <U1"),
        ({"w": np.array([None])}, "tensor 'w': has dtype object"),
        ({"w": np.zeros(2, complex)}, "tensor 'w': has dtype complex128"),
        ({"w": np.zeros(2, ml_dtypes.float8_e5m2)}, "tensor 'w': has dtype float8_e5m2"),
        ({3: np.zeros(2)}, "tensor 3: is not named by a text"),
    ],
)
def test_what_no_file_can_hold_is_refused(tensors: dict[Any, Any], problem: str) -> None:
    with pytest.raises(InvalidModel, match=problem):
        seed_file(tensors)


@pytest.mark.parametrize("cut", [0, 4, 20, len(BASE) - 1])
def test_a_damaged_file_is_refused(cut: int) -> None:
    with pytest.raises(InvalidModel):
        read_file(BASE[:cut])
