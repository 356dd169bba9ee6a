"""Estimators through tensors and back: they predict the same and train on from where they were."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Perceptron,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.svm import LinearSVC

from fedn.domain.errors import InvalidModel
from fedn.helpers.sklearn import SklearnHelper
from fedn.testing.contracts.helper import HelperContract

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 4))
TWO = (X[:, 0] > 0).astype(np.int64)
THREE = TWO + (X[:, 1] > 0.5) + 5
REAL = X @ np.array([1.0, -2.0, 0.5, 0.0])
BOTH = np.stack([REAL, -REAL], axis=1)


@dataclass
class App:
    build: Callable[[], Any]


def mlp(**options: Any) -> MLPClassifier:
    return MLPClassifier(hidden_layer_sizes=(7, 3), learning_rate_init=0.02, random_state=0, **options)


def sgd(**options: Any) -> SGDClassifier:
    return SGDClassifier(learning_rate="constant", eta0=0.01, random_state=0, **options)


def regressor(**options: Any) -> MLPRegressor:
    return MLPRegressor(learning_rate_init=0.02, random_state=0, **options)


INCREMENTAL = [
    (sgd, TWO),
    (lambda: sgd(loss="log_loss"), THREE),
    (lambda: Perceptron(random_state=0), THREE),
    (lambda: SGDRegressor(learning_rate="constant", random_state=0), REAL),
    (mlp, TWO),
    (mlp, THREE),
    (lambda: mlp(solver="sgd", learning_rate="adaptive"), THREE),
    (lambda: regressor(hidden_layer_sizes=5), REAL),
    (lambda: regressor(hidden_layer_sizes=(5,)), BOTH),
]
BATCH = [
    (LogisticRegression, TWO),
    (LogisticRegression, THREE),
    (LinearSVC, THREE),
    (LinearRegression, REAL),
    (LinearRegression, BOTH),
    (lambda: Ridge(fit_intercept=False), REAL),
]


def partial_fit(model: Any, y: np.ndarray) -> Any:
    if hasattr(model, "classes_") or y.dtype.kind == "f":
        return model.partial_fit(X, y)
    return model.partial_fit(X, y, classes=np.unique(y))


def through_tensors(model: Any, build: Callable[[], Any]) -> Any:
    helper = SklearnHelper()
    return helper.load(helper.dump(model), App(build))


@pytest.mark.parametrize(("build", "y"), INCREMENTAL + BATCH)
def test_it_predicts_the_same(build: Callable[[], Any], y: np.ndarray) -> None:
    model = partial_fit(build(), y) if hasattr(build(), "partial_fit") else build().fit(X, y)
    again = through_tensors(model, build)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    if hasattr(model, "predict_proba"):
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.score(X, y) == model.score(X, y)


@pytest.mark.parametrize(("build", "y"), INCREMENTAL)
def test_it_trains_on_and_leaves_the_tensors_alone(build: Callable[[], Any], y: np.ndarray) -> None:
    helper = SklearnHelper()
    tensors = helper.dump(partial_fit(build(), y))
    before = {name: array.copy() for name, array in tensors.items()}
    model = helper.load(tensors, App(build))
    # A small step from the weights that were loaded, not a jump to fresh ones.
    after = helper.dump(partial_fit(model, y))
    moved = max(float(np.abs(after[name] - before[name]).max()) for name in before)
    assert 0 < moved < 6.5
    for _ in range(100):
        partial_fit(model, y)
    assert model.score(X, y) > 0.7
    assert all(np.array_equal(tensors[name], before[name]) for name in before)


@pytest.mark.parametrize("build", [sgd, lambda: mlp(solver="sgd", momentum=0.0)])
def test_training_goes_on_exactly_as_it_would_have(build: Callable[[], Any]) -> None:
    """Plain gradient steps remember nothing but the weights, so the detour changes nothing."""
    straight = build().set_params(**({"momentum": 0.0} if "momentum" in build().get_params() else {}))
    detour = through_tensors(
        partial_fit(straight, THREE), lambda: build().set_params(**straight.get_params())
    )
    helper = SklearnHelper()
    want = helper.dump(straight.partial_fit(X, THREE))
    got = helper.dump(detour.partial_fit(X, THREE))
    assert all(np.array_equal(got[name], want[name]) for name in want)


def test_a_client_without_some_of_the_classes_trains_too() -> None:
    some = THREE != 6
    for build in (sgd, mlp):
        model = through_tensors(partial_fit(build(), THREE), build)
        model.partial_fit(X[some], THREE[some])
        assert model.classes_.tolist() == [5, 6, 7]


def test_the_names_are_those_of_scikit_learn() -> None:
    helper = SklearnHelper()
    assert list(helper.dump(partial_fit(sgd(), TWO))) == ["coef_", "intercept_", "classes_"]
    assert sorted(helper.dump(partial_fit(mlp(), THREE))) == [
        "classes_", "coefs_.0", "coefs_.1", "coefs_.2", "intercepts_.0", "intercepts_.1", "intercepts_.2",
    ]  # fmt: skip


def test_whole_classes_become_whole_numbers() -> None:
    model = sgd().fit(X, TWO.astype(float) + 1)
    assert SklearnHelper().dump(model)["classes_"].dtype == np.int64


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (RandomForestClassifier(), "RandomForestClassifier can't be turned into tensors — use a linear"),
        (sgd(average=True).fit(X, TWO), "running averages are not part of a model — set average=False"),
        (sgd(), r"SGDClassifier is not fitted, so it has no weights yet — in build\(\), call its"),
        (mlp(), "MLPClassifier is not fitted"),
        (sgd().fit(X, np.where(TWO, "yes", "no")), "'classes_': are not whole numbers"),
        (None, "NoneType can't be turned into tensors"),
    ],
)  # fmt: skip
def test_what_can_not_be_dumped_says_what_to_do(model: Any, problem: str) -> None:
    with pytest.raises(InvalidModel, match=problem):
        SklearnHelper().dump(model)


def seed(**changes: Any) -> dict[str, np.ndarray]:
    tensors = SklearnHelper().dump(partial_fit(mlp(), THREE)) | changes
    return {name: array for name, array in tensors.items() if array is not None}


@pytest.mark.parametrize(
    ("tensors", "build", "problem"),
    [
        (seed(), lambda: MLPClassifier(hidden_layer_sizes=(9,)), r"hidden layers \[7, 3\], .* has \[9\]"),
        (seed(), sgd, "SGDClassifier needs coef_, intercept_, classes_ — seed the session"),
        (seed(classes_=None), mlp, "MLPClassifier needs"),
        (seed(classes_=np.arange(4)), mlp, "names 4 classes for 3 outputs"),
        (seed(classes_=np.array([0.5, 1, 2])), mlp, "are not whole numbers"),
        (seed(**{"intercepts_.1": np.zeros(4)}), mlp, r"tensor 'intercepts_.1': of shape \[4\]"),
        (seed(**{"coefs_.1": np.zeros((6, 3))}), mlp, "tensor 'coefs_.1': takes 6 numbers"),
        ({"coef_": np.zeros((3, 4)), "intercept_": np.zeros(2), "classes_": np.arange(3)}, sgd,
         "tensor 'intercept_': of shape"),
        ({"coef_": np.zeros((1, 4)), "intercept_": np.zeros(1), "classes_": np.arange(2)}, RidgeClassifier,
         "RidgeClassifier can't be rebuilt from its coefficients"),
        ({"w": np.zeros(3)}, mlp, "model: holds w; MLPClassifier needs"),
        (seed(), RandomForestClassifier, "RandomForestClassifier can't be turned into tensors"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_the_estimator_are_refused(
    tensors: dict[str, Any], build: Callable[[], Any], problem: str
) -> None:
    with pytest.raises(InvalidModel, match=problem):
        SklearnHelper().load(tensors, App(build))


def test_an_app_without_build_is_told() -> None:
    with pytest.raises(InvalidModel, match=r"app: has no build\(\)"):
        SklearnHelper().load(seed(), object())


class TestSklearnContract(HelperContract):
    @pytest.fixture
    def helper(self) -> SklearnHelper:
        return SklearnHelper()

    @pytest.fixture(params=[sgd, lambda: mlp(solver="sgd")], ids=["linear", "perceptron"])
    def app(self, request: pytest.FixtureRequest) -> App:
        return App(request.param)

    @pytest.fixture
    def train(self) -> Callable[[Any], Any]:
        return lambda model: partial_fit(model, THREE)

    @pytest.fixture
    def predict(self) -> Callable[[Any], np.ndarray]:
        return lambda model: model.decision_function(X) if hasattr(model, "coef_") else model.predict_proba(X)
