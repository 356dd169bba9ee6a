"""What a server optimizer remembers, as a file: readable by anybody, taken only by the one that wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fedopt import Settings, next_state
from safetensors import safe_open
from safetensors.numpy import load, save

from fedn.aggregation.blocks import BLOCK_ELEMENTS
from fedn.aggregation.memory import check_slots, read_memory, write_memory
from fedn.aggregation.optimizers import Adam, Sgd
from fedn.aggregation.write import CHUNK_BYTES, ServerStep
from fedn.domain.errors import Damaged, InvalidInput
from fedn.domain.model import parse_layout

COUNT = 2 * BLOCK_ELEMENTS + 5
"""Three blocks in one tensor, and one in the other."""
FILE = save({"w": np.zeros(COUNT, np.float32), "b": np.ones(3), "steps": np.arange(2)})
LAYOUT = parse_layout(FILE, len(FILE))
ADAM = Adam(0.1, 0.9, 0.99, 0.5)
MEAN = np.random.default_rng(3).normal(size=LAYOUT.float_elements)


def step_of(number: int = 1, memory: Mapping[str, Any] = {}) -> ServerStep:
    return ServerStep(memoryview(FILE), LAYOUT, MEAN, ADAM, number, memory)


def base() -> Any:
    """The averaged numbers of FILE in layout order."""
    return np.concatenate([load(FILE)[t.name].ravel() for t in LAYOUT.tensors if t.name != "steps"])


def test_two_steps_are_remembered_as_the_paper_has_it(tmp_path: Any) -> None:
    settings, x = Settings("adam", 0.1, 0.9, 0.99, 0.5), base()
    _, m1, v1 = next_state(settings, x, np.zeros_like(MEAN), np.full_like(MEAN, 0.25), MEAN)
    _, m2, v2 = next_state(settings, x, m1, v1, MEAN)

    first = b"".join(write_memory(step_of(), {"session": "s", "round": "1"}))
    remembered = read_memory(memoryview(first), LAYOUT, ADAM)
    chunks = [bytes(chunk) for chunk in write_memory(step_of(2, remembered), {"session": "s", "round": "2"})]
    assert max(map(len, chunks)) <= CHUNK_BYTES
    second = load(b"".join(chunks))
    for found, m, v in ((remembered, m1, v1), (second, m2, v2)):
        np.testing.assert_allclose(found["m"], m, rtol=1e-13, atol=1e-18)
        np.testing.assert_allclose(found["v"], v, rtol=1e-13)
    path = tmp_path / "state.safetensors"
    path.write_bytes(first)
    with safe_open(path, "np") as file:
        assert file.metadata() == {"session": "s", "round": "1"}


def test_the_same_step_is_the_same_bytes_and_another_round_is_not() -> None:
    files = [b"".join(write_memory(step_of(), {"round": number})) for number in ("1", "1", "2")]
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize(
    "other",
    [{"m": np.zeros(3)}, {"m": np.zeros(LAYOUT.float_elements)}, {"m": MEAN, "v": MEAN, "u": MEAN},
     {"m": MEAN, "v": MEAN.astype(np.float32)}],
    ids=["length", "fewer", "more", "dtype"],
)  # fmt: skip
def test_the_state_of_another_optimizer_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="it keeps m, v, but the session's state has m"):
        read_memory(memoryview(save(other)), LAYOUT, ADAM)


def test_bytes_that_are_no_state_are_damaged() -> None:
    with pytest.raises(Damaged, match="state can't be read"):
        read_memory(memoryview(b"nothing of the kind"), LAYOUT, ADAM)


@pytest.mark.parametrize(
    ("slots", "words"),
    [
        (["m"], "not a mapping"),
        ({f"s{k}": 0.0 for k in range(9)}, "at most 8"),
        ({"../m": 0.0}, r"slot '../m' is not a name"),
        ({"__metadata__": 0.0}, "slot '__metadata__' is not a name"),
        ({"m": float("nan")}, "slot 'm' starts at nan"),
        ({"m": "0"}, "slot 'm' starts at '0'"),
    ],
)
def test_slots_are_a_few_names_with_numbers(slots: Any, words: str) -> None:
    optimizer: Any = SimpleNamespace(slots=slots)
    with pytest.raises(InvalidInput, match=words):
        check_slots(optimizer)


def test_the_built_ins_have_good_slots() -> None:
    for optimizer in (Sgd(), Sgd(momentum=0.9), ADAM):
        check_slots(optimizer)
