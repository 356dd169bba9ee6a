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


def test_run_shows_what_a_failing_package_printed(folder: Path) -> None:
    failing = "\ndef build(): ...\ndef train(*_):\n    raise ValueError('row 7')\n"
    (folder / "app.py").write_text(GOOD + failing)
    Path("seed.safetensors").write_bytes(MODEL)
    result = cli("train", "--package", folder, "--data", "x", "--model", "seed.safetensors")
    assert result.exit_code == 2
    assert "started with x" in result.stderr
    assert "ValueError: row 7" in result.stderr
    assert "Error: package.train(): raised ValueError" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--config", "speed=2"), "config.speed: is not a hyperparameter"),
        (("--model", "nowhere"), "--model: nowhere can't be read"),
        (("--package", "nowhere"), "--package: nowhere can't be read"),
        (("--seed", "-1"), "seed: -1 is out of bounds"),
    ],
)
def test_run_names_bad_input(folder: Path, arguments: tuple[str, ...], problem: str) -> None:
    result = cli("train", "--package", folder, "--data", "x", *arguments)
    assert result.exit_code == 2
    assert problem in result.stderr
    assert not list(Path.cwd().glob("fedn-run/update*"))
