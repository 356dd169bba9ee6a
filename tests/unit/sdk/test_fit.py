"""`fedn.fit` in this process: against federated averaging by hand, and failing."""

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
from averaging import OWNERS, SIZES, WEIGHTS, by_hand, linear, loss, train, zeros

import fedn
from fedn.domain.errors import FednError, InvalidInput, InvalidModel, InvalidPlan
from fedn.sdk.fit import Round

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
