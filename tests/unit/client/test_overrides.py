"""Hyperparameters of a client's owner: over the plan's, which are over the app's own; named if unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedn.client.trainer import AppTrainer
from fedn.domain.errors import InvalidInput
from fedn.domain.ids import ClientId, SessionId, digest_of
from fedn.domain.messages import Task, TaskKind
from fedn.helpers.files import seed_file

MODEL = memoryview(seed_file({"w": np.zeros(2)}))
PLAN = '{"epochs": 2, "rate": 0.5}'


class App:
    hyperparameters = {"epochs": 1, "rate": 0.1, "name": "adam"}  # noqa: RUF012

    def train(self, model: Any, config: Any) -> Any:
        self.config = dict(config)
        return model, 1


def test_the_owner_s_go_over_the_plan_s_and_those_over_the_app_s() -> None:
    app = App()
    trainer = AppTrainer(app, ClientId("ann"), {"rate": 0.01})
    trainer.train(MODEL, Task(SessionId("s"), 1, TaskKind.TRAIN, digest_of(MODEL), len(MODEL), PLAN, 0))
    assert {name: app.config[name] for name in App.hyperparameters} == {
        "epochs": 2, "rate": 0.01, "name": "adam",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            {"rates": 0.1},
            r"hyperparameters\.rates: is not a hyperparameter of this client's app .* rate \(0\.1\)",
        ),
        ({"epochs": "many"}, r"hyperparameters\.epochs: 'many' is of type str, not int"),
    ],
)
def test_one_that_the_app_does_not_know_is_named_before_any_task_comes(overrides: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        AppTrainer(App(), ClientId("ann"), overrides)


def test_an_app_that_names_none_takes_any() -> None:
    class Anything(App):
        hyperparameters = None  # type: ignore[assignment]

    assert AppTrainer(Anything(), ClientId("ann"), {"whatever": 1})
