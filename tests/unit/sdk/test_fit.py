"""`fedn.fit` in this process: against federated averaging by hand, with every framework, failing."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import warnings
from typing import Any

import numpy as np
import pytest

import fedn
from fedn.domain.errors import FednError, InvalidInput, InvalidModel, InvalidPlan
from fedn.sdk.fit import Round

WEIGHTS = np.array([1.0, -2.0, 3.0])
SIZES = {"ann": 100, "bob": 40, "cat": 10}


def linear(number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(number)
    x = random.normal(size=(size, 3))
    return x, x @ WEIGHTS + 0.1 * random.normal(size=size)


OWNERS = {name: linear(number, size) for number, (name, size) in enumerate(SIZES.items())}


def train(model: Any, data: Any, config: Any) -> Any:
    """``epochs`` steps of gradient descent on all examples."""
    x, y = data
    for _ in range(config["epochs"]):
        model["w"] -= config.get("lr", 0.1) * x.T @ (x @ model["w"] - y) / len(x)
    return model, len(x), {"loss": loss(model, data)}


def loss(model: Any, data: Any) -> float:
    return float(np.mean((data[0] @ model["w"] - data[1]) ** 2))


def by_hand(rounds: int, epochs: int) -> list[np.ndarray]:
    """Flat federated averaging, in the words of its paper: every client's model, weighted by its examples."""
    w, models = np.zeros(3), []
    for _ in range(rounds):
        total = np.zeros(3)
        for x, y in OWNERS.values():
            own = w.copy()
            for _ in range(epochs):
                own = own - 0.1 * x.T @ (x @ own - y) / len(x)
            total += len(x) * own
        w = total / sum(SIZES.values())
        models.append(w)
    return models


def zeros() -> dict[str, np.ndarray]:
    return {"w": np.zeros(3)}


# --- numpy, by hand --------------------------------------------------------------------------------


@pytest.mark.parametrize("combiners", [1, 2])
def test_it_is_federated_averaging(combiners: int):
    given = zeros()
    model = fedn.fit(given, OWNERS, rounds=4, train=train, epochs=3, combiners=combiners, progress=False)
    assert model["w"] == pytest.approx(by_hand(4, 3)[-1], abs=1e-12)
    assert (given["w"] == 0).all()


def test_every_round_is_told_with_the_metrics_of_its_model():
    history: list[Round] = []
    fedn.fit(
        zeros(), OWNERS, rounds=3, train=train,
        validate=lambda model, data: (len(data[0]), {"loss": loss(model, data)}),
        evaluate=lambda model: {"distance": np.abs(model["w"] - WEIGHTS).max()}, callback=history.append,
        progress=False,
    )  # fmt: skip
    assert [one.round for one in history] == [1, 2, 3]
    for one, w in zip(history, by_hand(3, 1), strict=True):
        mean = sum(SIZES[name] * loss({"w": w}, data) for name, data in OWNERS.items()) / sum(SIZES.values())
        assert one.validate == {"loss": pytest.approx(mean)}
        assert one.evaluate == {"distance": pytest.approx(np.abs(w - WEIGHTS).max())}
        assert (one.clients, one.examples, one.missing) == (3, sum(SIZES.values()), {})
        assert one.train["loss"] > 0


def test_a_list_of_owners_a_function_for_the_model_and_a_plan():
    def seeds(plan_seed: int) -> set[int]:
        seen: set[int] = set()

        def watching(model: Any, data: Any, config: Any) -> Any:
            assert config["lr"] == 0.2
            seen.add(config["seed"])
            return train(model, data, config)

        owners = [*OWNERS.values()]
        plan = {"config": {"lr": 0.2}, "seed": plan_seed}
        fedn.fit(zeros, owners, rounds=2, train=watching, progress=False, **plan)
        return seen

    assert len(seeds(5)) == 6
    assert seeds(5) == seeds(5)
    assert not seeds(5) & seeds(6)


async def test_data_may_be_anything_also_where_an_event_loop_runs_already():
    """As in a notebook."""
    model = fedn.fit(
        {"w": np.zeros(1)}, ["1.0", "4.0"], rounds=2, progress=False,
        train=lambda model, data, config: ({"w": model["w"] + float(data)}, int(float(data))),
    )  # fmt: skip
    assert model["w"] == pytest.approx([2 * (1 * 1 + 4 * 4) / 5])


def test_one_owner_works_at_a_time():
    busy = threading.Lock()
    together = threading.Event()

    def alone(model: Any, data: Any, config: Any) -> Any:
        if not busy.acquire(blocking=False):
            together.set()
        threading.Event().wait(0.01)  # whoever would come, too, has the time
        busy.release()
        return train(model, data, config)

    many = {f"owner-{number}": linear(number, 20) for number in range(8)}
    fedn.fit(zeros(), many, rounds=2, train=alone, progress=False)
    assert not together.is_set()


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    before = threading.active_count()
    fedn.fit(zeros(), OWNERS, rounds=1, train=train, progress=False)
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before


def test_progress_is_drawn_where_nobody_moves_bars_too(capsys: pytest.CaptureFixture[str]):
    fedn.fit(zeros(), OWNERS, rounds=2, train=train, evaluate=lambda model: {"accuracy": 0.5})
    out = capsys.readouterr().out
    assert out.count("evaluated accuracy 0.5000") == 2
    assert "3 updates, 150 examples" in out
    fedn.fit(zeros(), OWNERS, rounds=2, train=train, progress=False)
    assert capsys.readouterr().out == ""


# --- what goes wrong -------------------------------------------------------------------------------


class OnFire(Exception):
    pass


@pytest.mark.parametrize("who", [{"bob"}, set(SIZES)], ids=["one", "all"])
def test_who_fails_is_named_with_the_very_error_once_and_nobody_waits(who: set[str], caplog, capsys):
    def failing(model: Any, data: Any, config: Any) -> Any:
        if any(data is OWNERS[name] for name in who):
            raise OnFire("the scanner is on fire")
        return train(model, data, config)

    with pytest.raises(FednError, match=f"{min(who)}.*the scanner is on fire$") as failed:
        fedn.fit(zeros(), OWNERS, rounds=2, train=failing)
    assert isinstance(failed.value.__cause__, OnFire)
    said = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert (said, capsys.readouterr().out) == ([], "")  # said once: by the error


def test_data_that_does_not_go_with_the_model_is_found_before_the_first_round():
    trained = []

    def watching(model: Any, data: Any, config: Any) -> Any:
        trained.append(data)
        return train(model, data, config)

    owners = {**OWNERS, "dan": (np.zeros((5, 4)), np.zeros(5))}
    with pytest.raises(FednError, match="dan") as failed:
        fedn.fit(
            zeros(), owners, train=watching, validate=lambda model, data: {"loss": loss(model, data)},
            progress=False,
        )  # fmt: skip
    assert isinstance(failed.value.__cause__, ValueError)
    assert trained == []


def test_with_min_clients_the_others_go_on_and_the_missing_one_is_named(caplog):
    def failing(model: Any, data: Any, config: Any) -> Any:
        if len(data[0]) == SIZES["bob"]:
            raise OnFire
        return train(model, data, config)

    history: list[Round] = []
    fedn.fit(zeros(), OWNERS, rounds=2, train=failing, min_clients=2, callback=history.append, progress=False)
    assert "bob.train() failed" in caplog.messages  # nobody else says what it raised
    assert [one.clients for one in history] == [2, 2]
    assert "OnFire" in history[0].missing["bob"]


def test_what_a_callback_raises_ends_it():
    def enough(_: Round) -> None:
        raise OnFire

    before = set(threading.enumerate())
    with pytest.raises(OnFire):
        fedn.fit(zeros(), OWNERS, rounds=1000, train=train, callback=enough, progress=False)
    for left in set(threading.enumerate()) - before:
        assert left.name == "training"  # nobody waits for what was under way
        left.join(30)
        assert not left.is_alive()


def test_ctrl_c_ends_it_at_once():
    script = """
import signal, threading, fedn, numpy
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
def train(model, data, config):
    print("training", flush=True)
    threading.Event().wait()
fedn.fit({"w": numpy.zeros(1)}, [1, 2], train=train)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "training\n"
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode != 0
    assert err.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize(
    ("error", "words", "arguments"),
    [
        (InvalidInput, "train: is missing", {}),
        (InvalidInput, "data_owners: are none", {"data_owners": []}),
        (InvalidInput, "data_owners: are names alone", {"data_owners": ["ann", "bob"]}),
        (InvalidInput, "data_owners: 'a b' is not a valid name", {"data_owners": {"a b": 1}, "train": train}),
        (InvalidInput, "validation_split: 1.0 is out", {"validation_split": 1.0}),
        (InvalidInput, "evaluate: can't be data", {"train": train, "evaluate": linear(1, 3)}),
        (InvalidInput, "combiners: 0 are too few", {"train": train, "combiners": 0}),
        (InvalidPlan, "rounds: 0 is out", {"train": train, "rounds": 0}),
        (InvalidPlan, "fish: is neither an argument of fit nor a plan field", {"train": train, "fish": 1}),
        (InvalidPlan, "epoch: .* did you mean 'epochs'", {"train": train, "epoch": 1}),
        (InvalidPlan, "stop_metrics: .* did you mean 'stop_metric'", {"train": train, "stop_metrics": ""}),
        (InvalidModel, "is of no framework that is known", {"train": train, "model": 3}),
        (InvalidInput, "helper: 'fish'", {"train": train, "helper": "fish"}),
        (InvalidModel, "is a list, not a numpy array", {"train": train, "model": {"w": [1.0]}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named_before_anything_is_done(error, words, arguments):
    with pytest.raises(error, match=words):
        fedn.fit(**{"model": zeros(), "data_owners": OWNERS, "progress": False, **arguments})


# --- frameworks ------------------------------------------------------------------------------------


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


def test_a_stop_metric_that_nobody_reports_is_warned_of_once():
    def fit(metric: str) -> None:
        fedn.fit(
            zeros(), OWNERS, rounds=3, train=train, progress=False, stop_metric=metric,
            validate=lambda model, data: {"accuracy": 0.5},
        )  # fmt: skip

    with pytest.warns(UserWarning, match="no owner reports 'acuracy' — did you mean 'accuracy'") as told:
        fit("acuracy")
    assert [one.filename for one in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit("accuracy")


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


def test_it_needs_neither_a_web_server_nor_a_framework():
    """A plain installation fits: what the extras bring is not even looked for."""
    script = """
import json, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"flask", "cheroot", "sklearn", "keras", "torch", "pandas"}:
            raise ImportError(name)
sys.meta_path.insert(0, Missing())
import fedn, numpy
train = lambda model, data, config: ({"w": model["w"] + data}, 1)
model = fedn.fit({"w": numpy.zeros(1)}, [1.0, 3.0], 2, train=train, progress=False)
print(json.dumps(model["w"].tolist()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [4.0]
