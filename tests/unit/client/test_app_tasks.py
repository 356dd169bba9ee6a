"""What an app can be asked beside train and validate, and what its client's owner and the plan add."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedn.client.trainer import AppTrainer
from fedn.config import ClientSettings
from fedn.config import load as load_settings
from fedn.domain.errors import InvalidConfig, InvalidInput
from fedn.domain.ids import ClientId, Digest, SessionId
from fedn.domain.messages import Task, TaskKind

MODEL = memoryview(save({"w": np.arange(3, dtype=np.float32)}))
ME = ClientId("me")


def task(kind: TaskKind = TaskKind.TRAIN, **config: Any) -> Task:
    return Task(SessionId("s"), 2, kind, Digest("a" * 64), len(MODEL), json.dumps(config), 5)


class App:
    hyperparameters = {"rate": 0.5}  # noqa: RUF012

    def train(self, model: Any, config: Any) -> Any:
        model["w"] += config["rate"]
        return model, 10, {"mu": config["proximal_mu"]}

    def validate(self, model: Any) -> Any:
        model["w"] += 100  # must not reach train()
        return 4, {"mean": float(model["w"].mean())}


class Able(App):
    def check(self, model: Any) -> Any:
        return {"rows": 7}

    def predict(self, model: Any, output: Path) -> Any:
        (output / "numbers.txt").write_text(str(model["w"].tolist()))
        return 3, {"written": 1}


class Modest(Able):
    def check(self, model: Any) -> Any:
        return None

    def predict(self, model: Any, output: Path) -> Any:
        return 5


def refused(app: Any, task: Task, **how: Any) -> str:
    def ask() -> object:
        trainer = AppTrainer(app, ME, **how)
        return (trainer.train if task.kind is TaskKind.TRAIN else trainer.report)(MODEL, task)

    with pytest.raises(InvalidInput) as caught:
        ask()
    return caught.value.message


def test_a_check_is_its_own_or_else_a_validation() -> None:
    assert AppTrainer(Able(), ME).report(MODEL, task(TaskKind.CHECK)) == (1, {"rows": 7.0})
    assert AppTrainer(Modest(), ME).report(MODEL, task(TaskKind.CHECK)) == (0, {})
    assert AppTrainer(App(), ME).report(MODEL, task(TaskKind.CHECK)) == (4, {"mean": 101.0})


def test_a_check_finds_what_train_would_not_take() -> None:
    assert refused(Able(), task(TaskKind.CHECK, speed=1)) == (
        "config.speed: is not a hyperparameter of this client's app "
        "— known are, with their defaults, rate (0.5)"
    )


def test_predictions_go_where_the_owner_says(tmp_path: Path) -> None:
    trainer = AppTrainer(Able(), ME, predictions=tmp_path)
    assert trainer.report(MODEL, task(TaskKind.PREDICT)) == (3, {"written": 1.0})
    assert (tmp_path / "s-2-aaaaaaaaaaaa" / "numbers.txt").read_text() == "[0.0, 1.0, 2.0]"
    assert AppTrainer(Modest(), ME, predictions=tmp_path).report(MODEL, task(TaskKind.PREDICT)) == (5, {})
    assert [path.name for path in tmp_path.iterdir()] == ["s-2-aaaaaaaaaaaa"]


def test_predictions_that_nobody_can_make_or_keep(tmp_path: Path) -> None:
    assert "app: has no predict()" in refused(App(), task(TaskKind.PREDICT), predictions=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert "predictions: this client has no folder" in refused(Able(), task(TaskKind.PREDICT))


def test_metrics_before_the_training_are_of_the_model_that_came() -> None:
    trained = AppTrainer(App(), ME).train(MODEL, task(measure_before_fit=True))
    assert trained.metrics == {"before_mean": 101.0, "mu": 0.0}
    assert load(trained.file)["w"].tolist() == [0.5, 1.5, 2.5]


def test_a_check_says_that_they_can_not_be_had() -> None:
    class Blind:
        def train(self, model: Any, config: Any) -> Any: ...

    assert "measure_before_fit: needs validate(), which the app has not — add it, or start the" in refused(
        Blind(), task(TaskKind.CHECK, measure_before_fit=True)
    )


def test_the_owners_hyperparameters_go_over_the_plans_and_those_over_the_apps() -> None:
    def weights(**overrides: Any) -> list[float]:
        trained = AppTrainer(App(), ME, overrides).train(MODEL, task(rate=2.0))
        return load(trained.file)["w"].tolist()

    assert weights() == [2.0, 3.0, 4.0]
    assert weights(rate=3) == [3.0, 4.0, 5.0]
    assert "hyperparameters.speed: is not a hyperp" in refused(App(), task(), overrides={"speed": 1})


def test_fedprox_needs_a_helper_that_can_do_it() -> None:
    class Linear(App):
        helper = "sklearn"

    assert AppTrainer(App(), ME).train(MODEL, task(proximal_mu=0.25)).metrics == {"mu": 0.25}
    for kind in (TaskKind.TRAIN, TaskKind.CHECK):
        assert "proximal_mu: 0.25 can't be used with the helper sklearn" in refused(
            Linear(), task(kind, proximal_mu=0.25)
        )


def test_fedprox_holds_a_training_near_the_global_model() -> None:
    torch = pytest.importorskip("torch")

    class Module(App):
        helper = "torch"

        def build(self) -> Any:
            return torch.nn.Linear(1, 1, bias=False)

        def train(self, model: Any, config: Any) -> Any:
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            for _ in range(20):
                optimizer.zero_grad()
                (model.weight - 1).square().sum().backward()
                optimizer.step()
            return model, 1

    base = memoryview(save({"weight": np.zeros((1, 1), np.float32)}))

    def trained(mu: float) -> float:
        file = AppTrainer(Module(), ME).train(base, task(rate=0.5, proximal_mu=mu)).file
        return float(load(file)["weight"][0, 0])

    assert trained(0.0) > 0.9
    assert 0.1 < trained(6.0) < 0.3  # the minimum of (w - 1)² + 3 w² is a quarter


@pytest.mark.parametrize(
    ("error", "alone", "shared"),
    [
        (ValueError("row 7\nof ann"), "raised ValueError —", "raised ValueError: row 7 of ann —"),
        (ValueError("x" * 1000), "raised ValueError —", f"raised ValueError: {'x' * 300} —"),
        (KeyError(), "raised KeyError —", "raised KeyError —"),
        (
            ModuleNotFoundError("no", name="torch.nn"),
            "needs the module torch.nn",
            "pip install '.[torch]'",
        ),
        (ModuleNotFoundError("no", name="a secret"), "raised ModuleNotFoundError —", ": no —"),
    ],
)
def test_what_an_error_says_goes_along_only_if_its_owner_shares_it(
    error: Exception, alone: str, shared: str
) -> None:
    class Failing(App):
        def train(self, model: Any, config: Any) -> Any:
            raise error

    assert alone in refused(Failing(), task())
    assert shared in refused(Failing(), task(), share_errors=True)


def test_settings_that_contradict_each_other_are_refused() -> None:
    def settings(**given: Any) -> ClientSettings:
        return load_settings(ClientSettings, None, given, {})

    assert settings(data="x", allow=["0" * 64]).allow == ["0" * 64]
    for given, problem in (
        ({"app": "a:b", "data": "x"}, "data: is given beside app"),
        ({"allow": ["latest"]}, "allow: 'latest' is not a sha256 digest"),
        ({"allow": "0" * 64}, "allow: .* is not a list of texts"),
        ({"hyperparameters": {"seed": 1}}, "hyperparameters.seed: is for the plan to set"),
    ):
        with pytest.raises(InvalidConfig, match=problem):
            settings(**given)
