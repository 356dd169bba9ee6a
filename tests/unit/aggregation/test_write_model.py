"""The next model's bytes: the base model's header, the step's numbers, everything else untouched."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedn.aggregation.blocks import BLOCK_ELEMENTS
from fedn.aggregation.optimizers import Sgd
from fedn.aggregation.write import CHUNK_BYTES, write_model
from fedn.domain.errors import InvalidModel
from fedn.domain.model import Layout, parse_layout


def parsed(file: bytes) -> tuple[memoryview, Layout]:
    return memoryview(file), parse_layout(file, len(file))


def test_the_mean_replaces_floats_and_nothing_else() -> None:
    base, layout = parsed(
        save(
            {
                "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
                "half": np.ones(2, np.float16),
                "steps": np.array([7], np.int64),
                "mask": np.array([True, False]),
            },
            metadata={"made": "by a test"},
        )
    )
    mean = np.linspace(-1, 1, layout.float_elements)
    file = b"".join(write_model(base, layout, mean, Sgd()))
    assert file[: layout.data_start] == base[: layout.data_start]
    after = load(file)
    assert after["steps"].tolist() == [7]
    assert after["mask"].tolist() == [True, False]
    flat = {t.name: after[t.name].ravel().tolist() for t in layout.tensors if t.name in ("weights", "half")}
    assert [x for values in flat.values() for x in values] == pytest.approx(mean.tolist(), abs=5e-4)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_large_model_comes_in_small_chunks(dtype: type) -> None:
    count = 3 * BLOCK_ELEMENTS + 11
    counters = np.arange(CHUNK_BYTES // 4, dtype=np.int64)
    base, layout = parsed(save({"w": np.zeros(count, dtype), "counters": counters}))
    mean = np.random.default_rng(0).normal(size=count)
    chunks = list(write_model(base, layout, mean, Sgd()))
    assert max(map(len, chunks)) <= CHUNK_BYTES
    after = load(b"".join(chunks))
    np.testing.assert_array_equal(after["w"], mean.astype(dtype))
    np.testing.assert_array_equal(after["counters"], counters)


def test_the_mean_itself_is_left_alone() -> None:
    base, layout = parsed(save({"w": np.ones(4)}))
    mean = np.full(4, 3.0)
    chunks = list(write_model(base, layout, mean, Sgd(0.5)))
    assert load(b"".join(chunks))["w"].tolist() == [2.0] * 4
    assert mean.tolist() == [3.0] * 4


def test_bfloat16_rounds_to_nearest_even() -> None:
    header = json.dumps({"b": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode() + b"   "
    base, layout = parsed(len(header).to_bytes(8, "little") + header + bytes(6))
    mean = np.array([1 + 2**-8, 1 + 2**-8 + 2**-40, -2.0])
    file = b"".join(write_model(base, layout, mean, Sgd()))
    assert np.frombuffer(file[layout.data_start :], "<u2").tolist() == [0x3F80, 0x3F81, 0xC000]


@pytest.mark.parametrize(("dtype", "value"), [(np.float16, 7e4), (np.float32, 1e39), (np.float64, np.inf)])
def test_a_number_beyond_its_dtype_names_the_tensor(dtype: type, value: float) -> None:
    base, layout = parsed(save({"a": np.zeros(3, dtype), "b": np.zeros((2, 2), dtype)}))
    mean = np.zeros(7)
    mean[5] = value
    with pytest.raises(InvalidModel, match=r"tensor 'b': the next value is not finite"):
        list(write_model(base, layout, mean, Sgd()))


def test_a_step_that_overflows_names_the_tensor() -> None:
    base, layout = parsed(save({"w": np.array([-1e200])}))
    with pytest.raises(InvalidModel, match="tensor 'w'"):
        list(write_model(base, layout, np.array([1e200]), Sgd(1e200)))


def test_sgd_with_learning_rate_one_is_the_mean_to_the_bit() -> None:
    base, mean = np.array([1e16, 0.1]), np.array([1.0, 0.3])
    assert Sgd().step(base, mean).tolist() == [1.0, 0.3]
    assert Sgd(1.0).step(base, mean).tolist() == [1.0, 0.3]


def test_sgd_goes_part_of_the_way() -> None:
    assert Sgd(0.25).step(np.array([1.0, 0.0]), np.array([5.0, -4.0])).tolist() == [2.0, -1.0]
