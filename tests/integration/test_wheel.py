"""The built wheel, installed beside nothing of this source tree, does what the tree does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import fedn

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "fedn"


def _run(*command: object, cwd: Path, timeout: float = 110) -> subprocess.CompletedProcess[str]:
    """Run with nothing of this environment that could point back at the tree."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("FEDN_", "PYTHON"))}
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=keep, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a new environment that has the wheel, and borrows its dependencies."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=home)
    (site,) = home.glob("lib/python*/site-packages")
    # Behind the wheel on the path, and its own .pth files (such as the editable install) stay unread.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return tmp_path


def test_it_carries_every_file_of_the_package(wheel: Path) -> None:
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("fedn/")}
    there = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts
    }
    assert carried == there
    assert {"fedn/py.typed", "fedn/wire/pb/fedn_pb2.py", "fedn/wire/pb/fedn_pb2_grpc.py"} <= carried


def test_the_wheel_and_not_the_tree_is_imported(installed: Path, empty: Path) -> None:
    done = _run(installed / "python", "-c", "import fedn; print(fedn.__file__)", cwd=empty)
    assert str(installed.parent) in done.stdout


def test_the_command_says_its_version_and_helps(installed: Path, empty: Path) -> None:
    assert fedn.__version__ in _run(installed / "fedn", "--version", cwd=empty).stdout
    assert "sandbox" in _run(installed / "fedn", "--help", cwd=empty).stdout


def test_a_whole_federation_trains_from_it(installed: Path, empty: Path) -> None:
    flags = ("--rounds", 2, "--clients", 2, "--combiners", 1, "--exit", "--json")
    outcome = json.loads(_run(installed / "fedn", "sandbox", *flags, cwd=empty).stdout)
    assert (outcome["rounds"], outcome["clients"], outcome["combiners"]) == (2, 2, 1)
    assert len(outcome["accuracy"]) == 2
    assert outcome["trail_ok"] is True
    assert outcome["flat_difference"] < 1e-6
