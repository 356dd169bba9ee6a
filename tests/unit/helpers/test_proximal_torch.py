"""FedProx under whatever way of training: equal to gradient descent that was worked out in numpy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedn.domain.errors import InvalidInput, InvalidModel
from fedn.helpers.torch import TorchHelper

torch = pytest.importorskip("torch", reason="needs the extra 'torch'")
nn, SGD = torch.nn, torch.optim.SGD

RANDOM = np.random.default_rng(3)
X, START = RANDOM.normal(size=(20, 3)), RANDOM.normal(size=(1, 3))
Y = X @ np.array([[2.0, -1.0, 0.5]]).T
RATE, MU, STEPS = 0.1, 0.7, 6
Train = Callable[[Any], None]


def by_hand(mu: float, momentum: float = 0.0) -> np.ndarray:
    """Weights after gradient descent on mean squared error + mu/2 · ‖w - START‖², in float64."""
    weights, velocity = START.copy(), np.zeros_like(START)
    for _ in range(STEPS):
        gradient = 2 * (X @ weights.T - Y).T @ X / len(X) + mu * (weights - START)
        velocity = momentum * velocity + gradient
        weights = weights - RATE * velocity
    return weights


def model() -> Any:
    linear = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    linear.weight.data = torch.tensor(START)
    return linear


def loss_of(linear: Any, scale: float = 1.0) -> Any:
    loss = scale * nn.functional.mse_loss(linear(torch.tensor(X)), torch.tensor(Y))
    loss.backward()
    return loss


def descend(linear: Any, optimizer: Any = None, **options: Any) -> None:
    optimizer = optimizer or SGD(linear.parameters(), lr=RATE, **options)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(linear)
        optimizer.step()


def weights_after(train: Train, mu: float = MU) -> np.ndarray:
    linear = model()
    with TorchHelper().proximal(linear, mu):
        train(linear)
    return linear.weight.detach().numpy()


def with_momentum(linear: Any) -> None:
    descend(linear, momentum=0.9)


def keeping_gradients(linear: Any) -> None:
    optimizer = SGD(linear.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=False)
        loss_of(linear)
        optimizer.step()


def in_small_pieces(linear: Any) -> None:
    optimizer = SGD(linear.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        for _ in range(4):
            loss_of(linear, 1 / 4)
        optimizer.step()


def with_a_closure(linear: Any) -> None:
    optimizer = SGD(linear.parameters(), lr=RATE)

    def closure() -> Any:
        optimizer.zero_grad()
        return loss_of(linear)

    for number in range(STEPS):
        optimizer.step(closure) if number % 2 else optimizer.step(closure=closure)


def through_another_optimizer(linear: Any) -> None:
    class Outer(SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    class Wrapper(torch.optim.Optimizer):
        def __init__(self, inner: Any) -> None:
            super().__init__(inner.param_groups, {})
            self.inner = inner

        def step(self, closure: Any = None) -> Any:
            return self.inner.step(closure)

    descend(linear, Wrapper(Outer(linear.parameters(), lr=RATE)))


def with_scaled_gradients(linear: Any, fused: bool = False) -> None:
    optimizer, scaler = SGD(linear.parameters(), lr=RATE, fused=fused), torch.amp.GradScaler("cpu")
    for _ in range(STEPS):
        optimizer.zero_grad()
        scaler.scale(nn.functional.mse_loss(linear(torch.tensor(X)), torch.tensor(Y))).backward()
        scaler.step(optimizer)
        scaler.update()


def fused_with_scaled_gradients(linear: Any) -> None:
    with_scaled_gradients(linear, fused=True)


WAYS = [
    descend, keeping_gradients, in_small_pieces, with_a_closure, through_another_optimizer,
    with_scaled_gradients, fused_with_scaled_gradients,
]  # fmt: skip


@pytest.mark.parametrize("train", WAYS)
@pytest.mark.parametrize("mu", [0.0, MU])
def test_it_is_gradient_descent_with_the_proximal_term(train: Train, mu: float) -> None:
    np.testing.assert_allclose(weights_after(train, mu), by_hand(mu), rtol=1e-12)
    assert np.abs(by_hand(MU) - by_hand(0)).max() > 0.1


def test_momentum_remembers_the_pull_too() -> None:
    np.testing.assert_allclose(weights_after(with_momentum), by_hand(MU, 0.9), rtol=1e-12)


def test_a_line_search_ends_in_the_minimum_of_loss_and_proximal_term() -> None:
    def train(linear: Any) -> None:
        optimizer = torch.optim.LBFGS(linear.parameters(), line_search_fn="strong_wolfe", max_iter=50)

        def closure() -> Any:
            optimizer.zero_grad()
            return loss_of(linear)

        optimizer.step(closure)

    hessian = 2 * X.T @ X / len(X)
    minimum = np.linalg.solve(hessian + MU * np.eye(3), 2 * X.T @ Y / len(X) + MU * START.T).T
    np.testing.assert_allclose(weights_after(train), minimum, rtol=1e-6)


def test_only_the_model_in_the_block_is_pulled_and_only_there() -> None:
    inside, outside = model(), model()
    with TorchHelper().proximal(inside, MU):
        descend(inside)
        descend(outside)
    np.testing.assert_allclose(inside.weight.detach().numpy(), by_hand(MU), rtol=1e-12)
    np.testing.assert_allclose(outside.weight.detach().numpy(), by_hand(0), rtol=1e-12)
    inside.weight.data = torch.tensor(START)
    descend(inside)
    np.testing.assert_allclose(inside.weight.detach().numpy(), by_hand(0), rtol=1e-12)


def test_several_clients_may_train_in_one_process() -> None:
    strengths = [0.0, 0.2, 0.7, 1.5]
    found: dict[float, np.ndarray] = {}

    def client(mu: float) -> None:
        for _ in range(20):
            found[mu] = weights_after(descend, mu)

    threads = [threading.Thread(target=client, args=(mu,)) for mu in strengths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for mu in strengths:
        np.testing.assert_allclose(found[mu], by_hand(mu), rtol=1e-12)


def test_every_row_of_a_sparse_gradient_is_pulled() -> None:
    embedding = nn.Embedding(4, 2, sparse=True)
    start = embedding.weight.detach().clone()
    with TorchHelper().proximal(embedding, MU):
        optimizer = SGD(embedding.parameters(), lr=RATE)
        for row in (0, 1):
            optimizer.zero_grad()
            embedding(torch.tensor([row])).sum().backward()
            optimizer.step()
    moved = (embedding.weight.detach() - start).numpy()
    np.testing.assert_allclose(moved[:, 0], [-RATE * (1 - RATE * MU), -RATE, 0, 0], atol=1e-6)


def test_a_parameter_of_another_dtype_than_it_began_with_is_pulled() -> None:
    def train(linear: Any) -> None:
        descend(linear.to(torch.float64))

    linear = model().to(torch.float32)
    with TorchHelper().proximal(linear, MU):
        train(linear)
    np.testing.assert_allclose(linear.weight.detach().numpy(), by_hand(MU), rtol=1e-5)


def test_frozen_parameters_and_those_without_gradient_stay_as_they_are() -> None:
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 1))
    net[0].requires_grad_(False)
    before = [p.detach().clone() for p in net.parameters()]
    with TorchHelper().proximal(net, MU):
        optimizer = SGD(net.parameters(), lr=RATE)
        for _ in range(2):
            net[1].weight.grad = torch.ones(1, 3)
            optimizer.step()
    moved = [
        (p.detach() - old).abs().max().item() > 0 for p, old in zip(net.parameters(), before, strict=True)
    ]
    assert moved == [False, True, False]


def test_training_without_an_optimizer_of_pytorch_is_told() -> None:
    def train(linear: Any) -> None:
        loss_of(linear)
        linear.weight.data -= RATE * linear.weight.grad

    with pytest.raises(InvalidInput, match=r"app.train\(\): ran with proximal_mu = 0.7, but no optimizer"):
        weights_after(train)


def test_one_model_is_in_one_block() -> None:
    linear = model()
    with TorchHelper().proximal(linear, MU):
        with pytest.raises(InvalidModel, match="is in training with FedProx already"):
            TorchHelper().proximal(linear, MU).__enter__()
        descend(linear)
    np.testing.assert_allclose(linear.weight.detach().numpy(), by_hand(MU), rtol=1e-12)
