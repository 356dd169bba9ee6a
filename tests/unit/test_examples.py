"""The examples are what they say: short, packed without what clients don't need, told of in the index."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fedn.packages.packing import survey
from fedn.sandbox import examples

EXAMPLES = Path(__file__).parents[2] / "examples"
PACKAGES = sorted(file.parent.name for file in EXAMPLES.glob("*/fedn.yaml"))
OTHERS = {"any-language": ["fedn.yaml", "regression.pl"]}
MOST_LINES = 80


def test_there_are_examples() -> None:
    assert len(PACKAGES) == 6


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_holds_the_users_code_alone_and_that_is_short(name: str) -> None:
    folder = survey(EXAMPLES / name)
    assert folder.manifest.name == name
    assert [file.path for file in folder.files] == OTHERS.get(name, ["app.py", "fedn.yaml"])
    for file in folder.files:
        assert len((EXAMPLES / name / file.path).read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", [*PACKAGES, "notebook-fit"])
def test_the_sandbox_finds_it_and_its_readme_tells_how_to_run_it(name: str) -> None:
    assert examples.find(name).folder == EXAMPLES / name
    readme = (EXAMPLES / name / "README.md").read_text()
    assert f"make sandbox EXAMPLE={name}" in readme
    assert "## By hand" in readme


def test_the_index_names_every_example() -> None:
    index = (EXAMPLES / "README.md").read_text()
    folders = {folder.name for folder in EXAMPLES.iterdir() if folder.is_dir() and list(folder.glob("*.*"))}
    assert set(re.findall(r"^\| \[([\w-]+)\]\(\1\)", index, re.MULTILINE)) == folders


def test_the_two_mnist_examples_deal_the_same_data() -> None:
    one, other = (
        (EXAMPLES / name / "make_data.py").read_bytes() for name in ("mnist-keras", "mnist-pytorch")
    )
    assert one == other


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = json.loads((EXAMPLES / "notebook-fit" / "fit.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
