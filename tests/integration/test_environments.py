"""Environments of packages: made by the real pip from wheels of the test's own, without any network."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedn.domain.errors import InvalidInput, StoreUnavailable, Unavailable
from fedn.packages.environment import Log, environment

SETUP = "import pathlib, os\npathlib.Path(os.environ['HOME'], 'ran').write_text('')\n"


def wheel(folder: Path, name: str, version: str, code: str, needs: str = "") -> None:
    """A package in one module, as the least wheel that pip installs."""
    info = f"{name}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    about += f"Requires-Dist: {needs}\n" if needs else ""
    kind = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    script = f"[console_scripts]\n{name} = {name}:main\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        files = {f"{name}.py": code, f"{info}/METADATA": about, f"{info}/WHEEL": kind, f"{info}/RECORD": "",
                 f"{info}/entry_points.txt": script}  # fmt: skip
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pip finds packages, and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel(folder, "fednprobe", "1.0", "NAME = 'one'\ndef main():\n    print('main of', NAME)\n")
    wheel(folder, "fednprobe", "2.0", "NAME = 'two'\n")
    wheel(folder, "fednneeds", "1.0", "", needs="fednmissing>=3")
    wheel(folder, "filelock", "0.0.1", "NAME = 'not the real one'\n")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    return folder


def said_by(python: Path, *command: str) -> str:
    return subprocess.run([python, *command], capture_output=True, text=True, check=True).stdout.strip()


def environments(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


def test_an_environment_is_made_once_and_has_the_clients_libraries_behind_its_own(index, tmp_path):
    heard: list[str] = []
    cache = tmp_path / "deep" / "cache"
    wanted = ["fednprobe<2", "filelock==0.0.1"]
    with ThreadPoolExecutor(3) as threads:  # one makes it, the others wait for it
        orders = (wanted, wanted[::-1], wanted)
        (python,) = set(threads.map(lambda order: environment(order, cache, heard.append), orders))
    assert heard == [f"making an environment for {', '.join(wanted)}; this takes a while, once",
                     "the environment is ready"]  # fmt: skip
    code = "import fednprobe, filelock, yaml; print(fednprobe.NAME, '/', filelock.NAME)"
    assert said_by(python, "-c", code) == "one / not the real one"
    assert said_by(python.with_name("fednprobe")) == "main of one"

    os.utime(python.parent.parent / "ready.json", (1e9, 1e9))  # long unused
    other = environment(["fednprobe"], cache, heard.append)
    assert environments(cache) == [other.parent.parent]
    assert said_by(other, "-c", "import fednprobe; print(fednprobe.NAME)") == "two"


@pytest.mark.parametrize(
    ("wanted", "blamed"),
    [
        (["fednprobe", "fednneeds"], "requirements: fednneeds"),
        (["fednsource>=1"], "requirements: fednsource>=1"),
    ],
)
def test_what_cannot_be_installed_is_named_with_the_last_lines(index, tmp_path, wanted, blamed):
    source = index / "fednsource-1.0"
    source.mkdir()
    (source / "setup.py").write_text(SETUP)
    subprocess.run(["tar", "-czf", f"{source}.tar.gz", "-C", index, source.name], check=True)
    with pytest.raises(InvalidInput) as caught:
        environment(wanted, tmp_path / "cache", lambda text: None)
    message = caught.value.message
    assert message.startswith(f"{blamed}: the installer failed with exit code 1")
    assert "No matching distribution found" in message
    log = next((tmp_path / "cache").glob("*.log"))
    assert str(log) in message
    assert "No matching distribution found" in log.read_text()
    assert environments(tmp_path / "cache") == []
    assert not (tmp_path / "ran").exists(), "nothing of a requirement runs while it is installed"


def test_what_takes_too_long_is_given_up_and_leaves_nothing(tmp_path):
    with pytest.raises(Unavailable, match="not ready in time"):
        environment(["fednprobe"], tmp_path / "cache", lambda text: None, seconds=0.3)
    assert environments(tmp_path / "cache") == []


def test_what_the_installer_prints_is_bounded_and_it_hears_no_secrets(tmp_path, monkeypatch):
    code = "import os; print([n for n in os.environ if 'FEDN' in n]); print('x' * 5_000_000); exit(3)"
    monkeypatch.setenv("FEDN_TOKEN", "secret")
    log = Log(tmp_path / "log")
    assert (
        log.run([sys.executable, "-c", code], time.monotonic() + 60)
        == "the installer failed with exit code 3"
    )
    assert log.path.stat().st_size == 2**20
    assert log.path.read_text().startswith("[]\n")
    assert sum(map(len, log.tail)) < 3000


def test_a_place_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        environment(["fednprobe"], tmp_path / "file" / "cache", lambda text: None)
