"""A helper without its framework says which extra brings it; importing the helpers loads no framework."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FRAMEWORKS = ("keras", "tensorflow", "torch", "sklearn", "scikit_learn", "jax", "ml_dtypes")
TRY = """
import importlib, sys
from fedn.domain.errors import InvalidInput
import fedn.helpers.files
for module, helper in [("keras", "KerasHelper"), ("torch", "TorchHelper"), ("sklearn", "SklearnHelper")]:
    try:
        getattr(importlib.import_module("fedn.helpers." + module), helper)()
    except InvalidInput as error:
        print(error.message)
print("loaded:", *sorted({"keras", "tensorflow", "torch", "sklearn", "ml_dtypes"} & set(sys.modules)))
"""


@pytest.fixture
def bare_packages(tmp_path: Path) -> Path:
    """All installed packages but the frameworks, as a folder of links."""
    for package in Path(np.__file__).parents[1].iterdir():
        if not package.name.startswith(FRAMEWORKS):
            (tmp_path / package.name).symlink_to(package)
    return tmp_path


def test_a_missing_framework_is_named_with_its_extra(bare_packages: Path) -> None:
    source = Path(__file__).parents[3]
    run = subprocess.run(
        [sys.executable, "-S", "-c", TRY],
        env={**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{bare_packages}"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.splitlines() == [
        f"helper: '{extra}' needs {extra}, which can't be imported: No module named '{extra}' — "
        f"pip install '.[{extra}]' in fedn's source tree"
        for extra in ("keras", "torch", "sklearn")
    ] + ["loaded:"]
