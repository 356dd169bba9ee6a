"""Processes with user code, with a real kernel: all of one ends with it, and it sees what it is shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from fedn.client import confine, family, keeper
from fedn.client.output import KEPT_BYTES, older, tail
from fedn.client.process import Ended, Process, Spec, Stop
from fedn.client.surroundings import Surroundings
from fedn.domain.errors import InvalidInput

PATIENCE = 60.0
landlocked = pytest.mark.skipif(not confine.landlock(), reason="this kernel has no Landlock")


def until(ready: Callable[[], Any]) -> Any:
    """Wait for what happens in another process; a bound on patience, not a measurement."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if result := ready():
            return result
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / name for name in ("package", "work", "hidden")}
    for path in made.values():
        path.mkdir()
    made["log"] = tmp_path / "log"
    made["log"].touch()
    return made


def spec(
    places: dict[str, Path], script: str, data: str = "", confined: bool = False, memory: int = 0
) -> Spec:
    around = Surroundings(data, (places["hidden"],), confined, memory)
    argv = ("/bin/sh", "-c", script)
    return around.spec(argv, places["package"], places["work"], places["log"], Path(sys.executable))


def ran(places: dict[str, Path], script: str, **how: Any) -> tuple[Ended, str]:
    with Process(spec(places, script, **how)) as process:
        ended = process.wait(PATIENCE)
        assert ended is not None
    return ended, places["log"].read_text()


# --- ending ----------------------------------------------------------------------------------------


def test_what_it_prints_is_kept_and_how_it_ended_is_told(places: dict[str, Path]) -> None:
    ended, said = ran(places, "echo out; echo err >&2; exit 3")
    assert (ended, said) == (Ended("ended", 3), "out\nerr\n")
    assert ended.words == "ended with exit status 3"


def test_a_signal_has_its_name(places: dict[str, Path]) -> None:
    assert ran(places, "kill -SEGV $$")[0].words == "was killed by SIGSEGV"
    assert "as happens when memory runs out" in ran(places, "kill -KILL $$")[0].words


def test_what_can_not_be_started_says_so_in_the_log(places: dict[str, Path]) -> None:
    places["package"].rmdir()
    ended, said = ran(places, "true")
    assert ended == Ended("ended", keeper.NOT_STARTED)
    assert "can't be started" in said


CHILDREN = 'sleep 600 & echo $!; setsid sleep 600 & echo $!; setsid sh -c "sleep 600 & echo \\$!; wait" & '


def test_whatever_it_has_started_ends_with_it(places: dict[str, Path]) -> None:
    """Also what it left behind on purpose: those in a session of their own, and their children."""
    script = f"({CHILDREN} wait) & while [ $(wc -l < {places['log']}) -lt 3 ]; do sleep 0.01; done"
    ended, said = ran(places, script)
    assert ended == Ended("ended", 0)
    assert all(gone(int(pid)) for pid in said.split())


def test_what_can_not_be_ended_is_named(places: dict[str, Path]) -> None:
    """Here because it is given no time; the kernel has processes that take longer than anybody waits."""
    script = "from fedn.client import keeper; keeper.SWEEP_SECONDS = 0.0; keeper.main()"
    begun = "while [ ! -s $HOME/pid ]; do sleep 0.01; done"
    told = asdict(spec(places, f"setsid sh -c 'echo $$ > $HOME/pid; exec sleep 600' & {begun}"))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as process:
        process.stdin.write(json.dumps(told).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
    left = int((places["work"] / "pid").read_text())
    os.kill(left, signal.SIGKILL)
    assert answer == {"why": "ended", "status": 0, "left": [left]}
    assert f"could not be ended: processes [{left}]" in places["log"].read_text()


def test_killed_it_takes_all_of_them_along(places: dict[str, Path]) -> None:
    process = Process(spec(places, f"{CHILDREN} wait"))
    pids = until(lambda: len(found := tail(places["log"]).split()) == 3 and found)
    assert process.end() == Ended("stopped", -signal.SIGKILL)
    assert all(gone(int(pid)) for pid in pids)


def test_nothing_outlives_a_client_that_is_killed(places: dict[str, Path]) -> None:
    script = (
        "import sys; from pathlib import Path; from fedn.client.process import Process, Spec\n"
        f"Process(Spec(('/bin/sh', '-c', {CHILDREN + 'wait'!r}), {{'PATH': '/bin:/usr/bin'}}, '/', "
        f"{str(places['log'])!r}))\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as client:
        pids = until(lambda: len(found := tail(places["log"]).split()) == 3 and found)
        client.kill()
    assert until(lambda: all(gone(int(pid)) for pid in pids))


def test_a_flood_of_output_is_ended_and_the_end_of_it_kept(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Process(spec(places, "yes 'so much to say'")) as process:
        ended = process.wait(PATIENCE)
    assert ended is not None
    assert ended.words == "printed without end, and was stopped"
    sizes = [path.stat().st_size for path in (places["log"], older(places["log"]))]
    assert KEPT_BYTES // 4 < sum(sizes) <= KEPT_BYTES


def test_a_task_that_is_not_wanted_any_more_is_killed(places: dict[str, Path]) -> None:
    stop = Stop()
    with Process(spec(places, "sleep 600")) as process:
        with pytest.raises(InvalidInput, match="task: was cancelled"), stop.watching(process):
            stop.ask()
        assert process.wait(0) == Ended("stopped", -signal.SIGKILL)


# --- how many they are, and what they take together ------------------------------------------------

TAKES = "import sys, time; kept = b'x' * (150 * 2**20); print('on', flush=True); time.sleep(600)"


def test_all_its_processes_together_are_held_to_one_bound_of_memory(places: dict[str, Path]) -> None:
    """None of the three has too much by itself."""
    script = f'for one in 1 2 3; do {sys.executable} -c "{TAKES}" & done; wait'
    ended, said = ran(places, script, memory=300 * 2**20)
    assert ended.why == "memory", said
    assert "took more memory, all its processes together, than" in ended.words


def test_what_processes_share_is_counted_once() -> None:
    script = (
        "import os, sys, time\n"
        "kept = b'x' * (200 * 2**20)\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0: time.sleep(600)\n"
        "print(flush=True); sys.stdin.read(); os.killpg(0, 9)\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], start_new_session=True, **pipes) as process:
        process.stdout.readline()
        mib = 2**20
        assert [family.excess(most * mib) for most in (0, 500, 150)] == ["", "", "memory"]
        assert len(family.members()) >= 4


def test_processes_without_end_are_ended(places: dict[str, Path]) -> None:
    script = f"i=0; while [ $i -lt {family.MAX_PROCESSES + 50} ]; do sleep 600 & i=$((i+1)); done; wait"
    ended, _ = ran(places, script)
    assert ended.why == "processes"
    assert ended.words == "had more than 1024 processes or 16384 threads, and was stopped"


# --- what it may -----------------------------------------------------------------------------------


def test_of_the_environment_it_sees_what_is_named_alone(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FEDN_TOKEN", "FEDN_CLIENT_JOIN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH"):
        monkeypatch.setenv(name, "canary")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    ended, said = ran(places, "env")
    assert ended.status == 0
    assert "canary" not in said
    assert "KERAS_BACKEND=torch" in said
    assert f"HOME={places['work']}\n" in said


def test_descriptors_of_the_client_stay_with_it(places: dict[str, Path]) -> None:
    secret = places["hidden"] / "key"
    secret.write_text("canary")
    with secret.open() as file:
        os.set_inheritable(file.fileno(), True)
        assert "key" not in ran(places, "ls -l /proc/self/fd")[1]


def test_it_leaves_no_core_dump_and_runs_behind_the_client(places: dict[str, Path]) -> None:
    _, said = ran(places, "ulimit -c; nice; cat /proc/self/oom_score_adj")
    assert said.split() == ["0", str(os.nice(0) + confine.NICENESS), str(confine.OOM_SCORE)]


def test_memory_is_bounded_where_its_owner_says_so(places: dict[str, Path]) -> None:
    script = f"{sys.executable} -c 'bytearray(2**30)'"
    ended, said = ran(places, script, memory=300 * 2**20)
    assert ended.status == 1
    assert "MemoryError" in said
    assert ran(places, script)[0].status == 0


@landlocked
def test_it_writes_below_its_own_folder_alone(places: dict[str, Path], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("as it was")
    script = (
        f"echo x > {outside}; echo x > {tmp_path}/new; rm -f {outside}; mkdir {tmp_path}/folder; "
        f"mv {outside} $HOME/; ln {outside} $HOME/link; echo x > /dev/null && echo x > $HOME/own && "
        "cat $HOME/own"
    )
    ended, said = ran(places, script, confined=True)
    assert ended.status == 0, said
    assert said.endswith("x\n")
    assert outside.read_text() == "as it was"
    assert {path.name for path in tmp_path.iterdir()} == {"package", "work", "hidden", "log", "outside"}


@landlocked
def test_what_is_hidden_can_not_be_read_even_where_it_lies_in_the_data(places: dict[str, Path]) -> None:
    data = places["hidden"].parent
    (data / "data.csv").write_text("1,2,3\n")
    (places["hidden"] / "key.pem").write_text("canary")
    (data / "by-the-side").symlink_to(places["hidden"] / "key.pem")
    script = f"cat {data}/data.csv; cat {data}/hidden/key.pem {data}/by-the-side || ls {data}"
    ended, said = ran(places, script, data=str(data), confined=True)
    assert ended.status == 0, said
    assert said.startswith("1,2,3\n")
    assert "canary" not in said


@contextmanager
def other(prepare: str = "pass") -> Iterator[int]:
    """Another process of this user, with something to hide."""
    script = f"import sys; from fedn.client import confine; {prepare}; print(flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], env={"CANARY": "x"}, **pipes) as process:
        process.stdout.readline()
        yield process.pid
        process.kill()


@landlocked
def test_it_sees_neither_the_clients_memory_nor_its_environment(places: dict[str, Path]) -> None:
    """Nor is it root, where the client is: that may look into anybody."""
    with other() as client:
        its = f"/proc/{client}"
        look = f"cat {its}/environ {its}/maps {its}/mem; grep Cap /proc/self/status"
        ended, said = ran(places, look, confined=True)
    assert ended.status == 0, said
    assert said.count("denied") == 3
    assert "CANARY" not in said
    assert {line.split()[1] for line in said.splitlines() if line.startswith("Cap")} == {"0" * 16}


@pytest.mark.parametrize("hidden", [False, True])
def test_where_nothing_is_confined_a_client_hides_from_its_equals(hidden: bool) -> None:
    hide = "confine.no_capabilities()" + "; confine.hide()" * hidden
    with other(hide) as client:
        cat = f"os.execv('/bin/cat', ['cat', '/proc/{client}/environ'])"
        look = f"import os; from fedn.client import confine; confine.no_capabilities(); {cat}"
        done = subprocess.run([sys.executable, "-c", look], capture_output=True, check=False)
    assert (b"CANARY" in done.stdout) is not hidden


@landlocked
def test_what_it_starts_is_no_freer(places: dict[str, Path], tmp_path: Path) -> None:
    script = (
        f"(setsid sh -c 'echo x > {tmp_path}/new'); {sys.executable} -c 'open(\"{tmp_path}/new\", \"w\")'"
    )
    _, said = ran(places, script, confined=True)
    assert not (tmp_path / "new").exists()
    assert "PermissionError" in said


@pytest.mark.skipif(confine.landlock() < 6, reason="this kernel does not keep signals in")
def test_it_can_not_signal_the_client(places: dict[str, Path]) -> None:
    with other() as client:
        _, said = ran(places, f"kill -TERM {client}; sleep 600 & kill -TERM $! && echo own", confined=True)
        assert "(zombie)" not in Path(f"/proc/{client}/status").read_text()
    assert "not permitted" in said
    assert said.endswith("own\n")
