"""A package to start from, for `fedn package init`: linear regression in numpy."""

from __future__ import annotations

from pathlib import Path

from fedn.domain.errors import InvalidInput
from fedn.domain.ids import check_id
from fedn.packages.manifest import MANIFEST
from fedn.packages.packing import IGNORE
from fedn.stores.disk import disk_errors, make_directory

_MANIFEST = """\
name: {name}
description: Linear regression by gradient descent.
helper: numpy                       # turns the model's tensors into a dict of arrays, and back
entry_points:
  startup: {{python: "app:startup"}}   # once per worker; what it returns is handed on as data
  train: {{python: "app:train"}}
  validate: {{python: "app:validate"}}
  build: {{python: "app:build"}}       # the model to start from
hyperparameters: {{learning_rate: 0.1, steps: 20}}
# requirements: [scipy>=1.11]       # installed into an environment of its own
"""

_APP = '''\
"""What a client runs: startup() once, then train() and validate() whenever it is asked to."""

import numpy as np

TRUE_WEIGHTS = np.array([3.0, -2.0, 0.5])


def startup(data):
    """Read the client's own data: `data` is what its owner gave with --data; for 'demo' it is made up."""
    if data == "demo":
        x = np.random.default_rng().normal(size=(100, 3))
        return x, x @ TRUE_WEIGHTS + 1.0
    with np.load(data) as file:
        return file["x"], file["y"]


def build():
    return {"weights": np.zeros(3), "bias": np.zeros(())}


def train(model, data, config):
    x, y = data
    for _ in range(config["steps"]):
        error = x @ model["weights"] + model["bias"] - y
        model["weights"] -= config["learning_rate"] * x.T @ error / len(x)
        model["bias"] -= config["learning_rate"] * error.mean()
    return model, len(x)


def validate(model, data):
    x, y = data
    error = x @ model["weights"] + model["bias"] - y
    return len(x), {"rmse": float(np.sqrt(np.mean(error**2)))}
'''


_IGNORE = """\
# Left out of the package: data and models have their own ways.
*.csv
*.npz
*.parquet
*.safetensors
fedn-data/
fedn-run/
"""


def start_package(folder: Path) -> list[Path]:
    """Write a small package into ``folder``, which is made if need be; returns the files.

    Raises InvalidInput if one of them is there, or if the folder's name is no name for a package, and
    StoreUnavailable if they can't be written.
    """
    name = check_id("DIR", folder.absolute().name)
    texts = {
        folder / MANIFEST: _MANIFEST.format(name=name),
        folder / "app.py": _APP,
        folder / IGNORE: _IGNORE,
    }
    for path in texts:
        if path.exists():
            raise InvalidInput(str(path), "is there already", "give a folder without it")
    make_directory(folder.absolute())
    for path, text in texts.items():
        with disk_errors(path):
            path.write_text(text, encoding="utf-8")
    return list(texts)
