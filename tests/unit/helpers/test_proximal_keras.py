"""FedProx under whatever way of training Keras: equal to gradient descent that was worked out in numpy.

`test_keras_helper` runs this file once more in a process on PyTorch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedn.domain.errors import InvalidInput, InvalidModel
from fedn.helpers.keras import KerasHelper

keras = pytest.importorskip("keras", reason="needs the extra 'keras'")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
K, SGD = keras.layers, keras.optimizers.SGD
TENSORFLOW = keras.backend.backend() == "tensorflow"

RANDOM = np.random.default_rng(3)
X, START = RANDOM.normal(size=(20, 3)), RANDOM.normal(size=(3, 1))
Y = X @ np.array([[2.0], [-1.0], [0.5]])
RATE, MU, STEPS = 0.1, 0.7, 6
Train = Callable[[Any], None]


def by_hand(mu: float, momentum: float = 0.0, steps: int = STEPS) -> np.ndarray:
    """Weights after gradient descent on mean squared error + mu/2 · ‖w - START‖²."""
    weights, velocity = START.copy(), np.zeros_like(START)
    for _ in range(steps):
        gradient = 2 * X.T @ (X @ weights - Y) / len(X) + mu * (weights - START)
        velocity = momentum * velocity - RATE * gradient
        weights = weights + velocity
    return weights


def build() -> Any:
    model = keras.Sequential([keras.Input((3,)), K.Dense(1, use_bias=False)])
    model.set_weights([START])
    return model


def fit(model: Any, epochs: int = STEPS, batch: int = len(X)) -> None:
    model.fit(X, Y, batch_size=batch, epochs=epochs, shuffle=False, verbose=0)


def compiled(optimizer: Any = None, **options: Any) -> Any:
    model = build()
    model.compile(optimizer or SGD(RATE), "mse", **options)
    return model


def weights(model: Any) -> np.ndarray:
    return np.array(model.get_weights()[0])


def is_about(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def compile_and_fit(model: Any) -> None:
    model.compile(SGD(RATE), "mse")
    fit(model)


def fit_eagerly(model: Any) -> None:
    model.compile(SGD(RATE), "mse", run_eagerly=True)
    fit(model)


def fit_with_xla(model: Any) -> None:
    model.compile(SGD(RATE), "mse", jit_compile=TENSORFLOW)
    fit(model)


def train_on_batches(model: Any) -> None:
    model.compile(SGD(RATE), "mse")
    for _ in range(STEPS):
        model.train_on_batch(X, Y)


def accumulate(model: Any) -> None:
    model.compile(SGD(RATE, gradient_accumulation_steps=2), "mse")
    fit(model, batch=len(X) // 2)


def with_a_loss_scale(model: Any) -> None:
    model.compile(SGD(RATE, loss_scale_factor=256.0), "mse")
    fit(model)


def with_a_moving_loss_scale(model: Any) -> None:
    model.compile(keras.optimizers.LossScaleOptimizer(SGD(RATE), initial_scale=256.0), "mse")
    fit(model)


def with_an_optimizer_of_ones_own(model: Any) -> None:
    class Own(SGD):
        def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
            return super().apply(grads, trainable_variables)

    model.compile(Own(RATE), "mse")
    fit(model)


def with_a_loop_of_ones_own(model: Any) -> None:
    optimizer, inputs, wanted = SGD(RATE), X.astype("float32"), Y.astype("float32")

    def loss() -> Any:
        return keras.ops.mean(keras.ops.square(keras.ops.subtract(model(inputs), wanted)))

    for _ in range(STEPS):
        if TENSORFLOW:
            import tensorflow as tf

            with tf.GradientTape() as tape:
                value = loss()
            optimizer.apply_gradients(
                zip(tape.gradient(value, model.trainable_variables), model.trainable_variables, strict=True)
            )
        else:
            model.zero_grad()
            loss().backward()
            optimizer.apply([v.value.grad for v in model.trainable_variables], model.trainable_variables)


WAYS = [
    compile_and_fit, fit_eagerly, fit_with_xla, train_on_batches, accumulate, with_a_loss_scale,
    with_a_moving_loss_scale, with_an_optimizer_of_ones_own, with_a_loop_of_ones_own,
]  # fmt: skip


@pytest.mark.parametrize(("train", "mu"), [(compile_and_fit, 0.0), *((way, MU) for way in WAYS)])
def test_it_is_gradient_descent_with_the_proximal_term(train: Train, mu: float) -> None:
    model = build()
    with KerasHelper().proximal(model, mu):
        train(model)
    is_about(weights(model), by_hand(mu))
    assert np.abs(by_hand(MU) - by_hand(0)).max() > 0.1


def test_momentum_remembers_the_pull_too() -> None:
    model = compiled(SGD(RATE, momentum=0.9))
    with KerasHelper().proximal(model, MU):
        fit(model)
    is_about(weights(model), by_hand(MU, 0.9))


def test_a_graph_from_before_is_not_used_inside_nor_the_one_from_inside_afterwards() -> None:
    model = compiled()
    for mu in (0.0, MU, 0.0):
        model.set_weights([START])
        with KerasHelper().proximal(model, mu):
            fit(model)
        is_about(weights(model), by_hand(mu))


def test_it_pulls_to_where_the_block_began_not_to_where_the_model_did() -> None:
    model = compiled()
    with KerasHelper().proximal(model, MU):
        fit(model)
    first = weights(model)
    with KerasHelper().proximal(model, 1e3):  # a pull this strong would throw it far if it led elsewhere
        fit(model, epochs=1)
    gradient = 2 * X.T @ (X @ first - Y) / len(X)
    is_about(weights(model), first - RATE * gradient)


def test_only_the_model_in_the_block_is_pulled() -> None:
    inside, outside = compiled(), compiled()
    with KerasHelper().proximal(inside, MU):
        fit(inside)
        fit(outside)
    is_about(weights(inside), by_hand(MU))
    is_about(weights(outside), by_hand(0))


def test_several_clients_may_train_in_one_process() -> None:
    strengths, found = [0.0, 0.2, 0.7, 1.5], {}

    def client(mu: float) -> None:
        model = compiled()
        with KerasHelper().proximal(model, mu):
            fit(model)
        found[mu] = weights(model)

    threads = [threading.Thread(target=client, args=(mu,)) for mu in strengths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mu in strengths:
        is_about(found[mu], by_hand(mu))


def test_every_row_of_an_embedding_is_pulled() -> None:
    model = keras.Sequential([keras.Input((1,), dtype="int32"), K.Embedding(4, 2)])
    model.compile(SGD(RATE), lambda wanted, got: keras.ops.sum(got))
    start = weights(model)
    with KerasHelper().proximal(model, MU):
        for row in (0, 1):
            model.fit(np.array([[row]]), np.zeros((1, 1, 2)), verbose=0)
    np.testing.assert_allclose(
        (weights(model) - start)[:, 0], [-RATE * (1 - RATE * MU), -RATE, 0, 0], atol=1e-6
    )


def test_an_optimizer_is_left_as_it_was() -> None:
    before = keras.optimizers.Optimizer.apply
    model = compiled()
    with KerasHelper().proximal(model, MU):
        fit(model)
        assert keras.optimizers.Optimizer.apply is not before
    assert keras.optimizers.Optimizer.apply is before
    assert "apply" not in vars(keras.optimizers.Optimizer)


def test_training_without_an_optimizer_of_keras_is_told() -> None:
    model = build()
    with pytest.raises(InvalidInput, match="but no optimizer of the framework made a step"):  # noqa: SIM117
        with KerasHelper().proximal(model, MU):
            model.set_weights([START / 2])


def test_a_model_that_nothing_can_train_is_told_at_once() -> None:
    model = build()
    model.trainable = False
    with pytest.raises(InvalidInput, match="but no optimizer of the framework made a step"):
        KerasHelper().proximal(model, MU).__enter__()


def test_one_model_is_in_one_block() -> None:
    model = compiled()
    with KerasHelper().proximal(model, MU):
        with pytest.raises(InvalidModel, match="is in training with FedProx already"):
            KerasHelper().proximal(model, MU).__enter__()
        fit(model)
    is_about(weights(model), by_hand(MU))


def test_what_is_no_gradient_is_not_pulled() -> None:
    """Float8 layers pass new scales off as gradients; those of the inputs depend on the inputs alone."""

    def scales_after(mu: float) -> list[np.ndarray]:
        model = compiled()
        model.layers[0].quantize("float8")
        model.compile(SGD(RATE), "mse")
        with KerasHelper().proximal(model, mu):
            fit(model)
        return [np.array(v) for v in model.trainable_variables if v.name.startswith("inputs_")]

    plain, pulled = scales_after(0.0), scales_after(MU)
    assert np.abs(plain[0] - 1).min() > 0
    assert all(np.array_equal(one, other) for one, other in zip(plain, pulled, strict=True))
