"""A model that is a dict of arrays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedn.domain.errors import InvalidModel
from fedn.helpers.numpy import NumpyHelper
from fedn.testing.contracts.helper import HelperContract


def test_the_app_may_write_to_what_it_gets() -> None:
    frozen = np.arange(3.0)
    frozen.flags.writeable = False
    model = NumpyHelper().load({"w": frozen, "b": np.array(1.0)}, app=None)
    model["w"] += 1
    model["b"] += 1
    assert frozen.tolist() == [0, 1, 2]
    assert NumpyHelper().dump(model)["w"].tolist() == [1, 2, 3]
    assert NumpyHelper().dump(model)["b"].shape == ()


def test_numpy_scalars_are_arrays_without_dimensions() -> None:
    assert NumpyHelper().dump({"b": np.float32(2)})["b"].shape == ()


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ([np.zeros(2)], "model: is a list, not a dict of numpy arrays"),
        (None, "model: is a NoneType"),
        ({"w": 1.0}, "tensor 'w': is a float, not a numpy array"),
        ({"w": np.array([{}])}, "tensor 'w': has dtype object"),
        ({"": np.zeros(1)}, "is not named by a text"),
    ],
)
def test_anything_else_is_refused_by_name(model: Any, problem: str) -> None:
    with pytest.raises(InvalidModel, match=problem):
        NumpyHelper().dump(model)


class TestNumpyContract(HelperContract):
    compares = False

    @pytest.fixture
    def helper(self) -> NumpyHelper:
        return NumpyHelper()

    @pytest.fixture
    def app(self) -> Any:
        def build() -> dict[str, np.ndarray]:
            return {"w": np.full((3, 2), 0.5, np.float32), "b": np.array(2.0), "steps": np.array([0])}

        return SimpleNamespace(build=build)

    @pytest.fixture
    def train(self) -> Any:
        def train(model: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            model["w"] *= np.float32(0.9)
            model["steps"] += 1
            return model

        return train

    @pytest.fixture
    def predict(self) -> Any:
        return lambda model: model["w"].sum(axis=1) + model["b"]
