"""What an owner wants of confinement, and what a system has for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedn.client.app import run
from fedn.client.confinement import check_apart, is_missing, settle, words
from fedn.config import ClientSettings
from fedn.domain.errors import InvalidConfig


@pytest.mark.parametrize(
    ("wanted", "version", "confined", "said"),
    [
        ("none", 7, False, "it can read and write what this user can (confinement: none)"),
        ("available", 0, False, "this system has no Landlock"),
        ("available", 2, True, "package code can empty files"),
        ("available", 7, True, "package code is confined by Landlock 7 (confinement: available)"),
        ("required", 3, True, "package code is confined by Landlock 3 (confinement: required)"),
    ],
)
def test_which_holds_is_said(
    wanted: str, version: int, confined: bool, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fedn.client")
    assert settle(wanted, "the data", version) is confined
    assert said in caplog.text


@pytest.mark.parametrize("wanted", ["none", "available"])
def test_a_path_where_nothing_is_is_warned_of(
    wanted: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "there.npz").touch()
    for data in (tmp_path / "there.npz", "demo", "the data", "", "postgres://me:secret@host/table.v1"):
        settle(wanted, str(data), 7)
    assert "check --data" not in caplog.text
    assert is_missing("nothing.csv")
    settle(wanted, str(tmp_path / "nothing"), 7)
    assert f"there is nothing at {tmp_path / 'nothing'}: check --data" in caplog.text


@pytest.mark.parametrize(("version", "has"), [(0, "no Landlock"), (2, "Landlock 2, which lets files be")])
def test_where_it_is_required_less_than_all_of_it_is_refused(version: int, has: str) -> None:
    with pytest.raises(InvalidConfig, match=f"confinement: is required, and this system has {has}.* — use"):
        settle("required", "the data", version)


def test_what_status_says() -> None:
    assert words("available", 4) == "available, by Landlock 4"
    assert words("available", 0) == "available, and not there: no Landlock"
    assert words("none", 7).startswith("none: ")


def test_an_app_is_never_confined() -> None:
    with pytest.raises(InvalidConfig, match="confinement: is required, and an app is never confined"):
        ClientSettings(app="a:b", confinement="required")


@pytest.mark.parametrize("where", ["state", "deep/down/state", "."])
def test_what_is_the_clients_own_does_not_lie_in_the_data(tmp_path: Path, where: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "other-name").symlink_to(data)
    for given in (data, tmp_path / "other-name"):
        with pytest.raises(InvalidConfig, match=r"data: .* holds the client's own .* \(state_dir\)"):
            check_apart(str(given), {"state_dir": data / where})
    check_apart(str(data), {"state_dir": tmp_path / "data-2" / where})
    check_apart("", {"state_dir": Path.cwd()})
    check_apart("a table of some database", {"state_dir": Path.cwd()})


@pytest.mark.parametrize("name", ["state_dir", "join_file", "its settings", "FEDN_DATA_DIR"])
def test_a_client_does_not_start_with_its_own_files_in_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data, own = tmp_path / "data", tmp_path / "own"
    data.mkdir()
    monkeypatch.delenv("FEDN_DATA_DIR", raising=False)
    at = {one: (data if name == one else own) / "it" for one in ("state_dir", "join_file", "its settings")}
    if name == "FEDN_DATA_DIR":
        monkeypatch.setenv(name, str(tmp_path))
    settings = ClientSettings(
        data=str(data), state_dir=at["state_dir"], join_file=str(at["join_file"]), reducer="https://host:1"
    )
    with pytest.raises(InvalidConfig, match=rf"data: .*\({'state_dir' if name.isupper() else name}\)"):
        run(settings, at["its settings"])
    assert not own.exists(), "it was claimed before it was refused"
