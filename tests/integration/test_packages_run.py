"""Compute packages as a client runs them: real workers, real commands, real kernels."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from small_packages import (
    GOOD,
    ME,
    MODEL,
    Runner,
    Told,
    command,
    gone,
    good,
    package,
    python,
    refused,
    running,
    until,
    weights,
)
from test_environments import wheel

from fedn.client import confine
from fedn.client.app import package_trainer
from fedn.client.ledger_check import entries
from fedn.config import ClientSettings
from fedn.domain.messages import TaskKind

CHECK, VALIDATE, PREDICT = TaskKind.CHECK, TaskKind.VALIDATE, TaskKind.PREDICT
landlocked = pytest.mark.skipif(not confine.landlock(), reason="this kernel has no Landlock")


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    with running(tmp_path) as made:
        yield made


# --- workers ---------------------------------------------------------------------------------------


def test_a_worker_is_started_once_and_stays_warm(runner: Runner) -> None:
    small = good()
    trained = [runner.train(small, number) for number in (1, 2, 3)]
    assert runner.report(small, VALIDATE) == (8, {"mean": 1.0})
    assert [t.metrics["tasks"] for t in trained] == [1, 2, 3]
    assert [t.metrics["pid"] for t in trained] == runner.workers * 3
    assert weights(trained[0].file) == [1.0, 2.0, 3.0]
    assert runner.told.named("worker_started")[0]["seconds"] > 0
    assert runner.output(small) == "imported\nstarted with the data"


def test_every_kind_of_task(runner: Runner) -> None:
    small = good()
    assert runner.report(small, CHECK) == (0, {})
    assert runner.report(small, PREDICT) == (3, {})
    (folder,) = (runner.home / "predictions").iterdir()
    assert folder.name.startswith("s-1-")
    assert (folder / "predicted.txt").read_text() == "[0.0, 1.0, 2.0]"
    assert runner.report(small, PREDICT) == (3, {})
    assert list((runner.home / "predictions").iterdir()) == [folder]


def test_a_worker_that_dies_takes_its_task_with_it_and_the_next_gets_a_new_one(runner: Runner) -> None:
    small = python(
        "import os, signal\n"
        "def train(model, data, config):\n"
        "    if config['round'] == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    if config['round'] == 4: os._exit(7)\n"
        "    return model, 1\n",
        "train",
    )
    runner.train(small, 1)
    assert "its worker was killed by SIGKILL, as happens when memory runs out" in refused(
        lambda: runner.train(small, 2)
    )
    runner.train(small, 3)
    assert "its worker ended with exit status 7" in refused(lambda: runner.train(small, 4))
    assert len(set(runner.workers)) == 2
    reasons = [fields["reason"] for fields in runner.told.named("worker_ended")]
    assert reasons == [
        "it was killed by SIGKILL, as happens when memory runs out",
        "it ended with exit status 7",
    ]


def status(pid: int, field: str) -> str:
    """What the kernel says of a process, such as its State or PPid."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(field + ":"))


def test_a_worker_that_died_between_two_tasks_is_not_noticed(runner: Runner) -> None:
    small = good()
    runner.train(small)
    keeper = int(status(runner.workers[0], "PPid"))
    os.kill(runner.workers[0], signal.SIGKILL)
    until(lambda: "Z" in status(keeper, "State"))  # it has told, and ended
    assert runner.train(small, 2).metrics["tasks"] == 1
    assert len(runner.workers) == 2


def test_a_worker_that_grows_too_large_is_started_anew(tmp_path: Path) -> None:
    code = (
        "kept = []\n"
        "def train(model, data, config):\n"
        "    if config['round'] == 1: kept.append(b'x' * 2**28)\n"
        "    return model, 1\n"
    )
    with running(tmp_path, worker_memory=2**28) as runner:
        for number in (1, 2, 3):
            runner.train(python(code, "train"), number)
        assert len(runner.workers) == 2
        (ended,) = runner.told.named("worker_ended")
    assert "more than worker_memory (268435456)" in ended["reason"]


def test_two_workers_are_kept_and_none_is_left_in_the_end(tmp_path: Path) -> None:
    with running(tmp_path) as runner:
        for number in range(3):
            runner.train(python(f"# {number}\ndef train(model, data, config): return model, 1\n", "train"))
        pids = runner.workers
        assert [gone(pid) for pid in pids] == [True, False, False]
    assert all(gone(pid) for pid in pids)
    assert list((tmp_path / "client" / "work").iterdir()) == []


# --- commands --------------------------------------------------------------------------------------

TRAIN = """
import json, os, sys
import numpy as np
from safetensors.numpy import load_file, save_file
model = load_file(sys.argv[1])
config = json.load(open(os.environ["FEDN_CONFIG"]))
model["w"] = (model["w"] + config["step"]).astype("f8")
save_file(model, sys.argv[2])
print("round", os.environ["FEDN_ROUND"], "step", os.environ["FEDN_CONFIG_STEP"], os.environ["FEDN_DATA"])
json.dump({"examples": 12, "metrics": {"loss": 0.5}}, open(sys.argv[2] + ".json", "w"))
"""


def test_a_command_gets_files_and_variables_and_answers_by_files(runner: Runner) -> None:
    small = package(
        {"train": "python train.py <model_in> <model_out>"}, {"train.py": TRAIN}, hyperparameters={"step": 2}
    )
    trained = runner.train(small, 4)
    assert weights(trained.file) == [2.0, 3.0, 4.0]
    assert trained.file[:100] == MODEL[:100]  # its header and its dtypes, whatever the command wrote
    assert (trained.examples, trained.metrics) == (12, {"loss": 0.5})
    assert runner.output(small) == "round 4 step 2 the data"
    assert weights(runner.train(small, step=-1).file) == [-1.0, 0.0, 1.0]


def test_any_language(runner: Runner) -> None:
    """A shell and awk: the model is copied as it is, the metrics are written by hand."""
    report = """awk 'BEGIN { printf "{\\"examples\\": %d, \\"metrics\\": {\\"size\\": %d}}", 5, ARGV[1] }' """
    small = command(
        files={"tools/train.sh": f'cp "$1" "$2" && {report} $(wc -c < "$1") > "$2.json"'},
        train="sh tools/train.sh <model_in> <model_out>",
        validate=f"{report} 7 > <metrics_out>",
        predict="cp <config> <output>/config.json",
    )
    trained = runner.train(small)
    assert trained.file == MODEL
    assert (trained.examples, trained.metrics) == (5, {"size": len(MODEL)})
    assert runner.report(small, VALIDATE) == runner.report(small, CHECK) == (5, {"size": 7.0})
    assert runner.report(small, PREDICT) == (0, {})
    (config,) = runner.home.glob("predictions/*/config.json")
    assert json.loads(config.read_text()).keys() == {"round", "seed", "proximal_mu"}


def test_the_owners_text_is_one_word_of_the_shell(tmp_path: Path) -> None:
    nasty = "a 'b' $(touch /tmp/x) ; c"
    small = command(train="printf '%s|' <data> \"$FEDN_DATA\"; false")
    with running(tmp_path, nasty) as runner:
        refused(lambda: runner.train(small))
        assert runner.output(small) == f"{nasty}|{nasty}|"


def test_the_package_is_where_it_runs_and_can_not_be_changed(runner: Runner) -> None:
    small = command(
        files={"own.txt": "mine"}, train='cat own.txt; echo x > new || echo x > "$TMPDIR/new"; false'
    )
    for _ in range(2):
        refused(lambda: runner.train(small))
    folder = runner.home / "client" / "packages" / small.digest
    assert {path.name for path in folder.iterdir()} == {"fedn.yaml", "own.txt"}
    assert list((runner.home / "client" / "work").iterdir()) == []


# --- what the owner says ---------------------------------------------------------------------------


def test_only_packages_that_the_owner_allows(tmp_path: Path) -> None:
    small, other = good(), python("def train(model, data, config): return model, 1", "train")
    with running(tmp_path, allow=frozenset({small.digest})) as runner:
        runner.train(small)
        message = refused(lambda: runner.train(other))
    assert message == (
        f"package: {other.digest[:12]} is refused — this client allows only {small.digest[:12]}"
    )


def test_the_owners_hyperparameters_go_over_the_plans(tmp_path: Path) -> None:
    small = good()
    with running(tmp_path, hyperparameters={"step": 5}) as runner:
        assert weights(runner.train(small, step=2.0).file) == [5.0, 6.0, 7.0]


def test_no_requirements_where_the_owner_installs_none(tmp_path: Path) -> None:
    small = python(GOOD, "train", requirements=["numpy>=1"])
    with running(tmp_path, environments=False) as runner:
        assert "has requirements, and this client installs none" in refused(lambda: runner.train(small))


def test_what_it_requires_is_in_an_environment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For functions and commands alike."""
    (tmp_path / "wheels").mkdir()
    wheel(tmp_path / "wheels", "fednprobe", "1.0", "NAME = 'probe'\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    code = "import fednprobe\ndef train(model, data, config):\n    return model, len(fednprobe.NAME)\n"
    report = "import fednprobe, json; print(json.dumps({'examples': len(fednprobe.NAME)}))"
    small = package(
        {"train": {"python": "app:train"}, "validate": "python validate.py > <metrics_out>"},
        {"app.py": code, "validate.py": report}, requirements=["fednprobe"],
    )  # fmt: skip
    with running(tmp_path) as runner:
        assert runner.train(small).examples == 5
        assert runner.report(small, VALIDATE) == (5, {})
        words = [fields["reason"] for fields in runner.told.named("environment")]
    assert words[0].startswith("making an environment for fednprobe")
    noted = [
        (line.what, line.digest, line.details.get("requirements")) for line in entries(tmp_path / "ledger")
    ]
    ran = ("package_begun", small.digest, None)
    assert noted == [("install_begun", small.digest, 1), ran, ran]


def test_a_task_without_a_package_is_refused(runner: Runner) -> None:
    task = replace(good().task(), package="", package_size=0)
    assert "the session has none" in refused(lambda: runner.trainer.train(MODEL, task))


# --- before the training, and near the global model ------------------------------------------------


@pytest.mark.parametrize("validate", ["python", "command"])
def test_metrics_before_the_training(runner: Runner, validate: str) -> None:
    command_ = 'echo \'{"examples": 4, "metrics": {"mean": 1}}\' > <metrics_out>'
    points = {"python": {"python": "app:validate"}, "command": command_}
    started = {name: {"python": f"app:{name}"} for name in ("startup", "train")}
    small = package(
        {**started, "validate": points[validate]}, {"app.py": GOOD}, hyperparameters={"step": 1.0}
    )
    metrics = runner.train(small, measure_before_fit=True).metrics
    assert metrics["before_mean"] == 1.0
    assert metrics.keys() == {"before_mean", "pid", "tasks", "seed"}


def test_the_numpy_helper_hands_mu_on_and_sklearn_refuses_it(runner: Runner) -> None:
    code = "def train(model, data, config): return model, 1, {'mu': config['proximal_mu']}\ndef build(): ..."
    assert runner.train(python(code, "train"), proximal_mu=0.5).metrics == {"mu": 0.5}
    other = python(code, "train", "build", helper="sklearn")
    assert "proximal_mu: 0.5 can't be used with the helper sklearn" in refused(
        lambda: runner.report(other, CHECK, proximal_mu=0.5)
    )


# --- what package code sees ------------------------------------------------------------------------


@landlocked
def test_package_code_reads_its_data_and_nothing_of_the_client(tmp_path: Path) -> None:
    identity = tmp_path / "identity"
    identity.mkdir()
    (identity / "key.pem").write_text("canary")
    (tmp_path / "data.csv").write_text("1,2,3")
    code = (
        "from pathlib import Path\n"
        "def startup(data):\n"
        "    assert Path(data).joinpath('data.csv').read_text() == '1,2,3'\n"
        "    return Path(data)\n"
        "def validate(model, data):\n"
        "    denied = 0\n"
        "    for path, mode in (('identity/key.pem', 'r'), ('new', 'w'), ('data.csv', 'a')):\n"
        "        try: (data / path).open(mode).close()\n"
        "        except PermissionError: denied += 1\n"
        "    return 1, {'denied': denied}\n"
        "def train(*_): ...\n"
    )
    small = python(code, "startup", "validate", "train")
    with running(tmp_path, str(tmp_path)) as runner:
        assert runner.report(small, VALIDATE)[1] == {"denied": 3}
    assert not (tmp_path / "new").exists()


@landlocked
def test_package_code_does_not_read_the_settings_file(tmp_path: Path) -> None:
    """Wherever it lies below what package code reads; a client does not even start with it in the data."""
    (file := tmp_path / "settings-client.yaml").write_text("canary")
    (tmp_path / "data.csv").write_text("1,2,3")
    script = 'cat "$FEDN_DATA/data.csv" "$FEDN_DATA/settings-client.yaml"; false'
    small = command(train=script)
    settings = ClientSettings(data=str(tmp_path), state_dir=tmp_path / "state")
    trainer = package_trainer(settings, ME, tmp_path / "home", tmp_path / "predictions", Told(), file)
    try:
        refused(lambda: trainer.train(MODEL, small.task(), memoryview(small.archive)))
        said = trainer.log(small.digest).read_text()
    finally:
        trainer.close()
    assert "1,2,3" in said
    assert "canary" not in said


def test_secrets_in_the_environment_do_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_TOKEN", "canary")
    code = "import os\ndef train(model, *_):\n    print(dict(os.environ), flush=True)\n    return model, 1\n"
    small, other = python(code, "train"), command(train="env")
    with running(tmp_path, confinement="none") as runner:
        runner.train(small)
        refused(lambda: runner.train(other))
        assert "HOME" in (said := runner.output(small) + runner.output(other))
        assert "canary" not in said
