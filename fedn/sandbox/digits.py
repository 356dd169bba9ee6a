"""The sandbox's task: handwritten digits, split unevenly and non-identically among the clients.

The data is the test half of the UCI "Optical Recognition of Handwritten Digits" set that ships inside
scikit-learn: 1,797 images of 8 × 8 pixels (Alpaydin and Kaynak, 1998). Clients run
``fedn.sandbox.digits:app``; the session starts from `seed_model`. Every client computes the same split and
keeps its own share.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput
from fedn.domain.plan import Scalar
from fedn.helpers.files import seed_file
from fedn.sandbox.examples import Work

MAX_CLIENTS = 100
CLASSES = 10
PIXELS = 64
HIDDEN = 32
_SPLIT_SEED = 1797
_LABEL_SKEW = 0.5
"""Concentration of the Dirichlet draw over labels; smaller means fewer digits per client."""
_SIZE_SKEW = 2.0
"""Concentration of the Dirichlet draw over sizes."""


class DigitsApp:
    """One client's images, and a small perceptron trained on them for a few epochs each round."""

    helper = "sklearn"
    hyperparameters: Mapping[str, Scalar] = {"epochs": 3, "learning_rate": 0.01, "batch_size": 32}

    def __init__(self, images: Array, labels: Array) -> None:
        held_out = max(1, len(labels) // 5)
        self.train_images, self.train_labels = images[held_out:], labels[held_out:]
        self.test_images, self.test_labels = images[:held_out], labels[:held_out]

    def build(self) -> Any:
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier(hidden_layer_sizes=(HIDDEN,))

    def train(self, model: Any, config: Mapping[str, Any]) -> tuple[Any, int, dict[str, float]]:
        examples = len(self.train_labels)
        model.set_params(
            learning_rate_init=config["learning_rate"],
            batch_size=min(config["batch_size"], examples),
            random_state=np.random.RandomState(config["seed"] % 2**32),
        )
        for _ in range(config["epochs"]):
            model.partial_fit(self.train_images, self.train_labels)
        return model, examples, {"loss": float(model.loss_)}

    def validate(self, model: Any) -> tuple[int, dict[str, float]]:
        right = float(np.mean(model.predict(self.test_images) == self.test_labels))
        return len(self.test_labels), {"accuracy": right}


def app(index: int | str = 0, clients: int | str = 5) -> DigitsApp:
    """Client ``index`` (from 0) of ``clients``; raises InvalidInput when there is no such client."""
    number, total = _whole("index", index), _whole("clients", clients)
    if not 1 <= total <= MAX_CLIENTS:
        raise InvalidInput("app_options.clients", f"{total} is out of bounds", f"give 1 to {MAX_CLIENTS}")
    if not 0 <= number < total:
        raise InvalidInput("app_options.index", f"{number} is out of bounds", f"give 0 to {total - 1}")
    images, labels = load()
    mine = split(labels, total)[number]
    return DigitsApp(images[mine], labels[mine])


def _whole(name: str, value: int | str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InvalidInput(f"app_options.{name}", f"{value!r} is no whole number", "give digits") from None


def load() -> tuple[Array, Array]:
    """(images, labels): float64 in 0…1 of shape (1797, 64), and int64 of shape (1797,)."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images / 16.0, labels.astype(np.int64)


def split(labels: Array, clients: int) -> list[Array]:
    """Each client's image numbers: disjoint, together all, of uneven sizes and label mixes.

    Sizes are a floor of 40 images (fewer when there are many clients) plus a Dirichlet share of the rest;
    each client then draws its images one label mix after another from what is left. Source of the
    label mix: Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution", 2019.
    """
    random = np.random.default_rng([_SPLIT_SEED, clients])
    left = random.permutation(len(labels))
    shares = []
    for size in _sizes(random, len(labels), clients):
        mix = random.dirichlet(np.full(CLASSES, _LABEL_SKEW)) + 1e-3
        # The largest of u^(1/w) is a draw without replacement by weight w (Efraimidis and Spirakis, 2006).
        keys = np.log(random.random(len(left))) / mix[labels[left]]
        order = np.argsort(-keys, kind="stable")
        shares.append(random.permutation(left[order[:size]]))
        left = left[np.sort(order[size:])]
    return shares


def _sizes(random: np.random.Generator, total: int, clients: int) -> list[int]:
    floor = min(40, total // (2 * clients))
    spare = total - floor * clients
    # Cut points rather than rounded shares: the sizes then add up exactly.
    cuts = np.cumsum(random.dirichlet(np.full(clients, _SIZE_SKEW)))[:-1]
    edges = [0, *(cuts * spare).astype(int).tolist(), spare]
    return [floor + above - below for below, above in pairwise(edges)]


def work() -> Work:
    """What the sandbox trains when it is told nothing else; its clients run `app`."""
    return Work("handwritten digits", seed_file(seed_model()))


def seed_model() -> dict[str, Array]:
    """The tensors that a session starts from: an untrained perceptron, the same at every call."""
    random = np.random.default_rng(_SPLIT_SEED)
    tensors: dict[str, Array] = {}
    for layer, (below, above) in enumerate([(PIXELS, HIDDEN), (HIDDEN, CLASSES)]):
        bound = np.sqrt(6.0 / (below + above))
        tensors[f"coefs_.{layer}"] = random.uniform(-bound, bound, (below, above))
        tensors[f"intercepts_.{layer}"] = np.zeros(above)
    return tensors | {"classes_": np.arange(CLASSES, dtype=np.int64)}
