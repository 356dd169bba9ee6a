"""Workers with nothing to do: when they end, and what they keep from one task to the next."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import federations
import pytest
from small_packages import MODEL, Runner, Small, command, gone, good, python, refused, running, until

from fedn.client import leftovers
from fedn.client.owner import pause
from fedn.domain.errors import InvalidInput
from fedn.domain.messages import TaskKind


def test_it_ends_after_a_while_with_nothing_to_do_and_not_while_it_works(tmp_path: Path) -> None:
    code = "import time\ndef train(model, data, config): time.sleep(0.5); return model, 1\n"
    slow, other = python(code, "train"), good()
    with running(tmp_path, worker_idle=0.2) as runner:
        runner.train(slow)
        runner.train(other)
        slow_pid, other_pid = runner.workers
        until(lambda: gone(slow_pid) and gone(other_pid))
        runner.train(slow, 2)
        assert len(runner.workers) == 3
        until(lambda: len(runner.told.named("worker_ended")) == 3)
        reasons = {fields["reason"] for fields in runner.told.named("worker_ended")}
    assert reasons == {"it had nothing to do for 0.2 s"}


def test_none_is_there_while_the_client_is_away_also_not_of_the_task_that_was_at_work(tmp_path: Path) -> None:
    code = "import time\ndef train(model, data, config):\n    print('on', flush=True), time.sleep(600)\n"
    busy, idle, commands = python(code, "train"), good(), command(train="false")
    said: list[str] = []
    with running(tmp_path) as runner:
        runner.train(idle)
        task = busy.task()
        ask = lambda: runner.trainer.train(MODEL, task, memoryview(busy.archive))  # noqa: E731
        thread = threading.Thread(target=lambda: said.append(refused(ask)))
        thread.start()
        until(lambda: "on" in runner.output(busy))
        runner.trainer.rest(away=True)
        until(lambda: gone(runner.workers[0]))
        assert not gone(runner.workers[1])
        runner.trainer.cancel(task)
        thread.join(60)
        assert said == ["task: was cancelled"]
        assert gone(runner.workers[1])
        runner.train(idle)  # asked for before it went, and begun just now
        until(lambda: gone(runner.workers[2]))
        runner.trainer.rest(away=False)
        runner.train(idle)
        refused(lambda: runner.train(commands))
        runner.train(idle)
        assert len(runner.workers) == 4
    assert gone(runner.workers[3])


def test_a_paused_client_holds_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real one, in a federation of real processes."""
    code = "def train(model, data, config): return model, 1\n"
    small = python(code, "train")
    (tmp_path / "data.csv").write_text("1,2,3")
    with federations.running(tmp_path, monkeypatch, combiners=1, clients=1) as federation:
        federation.sandbox.data = [tmp_path / "data.csv"]
        client = federation.sandbox.start_client(0)
        federation.attached(1)
        federation.reducer.upload("/packages", iter([small.archive]), len(small.archive))
        federation.finished(federation.start(rounds=1, package=small.digest))
        (pid,) = re.findall(r"worker_started.*\bpid=(\d+)", client.log.read_text())
        assert not gone(int(pid))
        pause(tmp_path / "clients" / "client-1" / "paused.json", since=0.0, now=False)
        federation.until(lambda: gone(int(pid)))
        assert client.popen.poll() is None
        federation.until(lambda: "the client is away" in client.log.read_text())
        assert "(confinement: available)" in client.log.read_text()


LEAVING = """
import os, tempfile
from pathlib import Path

def startup(data):
    Path.home().joinpath("prepared").write_text("by startup")
    return data

def train(model, data, config):
    found = sorted(path.name for path in Path.home().iterdir())
    print(found, flush=True)
    Path.home().joinpath(f"round-{config['round']}").write_text("what this round saw")
    Path(tempfile.mkdtemp()).joinpath("x").touch()
    return model, 1
"""


def test_what_a_round_leaves_in_the_workers_folder_the_next_one_does_not_find(tmp_path: Path) -> None:
    small = python(LEAVING, "startup", "train")
    with running(tmp_path) as runner:
        for number in (1, 2, 3):
            runner.train(small, number)
        rounds = runner.output(small).splitlines()
        (work,) = (tmp_path / "client" / "work").iterdir()
        assert [path.name for path in work.rglob("*") if path.is_file()] == ["prepared"]
    assert "'prepared'" in rounds[2]
    assert not any("round-" in found for found in rounds)


def test_a_worker_that_leaves_too_much_is_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "MAX_ENTRIES", 5)
    code = (
        "from pathlib import Path\n"
        "def train(model, data, config):\n"
        "    for number in range(6): Path.home().joinpath(str(number)).mkdir()\n"
        "    return model, 1\n"
    )
    with running(tmp_path) as runner:
        for number in (1, 2):
            runner.train(python(code, "train"), number)
        ended = runner.told.named("worker_ended")
        assert len(runner.workers) == 2
    assert "it left too much in its folder" in ended[0]["reason"]


def test_libraries_go_on_with_the_sockets_and_folders_that_they_have_made() -> None:
    """As multiprocessing does: the folder and socket of its first use serve all later ones."""
    code = (
        "import os\n"
        "from multiprocessing import resource_sharer\n"
        "def train(model, data, config):\n"
        "    os.close(resource_sharer.DupFd(1).detach())\n"
        "    return model, 1\n"
    )
    small: Small = python(code, "train")
    with TemporaryDirectory() as short, running(Path(short)) as runner:  # a socket's path has 108 bytes
        for number in (1, 2, 3):
            runner.train(small, number)
        assert len(runner.workers) == 1


WAITING = """
import time
from pathlib import Path

def train(model, data, config): return model, 1

def validate(model, data):
    print("on", flush=True)
    while not Path(data, "go").exists(): time.sleep(0.01)
    return 5, {"loss": 0.5}
"""


@contextmanager
def validating(runner: Runner, small: Small) -> Iterator[list[str]]:
    """A validation that is at work and not wanted any more; in the end what it came to."""
    task, came = small.task(TaskKind.VALIDATE), runner.output(small).count("on")
    said: list[str] = []

    def validate() -> None:
        try:
            said.append(str(runner.trainer.report(MODEL, task, memoryview(small.archive))[0]))
        except InvalidInput as error:
            said.append(error.message)

    thread = threading.Thread(target=validate)
    thread.start()
    until(lambda: runner.output(small).count("on") > came)
    runner.trainer.cancel(task)
    yield said
    thread.join(60)


def test_a_validation_that_nobody_waits_for_ends_by_itself_if_nothing_else_is_to_do(tmp_path: Path) -> None:
    """To kill it would cost the next task a new worker."""
    (data := tmp_path / "data").mkdir()
    small = python(WAITING, "train", "validate")
    with running(tmp_path, str(data)) as runner:
        with validating(runner, small) as said:
            (data / "go").touch()
        assert said == ["5"]
        runner.train(small)
        assert len(runner.workers) == 1
        (data / "go").unlink()
        with validating(runner, small) as said:
            runner.train(small, 2)  # it does not wait
        assert said == ["task: was cancelled"]
        with validating(runner, small) as said:
            runner.trainer.rest(away=True)
        assert said == ["task: was cancelled"]
        assert len(runner.workers) == 2
        assert all(gone(pid) for pid in runner.workers)
    with running(tmp_path, str(data), worker_idle=0.2) as runner:
        with validating(runner, small) as said:
            pass
        assert said == ["task: was cancelled"]


def test_a_check_says_that_metrics_before_the_training_can_not_be_had(tmp_path: Path) -> None:
    code = "def train(model, data, config): return model, 1\ndef check(model, data): ..."
    small = python(code, "train", "check")
    with running(tmp_path) as runner:
        assert runner.report(small, TaskKind.CHECK) == (0, {})
        assert refused(lambda: runner.report(small, TaskKind.CHECK, measure_before_fit=True)) == (
            "measure_before_fit: needs validate(), which the package has not"
            " — add it, or start the session without"
        )
