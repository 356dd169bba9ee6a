"""`fedn.fit` with the models of every framework, against the same by hand where that is short."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from averaging import OWNERS, SIZES

import fedn
from fedn.domain.errors import InvalidInput, InvalidModel
from fedn.sdk.fit import Round


def blobs(number: int, size: int = 120, features: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Three classes that a linear model can tell apart, mostly."""
    random = np.random.default_rng(number)
    y = random.integers(0, 3, size)
    centres = np.random.default_rng(99).normal(size=(3, features)) * 2
    return (centres[y] + random.normal(size=(size, features))).astype(np.float32), y


BLOBS = {name: blobs(number) for number, name in enumerate(SIZES)}
TEST = blobs(50, 300)


def accuracies(history: list[Round]) -> list[float]:
    return [one.evaluate["accuracy"] for one in history]


@pytest.mark.parametrize("kind", ["SGDClassifier", "MLPClassifier"])
def test_scikit_learn(kind: str):
    linear_model, neural = (
        pytest.importorskip("sklearn.linear_model"),
        pytest.importorskip("sklearn.neural_network"),
    )
    make = {
        "SGDClassifier": lambda: linear_model.SGDClassifier(loss="log_loss"),
        "MLPClassifier": lambda: neural.MLPClassifier((16,), learning_rate_init=0.02, random_state=1),
    }[kind]
    history: list[Round] = []
    estimator = make()
    trained = fedn.fit(
        estimator, BLOBS, rounds=3, epochs=4, evaluate=TEST, callback=history.append, progress=False
    )
    assert trained is estimator
    assert trained.score(*TEST) == pytest.approx(accuracies(history)[-1])
    assert trained.score(*TEST) > 0.8
    assert history[-1].examples == 3 * 96
    assert set(history[-1].validate) == {"accuracy"}
    again = fedn.fit(make(), BLOBS, rounds=3, epochs=4, progress=False)
    assert np.array_equal(again.predict(TEST[0]), trained.predict(TEST[0]))


def test_what_the_built_in_training_would_ignore_is_refused():
    sklearn = pytest.importorskip("sklearn.linear_model")

    def refused(estimator: Any, owners: Any = BLOBS, **arguments: Any) -> str:
        with pytest.raises(InvalidInput) as error:
            fedn.fit(estimator, owners, progress=False, **arguments)
        return error.value.message

    words = refused(sklearn.SGDClassifier(), config={"epochs": 2, "lerning_rate": 10})
    assert words.startswith("config.lerning_rate: is not used by the built-in training of SGDClassifier")
    words = refused(sklearn.LogisticRegression())
    assert "LogisticRegression has no partial_fit" in words
    assert 'SGDClassifier(loss="log_loss")' in words
    assert "SGDRegressor()" in refused(sklearn.LinearRegression())
    assert "are names alone" in refused(sklearn.SGDClassifier(), ["ann", "bob"])


def test_scikit_learn_regression_by_hand():
    """An estimator that steps once an epoch without shrinking: plain gradient descent, example by example."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    regressor = linear_model.SGDRegressor(
        penalty=None, learning_rate="constant", eta0=0.01, shuffle=False, fit_intercept=False
    )
    trained = fedn.fit(regressor, OWNERS, rounds=3, validation_split=0, progress=False)
    w = np.zeros(3)
    for _ in range(3):
        total = np.zeros(3)
        for x, y in OWNERS.values():
            own = w.copy()
            for one, target in zip(x, y, strict=True):
                own -= 0.01 * (one @ own - target) * one
            total += len(x) * own
        w = total / sum(SIZES.values())
    assert trained.coef_ == pytest.approx(w, abs=1e-9)


def test_an_estimator_without_weights_and_a_train_of_ones_own_is_told_what_to_do():
    """Nobody knows what data such a train() works with, so nobody else can give it a shape."""
    estimator = pytest.importorskip("sklearn.linear_model").SGDClassifier()

    def mine(model: Any, data: Any, config: Any) -> Any:
        return model.partial_fit(*data), len(data[0])

    with pytest.raises(InvalidModel, match=r"SGDClassifier is not fitted.*call its partial_fit\(\)"):
        fedn.fit(estimator, BLOBS, rounds=1, train=mine, progress=False)
    estimator.partial_fit(np.zeros((3, 8), np.float32), [0, 1, 2], classes=[0, 1, 2])
    fedn.fit(estimator, BLOBS, rounds=1, train=mine, progress=False)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_keras():
    keras = pytest.importorskip("keras")

    def build() -> Any:
        keras.utils.set_random_seed(1)
        inputs = keras.Input((8,))
        hidden = keras.layers.Dropout(0.2)(keras.layers.Dense(16, activation="relu")(inputs))
        model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(hidden))
        model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    history: list[Round] = []
    model = build()
    trained = fedn.fit(
        model, BLOBS, rounds=3, epochs=3, batch_size=16, evaluate=TEST, callback=history.append,
        progress=False,
    )  # fmt: skip
    assert trained is model
    assert accuracies(history)[-1] > max(0.8, accuracies(history)[0] - 0.05)
    assert trained.evaluate(*TEST, verbose=0, return_dict=True)["accuracy"] == pytest.approx(
        accuracies(history)[-1]
    )
    assert {"loss", "accuracy"} == set(history[0].train) == set(history[0].validate)
    assert int(trained.optimizer.iterations) == 0
    again = fedn.fit(build, BLOBS, rounds=3, epochs=3, batch_size=16, progress=False)
    for one, other in zip(trained.get_weights(), again.get_weights(), strict=True):
        assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_keras_by_hand():
    """One linear layer, plain SGD, one batch that is all examples: the closed form of its gradient."""
    keras = pytest.importorskip("keras")
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(keras.optimizers.SGD(0.05), "mse")
    fedn.fit(model, OWNERS, rounds=3, epochs=2, batch_size=1000, validation_split=0, progress=False)
    w = np.zeros(3)
    for _ in range(3):
        total = np.zeros(3)
        for x, y in OWNERS.values():
            own = w.copy()
            for _ in range(2):
                own -= 0.05 * 2 * x.T @ (x @ own - y) / len(x)
            total += len(x) * own
        w = total / sum(SIZES.values())
    assert model.get_weights()[0][:, 0] == pytest.approx(w, abs=1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_keras_frozen_layers_stay_and_custom_losses_and_classes_work():
    keras = pytest.importorskip("keras")

    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.below = keras.layers.Dense(16, activation="relu", trainable=False)
            self.head = keras.layers.Dense(3)

        def call(self, x: Any) -> Any:
            return self.head(self.below(x))

    def crossentropy(y: Any, logits: Any) -> Any:
        return keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)

    model = Own()
    model(np.zeros((1, 8), np.float32))
    model.compile(keras.optimizers.Adam(0.05), crossentropy, metrics=["accuracy"])
    frozen = np.array(model.below.kernel)
    fedn.fit(model, BLOBS, rounds=3, epochs=3, evaluate=TEST, progress=False)
    assert np.array_equal(np.array(model.below.kernel), frozen)
    assert model.evaluate(*TEST, verbose=0, return_dict=True)["accuracy"] > 0.8


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_a_keras_model_that_is_not_compiled_needs_a_train():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    with pytest.raises(InvalidInput, match=r"train: is missing.*or compile it"):
        fedn.fit(model, BLOBS)


def test_torch_with_dropout_and_the_proximal_term():
    torch = pytest.importorskip("torch")

    def train_module(model: Any, data: Any, config: Any) -> Any:
        x, y = map(torch.as_tensor, data)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        model.train()
        for _ in range(config["epochs"]):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        return model, len(x)

    def accuracy(model: Any, data: Any) -> dict[str, float]:
        model.eval()
        with torch.no_grad():
            right = model(torch.as_tensor(data[0])).argmax(1) == torch.as_tensor(data[1])
        return {"accuracy": right.float().mean().item()}

    def module() -> Any:
        torch.manual_seed(1)
        nn = torch.nn
        return nn.Sequential(
            nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.BatchNorm1d(16), nn.Linear(16, 3)
        )

    given = module()
    history: list[Round] = []
    options = {"rounds": 4, "epochs": 5, "train": train_module, "progress": False}
    trained = fedn.fit(
        given, BLOBS, **options, validate=accuracy, evaluate=lambda model: accuracy(model, TEST),
        callback=history.append,
    )  # fmt: skip
    assert trained is given
    assert accuracies(history)[-1] > 0.8
    assert accuracy(trained, TEST)["accuracy"] == pytest.approx(accuracies(history)[-1])
    again = fedn.fit(module, BLOBS, **options)
    for one, other in zip(trained.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)

    def distance(model: Any) -> float:
        with torch.no_grad():
            return sum(
                float((a - b).norm()) for a, b in zip(model.parameters(), module().parameters(), strict=True)
            )

    held = fedn.fit(module, BLOBS, **options, proximal_mu=10.0)
    assert distance(held) < distance(again)
