"""`fedn model seed` from a function and from an address; from a file it is in `test_commands`."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from fedn.helpers.files import seed_file

FILE = seed_file({"w": np.zeros(3)})
CODE = """
import numpy as np

def build():
    return {"w": np.zeros(3)}

def path():
    return "zeros.safetensors"

def broken():
    raise ValueError("no clay left")

def number():
    return 3
"""


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("my_model.py").write_text(CODE)
    Path("zeros.safetensors").write_bytes(FILE)


@pytest.mark.parametrize(("target", "name"), [("my_model:build", "build"), ("my_model.py:path", "path")])
def test_what_a_function_returns_is_seeded(fedn, target, name):
    info = fedn.json("model", "seed", "--from", target)
    assert (info["digest"], info["name"]) == (sha256(FILE).hexdigest(), name)
    assert fedn.json("model", "seed", "--from", target, "--name", "mine")["name"] == "mine"


def test_what_is_at_an_address_is_seeded(fedn):
    digest = fedn.json("model", "seed", "zeros.safetensors")["digest"]
    info = fedn.json("model", "seed", "--url", f"{fedn.url}/api/v1/models/{digest}")
    assert (info["digest"], info["name"]) == (digest, digest)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--from", "my_model:broken"], "--from: my_model:broken raised ValueError: no clay left"),
        (["--from", "my_model:number"], "model: is of type int, which is of no framework that is known"),
        (["--from", "my_model:nothing"], "--from: my_model has no nothing"),
        (["--from", "my_model"], "--from: 'my_model' names no factory"),
        (["--url", "zeros.safetensors"], "--url: is not an address"),
        (["--url", "file:///etc/passwd"], "url: is of kind 'file'"),
        ([], "Give a FILE, --url or --from."),
        (["zeros.safetensors", "--from", "my_model:build"], "Give a FILE, --url or --from."),
    ],
)
def test_what_is_wrong_is_named(alone, arguments, words):
    assert words in alone.refused(2, "model", "seed", *arguments)


def test_nobody_at_the_address_is_unavailable(alone):
    assert "can't be read" in alone.refused(3, "model", "seed", "--url", "http://127.0.0.1:9/x.safetensors")
