"""The user's code, run with care: what it returns is checked, what it raises becomes a sentence."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedn.client.trainer import AppTrainer, load_app
from fedn.domain.errors import InvalidInput, InvalidModel
from fedn.domain.ids import ClientId, Digest, SessionId, derived_seed
from fedn.domain.messages import Task, TaskKind
from fedn.domain.update import MAX_EXAMPLES
from fedn.helpers.files import layout_of

MODEL = memoryview(save({"w": np.arange(3, dtype=np.float32), "steps": np.array([7])}, {"by": "test"}))
ME = ClientId("me")


def task(seed: int = 5, round: int = 2, **config: Any) -> Task:
    return Task(SessionId("s"), round, TaskKind.TRAIN, Digest("0" * 64), len(MODEL), json.dumps(config), seed)


def validation(**config: Any) -> Task:
    return replace(task(**config), kind=TaskKind.VALIDATE)


class App:
    """Adds one to every weight; ``result`` and ``verdict`` replace what it returns."""

    def __init__(self, result: Any = None, verdict: Any = None) -> None:
        self.result, self.verdict = result, verdict
        self.configs: list[Any] = []

    def train(self, model: dict[str, Any], config: Any) -> Any:
        self.configs.append(config)
        model["w"] += 1
        return self.result(model) if self.result else (model, 10, {"loss": np.float32(0.5)})

    def validate(self, model: dict[str, Any]) -> Any:
        return self.verdict if self.verdict is not None else (4, {"mean": float(model["w"].mean())})


class Known(App):
    hyperparameters = {"epochs": 2, "rate": 0.5, "name": "x"}  # noqa: RUF012


class TestTrain:
    def test_an_update_is_laid_out_like_the_base_model(self) -> None:
        trained = AppTrainer(App(), ME).train(MODEL, task())
        layout = layout_of(MODEL)
        assert trained.layout == layout.digest
        assert trained.file[: layout.data_start] == MODEL[: layout.data_start]
        assert load(trained.file)["w"].tolist() == [1.0, 2.0, 3.0]
        assert (trained.examples, trained.metrics) == (10, {"loss": 0.5})

    def test_metrics_may_be_left_out(self) -> None:
        trained = AppTrainer(App(lambda model: (model, np.int64(3))), ME).train(MODEL, task())
        assert (trained.examples, trained.metrics) == (3, {})

    def test_metrics_that_are_not_finite_are_left_out(self) -> None:
        metrics = {"loss": float("nan"), "n": 2, "ok": True}
        trained = AppTrainer(App(lambda model: (model, 1, metrics)), ME).train(MODEL, task())
        assert trained.metrics == {"n": 2.0, "ok": 1.0}

    def test_the_config_has_the_round_and_a_seed_of_its_own(self) -> None:
        app = App()
        trainer = AppTrainer(app, ME)
        trainer.train(MODEL, task(seed=5, round=2, rate=0.25))
        trainer.train(MODEL, task(seed=5, round=3))
        mine = {"round": 2, "seed": derived_seed(5, 2, "me"), "proximal_mu": 0.0}
        assert app.configs[0] == {"rate": 0.25, **mine}
        assert app.configs[1]["seed"] != app.configs[0]["seed"]
        with pytest.raises(TypeError):
            app.configs[0]["rate"] = 1

    def test_known_hyperparameters_have_defaults(self) -> None:
        app = Known()
        AppTrainer(app, ME).train(MODEL, task(rate=1))
        config = {name: app.configs[0][name] for name in app.hyperparameters}
        assert config == {"epochs": 2, "rate": 1.0, "name": "x"}
        assert type(config["rate"]) is float

    @pytest.mark.parametrize(
        ("config", "problem"),
        [
            ({"epoch": 3}, "config.epoch: is not a hyperparameter .* defaults, epochs .2., rate"),
            ({"epochs": 1.5}, "config.epochs: 1.5 is of type float, not int"),
            ({"epochs": True}, "config.epochs: True is of type bool"),
            ({"rate": "fast"}, "config.rate: 'fast' is of type str"),
        ],
    )
    def test_a_config_that_the_app_does_not_know_is_refused(
        self, config: dict[str, Any], problem: str
    ) -> None:
        app = Known()
        with pytest.raises(InvalidInput, match=problem):
            AppTrainer(app, ME).train(MODEL, replace(task(), config=json.dumps(config)))
        assert app.configs == []

    @pytest.mark.parametrize(
        ("result", "problem"),
        [
            (lambda model: model, r"app.train\(\): returned one dict — return \(model, examples\)"),
            (lambda model: (model,), r"app.train\(\): returned 1 values"),
            (lambda model: (model, 0), r"app.train\(\): returned 0 as the number of examples"),
            (lambda model: (model, 1.5), "returned 1.5 as the number of examples"),
            (lambda model: (model, True), "returned 1 as the number of examples"),
            (lambda model: (model, MAX_EXAMPLES + 1), "as the number of examples"),
            (lambda model: (model, 1, [0.5]), "returned metrics of type list"),
            (lambda model: (model, 1, {"loss": "low"}), "returned a str as a metric"),
            (lambda model: (model, 1, {3: 1.0}), "as a metric"),
            (lambda model: (model, 1, {"x" * 65: 1.0}), "metrics: name"),
            (lambda model: ([1.0], 1), "model: is a list, not a dict of numpy arrays"),
            (lambda model: ({"w": model["w"]}, 1), "tensor 'steps': is missing"),
            (lambda model: (model | {"w": np.zeros(4)}, 1), r"tensor 'w': has shape \[4\]"),
        ],
    )
    def test_a_result_of_another_form_is_refused(self, result: Callable[[Any], Any], problem: str) -> None:
        with pytest.raises(InvalidInput, match=problem):
            AppTrainer(App(result), ME).train(MODEL, task())

    @pytest.mark.parametrize(("share", "said"), [(False, ""), (True, ": no batches")])
    def test_what_the_app_raises_becomes_a_sentence(
        self, caplog: pytest.LogCaptureFixture, share: bool, said: str
    ) -> None:
        def fail(model: Any) -> Any:
            raise ZeroDivisionError("no batches")

        with pytest.raises(InvalidInput) as caught:
            AppTrainer(App(fail), ME, share_errors=share).train(MODEL, task())
        assert str(caught.value) == (
            f"app.train(): raised ZeroDivisionError{said} — see the traceback in this client's log"
        )
        (record,) = caplog.records
        assert record.exc_info is not None
        assert (record.session, record.round, record.client) == ("s", 2, "me")  # type: ignore[attr-defined]

    def test_an_app_that_exits_does_not_take_the_client_with_it(self) -> None:
        with pytest.raises(InvalidInput, match=r"app.train\(\): raised SystemExit "):
            AppTrainer(App(lambda model: sys.exit(3)), ME).train(MODEL, task())

    def test_a_base_model_that_is_damaged_is_refused(self) -> None:
        with pytest.raises(InvalidModel, match="is truncated"):
            AppTrainer(App(), ME).train(MODEL[:-1], task())


class TestValidate:
    def test_examples_and_metrics(self) -> None:
        assert AppTrainer(App(), ME).report(MODEL, validation()) == (4, {"mean": 1.0})

    def test_metrics_alone_count_as_one_example(self) -> None:
        assert AppTrainer(App(verdict={"accuracy": 0.5}), ME).report(MODEL, validation()) == (
            1,
            {"accuracy": 0.5},
        )

    @pytest.mark.parametrize("verdict", [0.5, (1, 2, 3), (0, {}), (1, 0.5)])
    def test_another_form_is_refused(self, verdict: Any) -> None:
        with pytest.raises(InvalidInput, match=r"app.validate\(\): returned"):
            AppTrainer(App(verdict=verdict), ME).report(MODEL, validation())


def test_a_helper_that_does_not_exist_is_refused_before_any_training() -> None:
    app = App()
    app.helper = "jax"  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput, match=r"helper: 'jax' is unknown — known are .*numpy"):
        AppTrainer(app, ME)


APP = """
import sibling_of_the_app
from dataclasses import dataclass

@dataclass
class Mine:
    data: str
    size: int = 1
    def train(self, model, config): ...
    def validate(self, model): ...

class Space:
    make = Mine

def anything(**options):
    return Mine(**options)

def bare():
    return object()

def fail():
    raise OSError("no such disk")

number = 3
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path / "nowhere"))  # restores the path afterwards
    (tmp_path / "sibling_of_the_app.py").write_text("")
    path = tmp_path / "my_app.py"
    path.write_text(APP)
    return path


class TestLoadApp:
    @pytest.mark.parametrize("name", ["Mine", "anything", "Space.make"])
    def test_a_file_and_its_neighbours(self, file: Path, name: str) -> None:
        app = load_app(f"{file}:{name}", {"data": "here", "size": 4})
        assert (app.data, app.size) == ("here", 4)

    def test_a_module_in_the_current_folder(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(file.parent)
        assert load_app("my_app:Mine", {"data": "here"}).size == 1

    def test_an_installed_module(self) -> None:
        assert load_app("fedn.sandbox.digits:app", {"index": 1, "clients": "3"}).helper == "sklearn"

    @pytest.mark.parametrize(
        ("name", "options", "problem"),
        [
            (
                "Mine",
                {"data": "x", "speed": 1},
                "app_options.speed: is not an option of .* are data, size",
            ),
            ("Mine", {}, "app_options.data: is missing; .* needs it — give data=value"),
            ("bare", {"data": "x"}, "app_options.data: is not an option of .* it takes none"),
            ("bare", {}, r"app: .* returned an object of type object without train\(\)"),
            ("fail", {}, "app: .*:fail can't be called: OSError: no such disk"),
            ("number", {}, "app: .*:number is of type int — give a function or a class"),
            ("nothing", {}, "app: .* has no nothing"),
        ],
    )
    def test_a_factory_that_does_not_fit(
        self, file: Path, name: str, options: dict[str, Any], problem: str
    ) -> None:
        with pytest.raises(InvalidInput, match=problem):
            load_app(f"{file}:{name}", options)

    @pytest.mark.parametrize(
        ("target", "problem"),
        [
            ("my_app", "app: 'my_app' names no factory"),
            ("my_app:", "names no factory"),
            (":make", "names no factory"),
            ("no_such_module_at_all:make", "can't be imported: ModuleNotFoundError"),
            ("missing.py:make", "app: missing.py is not a file"),
        ],
    )
    def test_a_target_that_does_not_exist(self, target: str, problem: str) -> None:
        with pytest.raises(InvalidInput, match=problem):
            load_app(target, {})

    def test_a_file_that_raises(self, tmp_path: Path) -> None:
        path = tmp_path / "broken_app.py"
        path.write_text("1 / 0")
        with pytest.raises(InvalidInput, match=r"broken_app.py can't be imported: ZeroDivisionError"):
            load_app(f"{path}:make", {})
