"""The sandbox's data: a real set, split without loss, on which the federation learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedn.domain.errors import InvalidInput
from fedn.helpers.sklearn import SklearnHelper
from fedn.sandbox.digits import app, load, seed_model, split


@pytest.mark.parametrize("clients", [1, 2, 5, 20, 100])
def test_every_image_belongs_to_one_client(clients: int) -> None:
    _, labels = load()
    shares = split(labels, clients)
    assert len(shares) == clients
    assert sorted(np.concatenate(shares).tolist()) == list(range(1797))
    assert min(map(len, shares)) >= min(40, 1797 // (2 * clients))


def test_the_split_is_uneven_and_not_identical_and_always_the_same() -> None:
    _, labels = load()
    shares = split(labels, 5)
    assert max(map(len, shares)) > 2 * min(map(len, shares))
    mixes = [np.bincount(labels[share], minlength=10) / len(share) for share in shares]
    assert max(np.abs(one - other).sum() for one in mixes for other in mixes) > 0.5
    assert all(np.array_equal(one, other) for one, other in zip(shares, split(labels, 5), strict=True))


def test_training_and_validation_images_are_apart() -> None:
    mine = app("3", "5")
    train = {image.tobytes() for image in mine.train_images}
    assert not train & {image.tobytes() for image in mine.test_images}
    assert len(mine.test_labels) == (len(mine.train_labels) + len(mine.test_labels)) // 5


@pytest.mark.parametrize(
    ("index", "clients", "problem"),
    [
        ("5", "5", "app_options.index: 5 is out of bounds — give 0 to 4"),
        ("-1", "5", "app_options.index"),
        ("0", "101", "app_options.clients: 101 is out of bounds"),
        ("one", "5", "app_options.index: 'one' is no whole number"),
    ],
)
def test_a_client_that_does_not_exist_is_refused(index: str, clients: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        app(index, clients)


def average(updates: list[tuple[dict[str, Any], int]]) -> dict[str, Any]:
    total = sum(examples for _, examples in updates)
    names = [name for name in updates[0][0] if name != "classes_"]
    mean = {name: sum(tensors[name] * examples for tensors, examples in updates) / total for name in names}
    return mean | {"classes_": updates[0][0]["classes_"]}


def test_the_federation_learns() -> None:
    helper, apps, model = SklearnHelper(), [app(index, 5) for index in range(5)], seed_model()
    accuracy = []
    for number in range(1, 9):
        updates = []
        for index, client in enumerate(apps):
            config = {**client.hyperparameters, "round": number, "seed": 100 * number + index}
            trained, examples, metrics = client.train(helper.load(model, client), config)
            assert metrics["loss"] > 0
            updates.append((helper.dump(trained), examples))
        model = average(updates)
        results = [client.validate(helper.load(model, client)) for client in apps]
        right = sum(examples * metrics["accuracy"] for examples, metrics in results)
        accuracy.append(right / sum(examples for examples, _ in results))
    assert accuracy[0] < 0.85
    assert accuracy[-1] > 0.9


def test_the_same_seed_trains_the_same_update() -> None:
    helper, client = SklearnHelper(), app(0, 5)
    config = {**client.hyperparameters, "round": 1, "seed": 2**62 + 1}
    one, other = (helper.dump(client.train(helper.load(seed_model(), client), config)[0]) for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)
