"""Packages that fail, in all the ways that there are: each time a sentence, and nothing is left of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_packages import (
    GOOD,
    MODEL,
    Runner,
    Small,
    command,
    gone,
    good,
    python,
    refused,
    running,
    until,
)

from fedn.domain.errors import Damaged, InvalidModel
from fedn.domain.messages import TaskKind
from fedn.helpers.files import seed_file

CHECK, VALIDATE, PREDICT = TaskKind.CHECK, TaskKind.VALIDATE, TaskKind.PREDICT


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    with running(tmp_path) as made:
        yield made


METRICS = "echo '{\"examples\": 1}' > <metrics_out>"


@pytest.mark.parametrize(
    ("train", "problem"),
    [
        ("exit 3", "package.train: ended with exit status 3"),
        ("no-such-program", "package.train: ended with exit status 127"),
        ("kill -SEGV $$", "package.train: was killed by SIGSEGV"),
        ("true", "wrote no update.safetensors.json — write JSON such as"),
        (METRICS, "package.train: wrote no update.safetensors — write the trained model to <model_out>"),
        (f"{METRICS}; : > <model_out>", "wrote 0 bytes as update.safetensors"),
        (f"{METRICS}; mkdir <model_out>", "wrote update.safetensors, which is not a file"),
        (f"{METRICS}; ln -s /etc/passwd <model_out>", "wrote update.safetensors, which can't be read"),
        (f"{METRICS}; mkfifo <model_out>", "wrote update.safetensors, which is not a file"),
        (
            f"{METRICS}; head -c 20000000 /dev/zero > <model_out>",
            "wrote 20000000 bytes as update.safetensors",
        ),
        (f"{METRICS}; echo no model > <model_out>", "model: "),
        ("cp <model_in> <model_out>; echo nothing > <metrics_out>", "wrote metrics that are not JSON"),
        ("cp <model_in> <model_out>; echo '[1]' > <metrics_out>", "wrote metrics of another form"),
        ("cp <model_in> <model_out>; echo '{\"loss\": 1}' > <metrics_out>", "wrote metrics of another form"),
        ("cp <model_in> <model_out>; echo '{\"examples\": 0}' > <metrics_out>", "returned 0 as the number"),
        (
            "cp <model_in> <model_out>; head -c 100000 /dev/zero > <metrics_out>",
            "not 1 to 65536 — write JSON",
        ),
        ("yes", "package.train: printed without end, and was stopped"),
    ],
)
def test_a_command_that_fails_says_how(tmp_path: Path, train: str, problem: str) -> None:
    with running(tmp_path) as runner:
        assert problem in refused(lambda: runner.train(command(train=train)))
        assert list((tmp_path / "client" / "work").iterdir()) == []


def test_another_layout_is_named(runner: Runner) -> None:
    other = seed_file({"w": np.zeros(4, np.float32), "steps": np.array([7])})
    small = command(files={"other": other}, train=f"cp other <model_out>; {METRICS}")
    with pytest.raises(InvalidModel, match=r"tensor 'w': has shape \[4\], the base model's is \[3\]"):
        runner.train(small)


@pytest.mark.parametrize("kind", ["command", "python"])
def test_a_task_that_never_ends_is_ended_with_all_that_it_has_started(tmp_path: Path, kind: str) -> None:
    shell = "sleep 600 & echo $!; setsid sleep 600 & echo $!; wait"
    code = f"import os\ndef train(*_):\n    print(os.getpid(), flush=True)\n    os.system({shell!r})\n"
    small = command(train=shell, timeout=4) if kind == "command" else python(code, "train", timeout=4)
    with running(tmp_path) as runner:
        assert "took longer than 4 s, and was stopped" in refused(lambda: runner.train(small))
        pids = [int(pid) for pid in runner.output(small).split()]
        assert len(pids) == (2 if kind == "command" else 3)
        assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize("kind", ["command", "python"])
def test_a_task_that_nobody_wants_any_more_is_killed(tmp_path: Path, kind: str) -> None:
    code = "import time\ndef train(*_):\n    while True: print('on', flush=True), time.sleep(0.05)\n"
    shell = "while :; do echo on; sleep 0.05; done"
    small = command(train=shell) if kind == "command" else python(code, "train")
    said: list[str] = []
    with running(tmp_path) as runner:
        task = small.task()
        ask = lambda: runner.trainer.train(MODEL, task, memoryview(small.archive))  # noqa: E731
        thread = threading.Thread(target=lambda: said.append(refused(ask)))
        thread.start()
        until(lambda: "on" in runner.output(small))
        runner.trainer.cancel(small.task())  # another one, even if it looks like it
        goes_on = runner.output(small).count("on") + 5
        until(lambda: runner.output(small).count("on") > goes_on)
        runner.trainer.cancel(task)
        thread.join(60)
        assert said == ["task: was cancelled"]
        assert refused(ask) == "task: was cancelled"  # also if it had only been about to begin
        if kind == "python":
            assert gone(runner.workers[0])


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "1 / 0",
            "package: train (app:train): raised ZeroDivisionError — see the traceback in this client's log",
        ),
        ("import tensorflow_of_mars", "needs the module tensorflow_of_mars, which is not there"),
        ("train = 3", "package: train (app:train): is of type int"),
        ("other = 3", "package: train (app:train): is not there"),
        (
            "def train(*_): raise ValueError('ann, 1990-01-01')",
            "package.train(): raised ValueError — see the",
        ),
        ("def train(*_): import sys; sys.exit(2)", "package.train(): raised SystemExit"),
        ("def train(*_): return bytearray(2**50)", "package.train(): raised MemoryError"),
        ("def train(*_): return None", "package.train(): returned one NoneType"),
        ("def train(model, *_): return {'w': model['w']}, 1", "tensor 'steps': is missing"),
        ("def train(model, *_): return {**model, 'w': model['w'][:2]}, 1", "tensor 'w': has shape [2]"),
        ("def train(model, *_): return model, 0", "as the number of examples"),
        ("def train(model, *_): return model, 1, {'n': 10**400}", "returned a metric beyond all numbers"),
    ],
)
def test_python_that_fails_says_what_without_a_word_of_the_data(
    runner: Runner, code: str, problem: str
) -> None:
    message = refused(lambda: runner.train(python(code, "train")))
    assert problem in message
    assert "1990" not in message


def test_what_an_error_says_stays_in_the_log_unless_its_owner_shares_it(tmp_path: Path) -> None:
    code = "def startup(data):\n    raise ValueError('row 7 of ' + data)\ndef train(*_): ...\n"
    small = python(code, "startup", "train")
    with running(tmp_path / "quiet") as runner:
        assert "row 7" not in refused(lambda: runner.train(small))
        assert "ValueError: row 7 of the data" in runner.output(small)
    with running(tmp_path / "open", share_errors=True) as runner:
        assert "raised ValueError: row 7 of the data" in refused(lambda: runner.train(small))


def test_a_worker_that_does_not_speak_as_one_is_stopped(runner: Runner) -> None:
    code = (
        "import os, socket, stat\n"
        "def train(*_):\n"
        "    for end in range(3, 64):\n"
        "        try:\n"
        "            if stat.S_ISSOCK(os.fstat(end).st_mode): os.write(end, {what})\n"
        "        except OSError: pass\n"
        "    import time; time.sleep(600)\n"
    )
    for what in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x02no", b"\x00\x00\x00\x01["):
        small = python(code.format(what=what), "train")
        assert "did not answer as a worker does, and was stopped" in refused(
            lambda small=small: runner.train(small)
        )
    assert all(gone(pid) for pid in runner.workers)


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({"steps": 3}, "config.steps: is not a hyperparameter of the package small — known are, with their "
         "defaults, epochs (1), rate (0.5)"),
        ({"epochs": 1.5}, "config.epochs: 1.5 is of type float, not int"),
    ],
)  # fmt: skip
def test_hyperparameters_that_it_does_not_have_are_refused(
    runner: Runner, task: dict[str, Any], problem: str
) -> None:
    small = python(GOOD, "train", hyperparameters={"epochs": 1, "rate": 0.5})
    assert problem in refused(lambda: runner.train(small, **task))
    assert problem in refused(lambda: runner.report(small, CHECK, **task))
    assert runner.workers == []


def test_what_the_archive_hides_is_not_run(runner: Runner) -> None:
    small = good()
    wrong = small.archive[:-1024] + b"x" * 1024
    with pytest.raises(Damaged):
        runner.trainer.train(MODEL, small.task(), memoryview(wrong))
    nameless = Small(b"\0" * 1024)
    assert "fedn.yaml" in refused(lambda: runner.train(nameless))


def test_what_it_has_not_got_is_named(runner: Runner) -> None:
    small = python("def train(model, data, config): return model, 1", "train")
    assert "package: has no validate" in refused(lambda: runner.report(small, VALIDATE))
    assert "package: has no predict" in refused(lambda: runner.report(small, PREDICT))
    assert runner.report(small, CHECK) == (0, {})
    assert "measure_before_fit: needs validate()" in refused(
        lambda: runner.train(small, measure_before_fit=True)
    )


def test_predictions_are_plain_files(runner: Runner) -> None:
    small = command(train="true", predict="ln -s /etc/passwd <output>/link")
    assert "output: 'link' is not a file" in refused(lambda: runner.report(small, PREDICT))
    assert not list((runner.home / "predictions").glob("s-*"))
