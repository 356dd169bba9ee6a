"""A plan against the package that it names: unknown names and wrong types are refused, with what is known."""

from __future__ import annotations

import pytest

from fedn.domain.errors import InvalidPlan
from fedn.domain.ids import digest_of
from fedn.domain.plan import plan_from
from fedn.ports import PackageInfo
from fedn.reducer.hyperparameters import check_hyperparameters
from fedn.reducer.scores import check_stop
from fedn.stores import open_state

MNIST, BARE = digest_of(b"mnist"), digest_of(b"bare")


@pytest.fixture
def state():
    state = open_state("memory://")
    declared = {"learning_rate": 0.1, "epochs": 2, "shuffle": True, "optimizer": "sgd"}
    state.add_package(PackageInfo(MNIST, 10, "mnist", {"hyperparameters": declared}, 1.0))
    state.add_package(PackageInfo(BARE, 10, "bare", {"name": "bare"}, 2.0))
    yield state
    state.close()


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"learning_rate": 1, "epochs": 5, "shuffle": False, "optimizer": "adam"},
        {"learning_rate": {"1": 0.1, "10": 1}, "epochs": {"1": 1, "2": 4}},
    ],
)
def test_what_the_package_declares_is_taken(state, config) -> None:
    check_hyperparameters(plan_from({"package": MNIST, "config": config}), state)


def test_without_a_package_names_are_the_clients_own(state) -> None:
    check_hyperparameters(plan_from({"config": {"anything": 1}}), state)


@pytest.mark.parametrize(
    ("package", "config", "words"),
    [
        (MNIST, {"learning_rat": 0.1}, "^config.learning_rat: is not a hyperparameter of package mnist — "
         r"did you mean 'learning_rate'\? known are epochs \(default 2\), learning_rate \(default 0.1\), "
         r"optimizer \(default 'sgd'\), shuffle \(default True\)$"),
        (BARE, {"epochs": 1}, "^config.epochs: is not a hyperparameter of package bare — it declares none$"),
        (MNIST, {"epochs": 1.5}, "^config.epochs: 1.5 is a number, and package mnist takes a whole number — "
         "give a value like its default, 2$"),
        (MNIST, {"epochs": True}, "config.epochs: True is true or false"),
        (MNIST, {"shuffle": 1}, "config.shuffle: 1 is a whole number"),
        (MNIST, {"learning_rate": {"1": "fast"}}, "config.learning_rate: 'fast' is a text"),
        ("0" * 64, {}, f"^package: there is no package {'0' * 64} — upload it"),
    ],
)  # fmt: skip
def test_the_rest_is_refused_by_name(state, package, config, words) -> None:
    with pytest.raises(InvalidPlan, match=words):
        check_hyperparameters(plan_from({"package": package, "config": config}), state)


def test_a_session_that_never_validates_can_not_stop_by_a_metric() -> None:
    check_stop(plan_from({"validate": False}))
    with pytest.raises(InvalidPlan, match="stop_metric: needs validation"):
        check_stop(plan_from({"validate": False, "stop_metric": "accuracy"}))
