"""Environments of packages: made by the real pip from wheels of the test's own, without any network."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from disk import Disk
from small_packages import GOOD, MODEL, python, refused, running

from fedn.client.installing import Installing
from fedn.client.process import Stop
from fedn.domain.errors import InvalidInput, StoreUnavailable, Unavailable
from fedn.packages.environment import Environment, Installer, environment
from fedn.packages.kept import size_of

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


def made(
    wanted: list[str], cache: Path, say: Callable[[str], None] = lambda _: None,
    by: Installer | None = None, **bounds: float,
) -> Environment:  # fmt: skip
    return environment(wanted, cache, say, by or Installing(Stop()), **bounds)  # type: ignore[arg-type]


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
        several = list(threads.map(lambda order: made(order, cache, heard.append), orders))
    (python,) = {one.python for one in several}
    assert heard == [f"making an environment for {', '.join(wanted)}; this takes a while, once",
                     "the environment is ready"]  # fmt: skip
    code = "import fednprobe, filelock, yaml; print(fednprobe.NAME, '/', filelock.NAME)"
    assert said_by(python, "-c", code) == "one / not the real one"
    assert said_by(python.with_name("fednprobe")) == "main of one"

    for one in several:
        one.close()
    os.utime(python.parent.parent / "ready.json", (1e9, 1e9))  # long unused
    (cache / "half-made" / "lib").mkdir(parents=True)  # by a process that was killed
    with closing(made(["fednprobe"], cache, heard.append)) as other:
        assert environments(cache) == [other.python.parent.parent]
        assert said_by(other.python, "-c", "import fednprobe; print(fednprobe.NAME)") == "two"


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
        made(wanted, tmp_path / "cache")
    message = caught.value.message
    assert message.startswith(f"{blamed}: the installer ended with exit status 1")
    assert "No matching distribution found" in message
    log = next((tmp_path / "cache").glob("*.log"))
    assert str(log) in message
    assert "No matching distribution found" in log.read_text()
    assert environments(tmp_path / "cache") == []
    assert not (tmp_path / "ran").exists(), "nothing of a requirement runs while it is installed"


def test_what_takes_too_long_is_given_up_and_leaves_nothing(tmp_path):
    with pytest.raises(Unavailable, match="not ready in time"):
        made(["fednprobe"], tmp_path / "cache", seconds=0.3)
    assert environments(tmp_path / "cache") == []


def test_the_least_recently_used_makes_room_but_none_that_is_in_use(index, tmp_path):
    cache = tmp_path / "cache"
    first, second = (made([f"fednprobe=={version}"], cache) for version in ("1.0", "2.0"))
    roots = [one.python.parent.parent for one in (first, second)]
    most = int(2.5 * max(map(size_of, roots)))
    os.utime(roots[1] / "ready.json", (1e9, 1e9))
    os.utime(roots[0] / "ready.json", (2e9, 2e9))
    with pytest.raises(InvalidInput, match="take more than there is room for"):
        made(["filelock==0.0.1"], cache, most=most)
    assert set(environments(cache)) == set(roots)
    for one in (first, second):
        one.close()
    with closing(made(["filelock==0.0.1"], cache, most=most)) as third:
        assert set(environments(cache)) == {roots[0], third.python.parent.parent}


def test_a_disk_that_is_full_is_said_and_nothing_half_made_is_left(index, tmp_path):
    try:
        disk = Disk(tmp_path / "disk")
    except OSError:
        pytest.skip("mounting is not permitted here")
    with disk:

        class Full(Installing):
            def begin(self) -> None:
                disk.fill()

        with pytest.raises(StoreUnavailable, match="No space left on device"):
            made(["fednprobe"], disk.path / "cache", by=Full(Stop()))
        assert environments(disk.path / "cache") == []


@pytest.fixture
def silent(index, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """An index that takes calls and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("PIP_TIMEOUT", "300")
        yield server


def test_one_that_nobody_wants_any_more_is_ended_with_its_installer(silent, tmp_path):
    stop, cache, said = Stop(), tmp_path / "cache", []

    def wait_for_it() -> None:
        with pytest.raises(InvalidInput) as caught:
            made(["fednprobe"], cache, by=Installing(stop))
        said.append(caught.value.message)

    threads = [threading.Thread(target=wait_for_it) for _ in range(2)]  # one makes it, one waits for that
    for thread in threads:
        thread.start()
    calling, _ = silent.accept()
    with calling:
        stop.ask()
        for thread in threads:
            thread.join(60)
        assert said == ["task: was cancelled"] * 2
        assert environments(cache) == []
        calling.settimeout(60)
        while calling.recv(65_536):  # until pip has gone
            pass


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_a_task_that_is_cancelled_and_a_client_that_ends_take_the_installer_with_them(silent, tmp_path, end):
    small, said = python(GOOD, "train", requirements=["fednprobe"]), []
    with running(tmp_path) as runner:
        task = small.task()
        ask = lambda: runner.trainer.train(MODEL, task, memoryview(small.archive))  # noqa: E731
        thread = threading.Thread(target=lambda: said.append(refused(ask)))
        thread.start()
        calling, _ = silent.accept()
        with calling:
            runner.trainer.cancel(task) if end == "cancel" else runner.trainer.close()
            thread.join(60)
            assert said == ["task: was cancelled"]
            assert environments(tmp_path / "environments") == []
            calling.settimeout(60)
            while calling.recv(65_536):  # until pip has gone
                pass


def test_an_environment_takes_no_longer_than_its_task_may(index, tmp_path):
    small = python(GOOD, "train", requirements=["fednprobe"])
    with running(tmp_path, task_timeout=0.2) as runner:
        assert "was not ready in time" in refused(lambda: runner.train(small))
    assert environments(tmp_path / "environments") == []


CLIENT = """
import sys
from pathlib import Path
from fedn.client.installing import Installing
from fedn.client.process import Stop
from fedn.packages.environment import environment
environment(["fednprobe"], Path(sys.argv[1]), print, Installing(Stop()))
"""


def test_an_installer_does_not_outlive_a_client_that_is_killed(silent, tmp_path):
    client = subprocess.Popen([sys.executable, "-c", CLIENT, tmp_path / "cache"], stdout=subprocess.DEVNULL)
    try:
        calling, _ = silent.accept()
        client.send_signal(signal.SIGKILL)
    finally:
        client.kill()
        client.wait()
    with calling:
        calling.settimeout(60)
        while calling.recv(65_536):  # until pip has gone
            pass


def test_what_the_installer_prints_is_bounded_and_it_hears_no_secrets(tmp_path, monkeypatch):
    code = "import os; print('x' * 5_000_000); print([n for n in os.environ if 'FEDN' in n]); exit(3)"
    monkeypatch.setenv("FEDN_TOKEN", "secret")
    monkeypatch.setattr("fedn.packages.environment._PIP", ("-c", code))
    with pytest.raises(InvalidInput, match="the installer ended with exit status 3") as caught:
        made(["fednprobe"], tmp_path / "cache")
    logs = list((tmp_path / "cache").glob("*.log*"))
    assert sum(log.stat().st_size for log in logs) <= 2**20
    assert any("[]" in log.read_text() for log in logs)
    assert len(caught.value.message) < 3000


def test_a_place_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        made(["fednprobe"], tmp_path / "file" / "cache")
