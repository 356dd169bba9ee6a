"""The next model's bytes: the base model's header, the step's numbers, everything else untouched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedn.aggregation.blocks import BLOCK_ELEMENTS
from fedn.aggregation.optimizers import Adam, Sgd
from fedn.aggregation.write import CHUNK_BYTES, ServerStep
from fedn.domain.errors import InvalidInput, InvalidModel
from fedn.domain.model import Layout, parse_layout
from fedn.ports import ServerOptimizer, Vector


def parsed(file: bytes) -> tuple[memoryview, Layout]:
    return memoryview(file), parse_layout(file, len(file))


def next_model(file: bytes, mean: Any, optimizer: ServerOptimizer | None = None) -> bytes:
    base, layout = parsed(file)
    return b"".join(ServerStep(base, layout, np.array(mean), optimizer or Sgd()).model())


def test_the_mean_replaces_floats_and_nothing_else() -> None:
    base = save(
        {
            "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
            "half": np.ones(2, np.float16),
            "steps": np.array([7], np.int64),
            "mask": np.array([True, False]),
        },
        metadata={"made": "by a test"},
    )
    _, layout = parsed(base)
    mean = np.linspace(-1, 1, layout.float_elements)
    file = next_model(base, mean)
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
    chunks = list(ServerStep(base, layout, mean, Sgd()).model())
    assert max(map(len, chunks)) <= CHUNK_BYTES
    after = load(b"".join(chunks))
    np.testing.assert_array_equal(after["w"], mean.astype(dtype))
    np.testing.assert_array_equal(after["counters"], counters)


@pytest.mark.parametrize("optimizer", [Sgd(0.5), Adam(0.5)], ids=["sgd", "adam"])
def test_base_mean_and_memory_are_left_alone(optimizer: ServerOptimizer) -> None:
    base, layout = parsed(save({"w": np.ones(4)}))
    mean, memory = np.full(4, 3.0), {name: np.full(4, 0.25) for name in optimizer.slots}
    step = ServerStep(base, layout, mean, optimizer, 2, memory)
    first = b"".join(step.model())
    assert b"".join(step.model()) == first
    assert load(bytes(base))["w"].tolist() == [1.0] * 4
    assert mean.tolist() == [3.0] * 4
    assert all(values.tolist() == [0.25] * 4 for values in memory.values())


def test_bfloat16_rounds_to_nearest_even() -> None:
    header = json.dumps({"b": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode() + b"   "
    base = len(header).to_bytes(8, "little") + header + bytes(6)
    file = next_model(base, [1 + 2**-8, 1 + 2**-8 + 2**-40, -2.0])
    assert np.frombuffer(file[8 + len(header) :], "<u2").tolist() == [0x3F80, 0x3F81, 0xC000]


@pytest.mark.parametrize(("dtype", "value"), [(np.float16, 7e4), (np.float32, 1e39), (np.float64, np.inf)])
def test_a_number_beyond_its_dtype_names_the_tensor(dtype: type, value: float) -> None:
    base = save({"a": np.zeros(3, dtype), "b": np.zeros((2, 2), dtype)})
    mean = np.zeros(7)
    mean[5] = value
    with pytest.raises(InvalidModel, match=r"tensor 'b': the next value is not finite"):
        next_model(base, mean)


def test_a_step_that_overflows_names_the_tensor() -> None:
    with pytest.raises(InvalidModel, match="tensor 'w'"):
        next_model(save({"w": np.array([-1e200])}), [1e200], Sgd(1e200))


class Bad:
    """An optimizer of somebody else's, which does as told."""

    slots: Mapping[str, float] = {"m": 0.0}

    def __init__(self, what: str) -> None:
        self.what = what

    def step(self, base: Vector, mean: Vector, memory: Any, number: int) -> Any:
        match self.what:
            case "raises":
                raise ZeroDivisionError("no examples at all")
            case "shape":
                return mean[:-1]
            case "dtype":
                return mean.astype(np.float32)
            case "list":
                return mean.tolist()
            case "nan":
                return mean * np.nan
            case "writes into the mean":
                mean += 1.0
            case "rebinds":
                memory["m"] = mean
            case "leaves":
                memory["m"][2] = np.inf
        return mean


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("raises", "server_optimizer: Bad failed: ZeroDivisionError: no examples at all"),
        ("shape", r"Bad gave float64 of shape \[3\], not float64 of shape \[4\]"),
        ("dtype", r"Bad gave float32 of shape \[4\], not float64"),
        ("list", "Bad gave list, not a numpy array"),
        ("nan", "tensor 'w': the next value is not finite"),
        ("writes into the mean", "Bad failed: ValueError: .*read-only"),
        ("rebinds", "Bad failed: TypeError: .*item assignment"),
    ],
)
def test_a_bad_optimizer_is_named_with_what_it_did(what: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        next_model(save({"w": np.zeros(4)}), np.ones(4), Bad(what))


def test_a_slot_that_is_not_finite_any_more_names_its_tensor() -> None:
    base, layout = parsed(save({"a": np.zeros(2), "b": np.zeros(2)}))
    step = ServerStep(base, layout, np.ones(4), Bad("leaves"))
    with pytest.raises(InvalidInput, match="its 'm' of tensor 'b' is not finite any more"):
        list(step.slot("m"))
