"""Folders that may be read, taken apart around what may not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedn.client import surroundings
from fedn.client.surroundings import Surroundings, around, variables
from fedn.domain.errors import InvalidInput


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for path in ("a/1.csv", "b/c/2.csv", "b/state/key.pem", "b/3.csv"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "b" / "link").symlink_to(tmp_path / "b" / "state")
    return tmp_path


def names(data: Path, *hidden: str) -> dict[str, bool]:
    found = around(data, [data / name for name in hidden])
    return {str(path.relative_to(data)): whole for path, whole in found}


def test_a_folder_with_nothing_hidden_in_it_is_whole(data: Path) -> None:
    assert list(around(data, [data.parent / "elsewhere"])) == [(data, True)]


def test_what_is_hidden_is_left_out_and_the_folders_above_it_are_only_listed(data: Path) -> None:
    expected = {".": False, "a": True, "b": False, "b/3.csv": True, "b/c": True}
    assert names(data, "b/state") == expected
    assert names(data, "b/state", "a") == {name: whole for name, whole in expected.items() if name != "a"}
    assert names(data, ".") == {}


def test_too_many_neighbours_of_what_is_hidden(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "MAX_ENTRIES", 2)
    with pytest.raises(InvalidInput, match=r"data: lies around the client's own state, in .*/b"):
        names(data, "b/state")


def test_a_process_reads_its_package_and_its_data_but_not_where_the_client_was_started(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data / "b")
    monkeypatch.setattr(sys, "path", ["", str(data / "b"), *sys.path])
    python = Path(sys.executable)
    spec = Surroundings(str(data / "a"), (), confined=True).spec(
        ("true",), data / "b" / "c", data / "work", data / "log", python
    )
    of_the_test = {path for path in spec.read if Path(path).is_relative_to(data)}
    assert of_the_test == {str(data / "a"), str(data / "b" / "c")}
    assert spec.write[0] == str(data / "work")
    assert spec.cwd == str(data / "b" / "c")


def test_the_environment_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_TIME", "sv_SE.UTF-8")
    monkeypatch.setenv("FEDN_CLIENT_JOIN", "canary")
    monkeypatch.setenv("FEDN_DATA_DIR", "data")
    monkeypatch.chdir(tmp_path)
    made = variables(tmp_path, Path("/env/bin/python"))
    assert made["LC_TIME"] == "sv_SE.UTF-8"
    assert made["HOME"] == made["TMPDIR"] == str(tmp_path)
    assert made["FEDN_DATA_DIR"] == str(tmp_path / "data")
    assert made["PATH"].startswith("/env/bin:")
    assert "canary" not in made.values()
