"""The promises of `fedn.ports.Helper`, as tests. See the package docstring for how to use them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

from fedn.domain.errors import InvalidInput, InvalidModel
from fedn.domain.model import layout_of
from fedn.helpers.files import read_file, seed_file, write_update
from fedn.ports import Helper, ProximalHelper, Tensors

Array = np.ndarray[Any, Any]
Train = Callable[[Any], Any]
Predict = Callable[[Any], Array]


class HelperContract:
    """Subclass and provide these fixtures.

    - ``helper``: a new helper.
    - ``app``: its ``build()`` returns a fresh model with nothing frozen.
    - ``train``: a function that trains a model one small step, the same for the same weights, and returns it.
    - ``predict``: a function from a model to what it predicts for a few inputs, an array of floats.
    - ``frozen_app``: if the helper leaves what is frozen at home, as ``app``, but with a part frozen that
      ``build()`` makes the same every time.
    """

    compares = True
    """Whether load() compares the tensors with what ``app.build()`` returns."""

    @pytest.fixture
    def frozen_app(self) -> Any:
        """None: everything travels."""
        return None

    def test_names_order_shapes_and_dtypes_are_always_the_same(
        self, helper: Helper, app: Any, train: Train
    ) -> None:
        model = train(app.build())
        first = described(helper.dump(model))
        assert described(helper.dump(model)) == first
        assert described(helper.dump(train(app.build()))) == first
        assert described(helper.dump(train(helper.load(helper.dump(model), app)))) == first

    def test_a_file_can_hold_what_is_dumped(self, helper: Helper, app: Any, train: Train) -> None:
        tensors = helper.dump(train(app.build()))
        read = read_file(memoryview(seed_file(tensors)))
        assert read.keys() == tensors.keys()
        assert same(read, tensors)

    def test_training_shows(self, helper: Helper, app: Any, train: Train) -> None:
        model = train(app.build())
        before = helper.dump(model)
        assert distance(helper.dump(train(model)), before) > 0

    def test_a_model_goes_through_a_file_and_back(
        self, helper: Helper, app: Any, train: Train, predict: Predict
    ) -> None:
        model = train(app.build())
        file = memoryview(seed_file(helper.dump(model)))
        again = helper.load(read_file(file), app)
        assert write_update(file, layout_of(file), helper.dump(again)) == file
        np.testing.assert_allclose(predict(again), predict(model), rtol=1e-5)

    def test_a_loaded_model_and_its_tensors_share_nothing(
        self, helper: Helper, app: Any, train: Train, predict: Predict
    ) -> None:
        tensors = aligned(helper.dump(train(app.build())))
        kept = aligned(tensors)
        model = helper.load(tensors, app)
        expected = predict(model).copy()
        for array in tensors.values():
            array.fill(0)
        np.testing.assert_array_equal(predict(model), expected)
        for array in kept.values():
            array.flags.writeable = False
        train(helper.load(kept, app))

    def test_what_was_dumped_does_not_change_with_the_model(
        self, helper: Helper, app: Any, train: Train, predict: Predict
    ) -> None:
        model = train(app.build())
        dumped = helper.dump(model)
        kept, expected = aligned(dumped), predict(model).copy()
        for array in dumped.values():
            array.fill(0)
        np.testing.assert_array_equal(predict(model), expected)
        dumped = helper.dump(model)
        train(model)
        assert same(dumped, kept)

    def test_a_tensor_that_is_missing_left_over_or_misshapen_is_named(
        self, helper: Helper, app: Any, train: Train
    ) -> None:
        if not self.compares:
            pytest.skip("this helper takes tensors as they come")
        tensors = helper.dump(train(app.build()))
        with pytest.raises(InvalidModel, match="left_over"):
            helper.load({**tensors, "left_over": np.zeros(3)}, app)
        for name, array in tensors.items():
            with pytest.raises(InvalidModel, match=re.escape(name)):
                helper.load({other: tensors[other] for other in tensors if other != name}, app)
            with pytest.raises(InvalidModel, match=re.escape(name)):
                helper.load({**tensors, name: array[np.newaxis]}, app)

    def test_an_app_without_build_is_told(self, helper: Helper, app: Any, train: Train) -> None:
        if not self.compares:
            pytest.skip("this helper takes tensors as they come")
        with pytest.raises(InvalidModel, match=r"app: .*build\(\)"):
            helper.load(helper.dump(train(app.build())), object())

    @pytest.mark.parametrize(
        "other", [None, "model", [np.zeros(2)], object()], ids=lambda other: type(other).__name__
    )
    def test_what_is_no_model_is_refused(self, helper: Helper, other: Any) -> None:
        with pytest.raises(InvalidModel, match="model"):
            helper.dump(other)

    def test_what_is_frozen_stays_at_home(
        self, helper: Helper, app: Any, frozen_app: Any, train: Train, predict: Predict
    ) -> None:
        if frozen_app is None:
            pytest.skip("this helper leaves nothing at home")
        everything, model = helper.dump(train(app.build())), train(frozen_app.build())
        some = helper.dump(model)
        assert some
        assert some.keys() < everything.keys()
        np.testing.assert_allclose(predict(helper.load(some, frozen_app)), predict(model), rtol=1e-5)
        with pytest.raises(InvalidModel):
            helper.load(everything, frozen_app)


class ProximalHelperContract(HelperContract):
    """For a helper that can do FedProx too, with the same fixtures."""

    def test_fedprox_keeps_a_model_nearer_to_where_it_began(
        self, helper: ProximalHelper, app: Any, train: Train
    ) -> None:
        near, far = (moved(helper, app, train, mu) for mu in (1.0, 0.0))
        assert 0 < near < far

    def test_fedprox_with_mu_0_is_fedavg(self, helper: ProximalHelper, app: Any, train: Train) -> None:
        plain = moved(helper, app, train, None)
        assert moved(helper, app, train, 0.0) == pytest.approx(plain, rel=1e-4)

    def test_fedprox_ends_with_its_block(self, helper: ProximalHelper, app: Any, train: Train) -> None:
        plain = moved(helper, app, train, None)
        moved(helper, app, train, 1.0)
        with pytest.raises(ZeroDivisionError), helper.proximal(app.build(), 1.0):
            raise ZeroDivisionError
        assert moved(helper, app, train, None) == pytest.approx(plain, rel=1e-4)

    def test_fedprox_without_a_step_is_told(self, helper: ProximalHelper, app: Any) -> None:
        with pytest.raises(InvalidInput, match=r"mu = 0\.5"), helper.proximal(app.build(), 0.5):
            pass

    @pytest.mark.parametrize("mu", [-1.0, math.nan, math.inf, "much"])
    def test_fedprox_takes_numbers_from_0_on(self, helper: ProximalHelper, app: Any, mu: Any) -> None:
        with pytest.raises(InvalidInput, match="mu"), helper.proximal(app.build(), mu):
            pass


def moved(helper: ProximalHelper, app: Any, train: Train, mu: float | None) -> float:
    """How far five steps lead from a model that is all 0.1, with FedProx or (None) without."""
    start = {name: np.full_like(array, 0.1) for name, array in helper.dump(app.build()).items()}
    model = helper.load(start, app)
    with nullcontext() if mu is None else helper.proximal(model, mu):
        for _ in range(5):
            model = train(model)
    return distance(helper.dump(model), start)


def distance(one: Tensors, other: Tensors) -> float:
    """The largest difference of two floats in the same place."""
    floats = [name for name, array in other.items() if "float" in array.dtype.name]
    ways = [one[name].astype(float) - other[name].astype(float) for name in floats]
    return max(float(np.abs(way).max(initial=0)) for way in ways)


def same(one: Tensors, other: Tensors) -> bool:
    """Whether all values are equal."""
    return all(np.array_equal(one[name], other[name]) for name in other)


def described(tensors: Tensors) -> list[tuple[str, tuple[int, ...], str]]:
    """What a layout is made of, in order."""
    return [(name, array.shape, array.dtype.name) for name, array in tensors.items()]


def aligned(tensors: Tensors) -> dict[str, Array]:
    """Copies that start at multiples of 64 bytes, which frameworks like to use as they are."""
    return {name: _aligned(array) for name, array in tensors.items()}


def _aligned(array: Array) -> Array:
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
