"""`fedn run`: a package on this machine, exactly as a client would run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import package_files
import pytest
from click.testing import CliRunner
from small_packages import EVERY, GOOD, MODEL, weights

from fedn.cli.root import root


def cli(*arguments: object) -> Any:
    return CliRunner().invoke(root, ["run", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return package_files.write(
        tmp_path / "made",
        {
            "fedn.yaml": "name: made\nentry_points: {" + ", ".join(
                f'{name}: {{python: "app:{name}"}}' for name in (*EVERY, "build")
            ) + "}\nhyperparameters: {step: 1.0}\n",
            "app.py": GOOD + "\ndef build():\n    import numpy\n    return {'w': numpy.zeros(2)}\n",
        },
    )  # fmt: skip


def test_run_does_what_a_client_would(folder: Path) -> None:
    result = cli(
        "train", "--package", folder, "--data", "x", "--config", "step=4", "--measure-before-fit", "--json"
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["metrics"]["before_mean"] == 0.0
    assert weights(Path(told["update"]).read_bytes()) == [4.0, 4.0]
    assert json.loads(Path("fedn-run/metrics.json").read_text()) == told
    assert "started with x" in Path("fedn-run/output.log").read_text()
    with_model = ("--package", folder, "--data", "x", "--model", told["update"])
    assert "mean 4.0000" in cli("validate", *with_model).stdout
    assert cli("check", *with_model).exit_code == 0
    predicted = json.loads(cli("predict", *with_model, "--json").stdout)["predictions"]
    assert Path(predicted, "predicted.txt").read_text() == "[4.0, 4.0]"
    assert weights(Path(told["seed"]).read_bytes()) == [0.0, 0.0]


def test_metrics_alone_count_as_one_example_and_it_says_so(folder: Path) -> None:
    run = ("validate", "--package", folder, "--data", "group/set")
    assert "counts as" not in cli(*run).stderr
    (folder / "app.py").write_text((folder / "app.py").read_text().replace('len(data["text"]), {', "{"))
    result = cli(*run)
    assert "examples 1" in " ".join(result.stdout.split())
    assert "It counts as 1 example: return (examples, metrics) to weight it." in result.stderr


def test_a_plan_is_read_as_a_session_reads_it(folder: Path) -> None:
    Path("plan.yaml").write_text('config: {step: {"1": 3.0, "2": 5.0}}\nseed: 7\n')
    run = ("train", "--package", folder, "--data", "x", "--json")
    for given, value in [
        (("--plan", "plan.yaml"), 3.0),
        (("--plan", "plan.yaml", "--config", 'step={"1": 2.0, "9": 5.0}'), 2.0),
    ]:
        told = json.loads(cli(*run, *given).stdout)
        assert weights(Path(told["update"]).read_bytes()) == [value, value]


def test_run_shows_what_a_failing_package_printed(folder: Path) -> None:
    failing = "\ndef build(): ...\ndef train(*_):\n    raise ValueError('row 7')\n"
    (folder / "app.py").write_text(GOOD + failing)
    Path("seed.safetensors").write_bytes(MODEL)
    result = cli("train", "--package", folder, "--data", "x", "--model", "seed.safetensors")
    assert result.exit_code == 2
    assert "started with x" in result.stderr
    assert "ValueError: row 7" in result.stderr
    said = "Error: package.train(): raised ValueError — see the traceback in fedn-run/output.log"
    assert said in result.stderr


def test_a_missing_entry_point_is_named_before_a_model_is_made_for_it(folder: Path) -> None:
    manifest = folder / "fedn.yaml"
    manifest.write_text(manifest.read_text().replace('predict: {python: "app:predict"}, ', ""))
    (folder / "app.py").write_text(GOOD + "\ndef build():\n    raise ValueError('nothing to build')\n")
    result = cli("predict", "--package", folder, "--data", "x")
    assert result.exit_code == 2
    said = "Error: package: has no predict — add predict to the entry_points of its fedn.yaml\n"
    assert result.stderr == said, "of a package that printed nothing there is nothing to show"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--config", "speed=2"), "config.speed: is not a hyperparameter"),
        (("--model", "nowhere"), "--model: nowhere can't be read"),
        (("--package", "nowhere"), "--package: nowhere can't be read"),
        (("--seed", "-1"), "seed: -1 is out of bounds"),
        (("--data", "nowhere/x.npz"), "data: there is nothing at nowhere/x.npz — check --data"),
        (("--data", "made/nowhere"), "data: there is nothing at made/nowhere — check --data"),
    ],
)
def test_run_names_bad_input(folder: Path, arguments: tuple[str, ...], problem: str) -> None:
    result = cli("train", "--package", folder, "--data", "x", *arguments)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert not list(Path.cwd().glob("fedn-run/update*"))
