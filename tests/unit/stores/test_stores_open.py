from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedn.domain.errors import InvalidConfig, NotFound, StoreUnavailable
from fedn.stores import open_models, open_state
from fedn.stores.memory import MemoryModels, MemoryState


def test_memory_urls_open_fresh_twins():
    assert isinstance(open_state("memory://"), MemoryState)
    assert isinstance(open_models("memory://"), MemoryModels)


def test_three_slashes_are_relative_and_four_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    open_state("sqlite:///deep/er/one.db").close()
    open_state(f"sqlite:///{tmp_path}/two.db").close()
    assert (tmp_path / "deep/er/one.db").is_file()
    assert (tmp_path / "two.db").is_file()


def test_file_urls_without_slashes_are_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    open_models("file:deep/er/one").put([b"abc"])
    open_models(f"file://{tmp_path}/two").put([b"abc"])
    assert (tmp_path / "deep/er/one").is_dir()
    assert (tmp_path / "two").is_dir()


def test_paths_are_taken_literally(tmp_path: Path):
    path = tmp_path / "100% ünïcode #1 %41.db"
    open_state(f"sqlite:///{path}").close()
    assert path.is_file()


@pytest.mark.parametrize(
    "url",
    ["", "postgres://localhost/fedn", "file:///x", "memory:", "sqlite://x.db", "sqlite:///", "sqlite:x.db",
     "sqlite:///:memory:", "sqlite:///x.db?mode=ro"],
)  # fmt: skip
def test_an_unknown_state_url_is_refused_by_field(url: str):
    with pytest.raises(InvalidConfig, match=r"sqlite:////absolute and memory://") as caught:
        open_state(url)
    assert caught.value.details["field"] == "state_store"


@pytest.mark.parametrize(
    "url",
    ["", "s4://bucket", "sqlite:///x", "memory", "file:", "file://", "file:///", "file://host/x", "file:/x",
     "file:x?y"],
)  # fmt: skip
def test_an_unknown_model_url_is_refused_by_field(url: str):
    with pytest.raises(InvalidConfig, match=r"file:///absolute and memory://") as caught:
        open_models(url)
    assert caught.value.details["field"] == "model_store"


def test_read_only_creates_nothing(tmp_path: Path):
    with pytest.raises(NotFound):
        open_state(f"sqlite:///{tmp_path}/x.db", read_only=True)
    with pytest.raises(NotFound):
        open_models(f"file://{tmp_path}/models", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_can_not_be_used_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("here already")
    with pytest.raises(StoreUnavailable, match="file"):
        open_state(f"sqlite:///{tmp_path}/file/x.db")
    with pytest.raises(StoreUnavailable, match="file"):
        open_models(f"file://{tmp_path}/file/models")


def test_memory_users_do_not_load_sqlite():
    code = (
        "import sys; from fedn.stores import open_models, open_state; "
        "open_state('memory://'); open_models('memory://'); sys.exit('sqlite3' in sys.modules)"
    )
    root = Path(sys.modules["fedn.stores"].__file__ or "").parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
