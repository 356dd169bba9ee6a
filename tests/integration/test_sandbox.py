"""`fedn sandbox` as a user runs it: real processes, one JSON object, a clean end however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

KEYS = {"rounds", "clients", "combiners", "accuracy", "seconds_to_first_round", "trail_ok", "flat_difference"}


def command(*flags: str) -> list[str]:
    return [sys.executable, "-m", "fedn", "sandbox", *flags]


def below(directory: Path) -> list[int]:
    """Processes whose command line names ``directory``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(directory).encode() in line and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def until(ready: object, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("tls", [(), ("--tls",)], ids=["plain", "tls"])
def test_it_trains_audits_and_prints_one_json_object(tmp_path: Path, tls: tuple[str, ...]) -> None:
    flags = ("--rounds", "4", "--clients", "3", "--combiners", "2", "--port", "0", "--exit", "--json", *tls)
    done = subprocess.run(
        command(*flags), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report.keys() >= KEYS
    assert (report["rounds"], report["clients"], report["combiners"]) == (4, 3, 2)
    assert len(report["accuracy"]) == 4
    assert report["accuracy"][-1] > 0.85
    assert report["trail_ok"] is True
    assert 0 <= report["flat_difference"] < 1e-6
    assert 0 < report["seconds_to_first_round"] < 110
    assert report["url"].startswith("https://127.0.0.1:" if tls else "http://127.0.0.1:")
    assert done.stderr.count("On loopback everything is plain") == (0 if tls else 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_stays_open_and_however_it_ends_nothing_is_left(tmp_path: Path, number: int) -> None:
    home = tmp_path / "home"
    flags = ("--rounds", "1", "--clients", "2", "--combiners", "1", "--port", "0", "--dir", str(home))
    with subprocess.Popen(
        command(*flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as popen:
        assert popen.stderr is not None
        lines = iter(popen.stderr.readline, "")
        assert any("Ctrl-C stops everything" in line for line in lines), "it ended by itself"
        assert len(below(home)) == 5  # four of the federation, and the sandbox itself
        popen.send_signal(number)
        popen.communicate(timeout=30)
    until(lambda: not below(home))
    if number != signal.SIGKILL:
        assert popen.returncode == 0


def test_a_secured_sandbox_says_where_its_token_lies_and_goes_on_in_its_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    flags = (
        "--tls",
        "--rounds",
        "1",
        "--clients",
        "1",
        "--combiners",
        "1",
        "--port",
        "0",
        "--dir",
        str(home),
    )
    token_file = home / "network" / "admin.token"
    with subprocess.Popen(
        command(*flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as popen:
        assert popen.stderr is not None
        told = []
        for line in popen.stderr:
            told.append(line)
            if "Ctrl-C stops everything" in line:
                break
        text = "".join(told)
        assert f"Log in with the token in {token_file}" in text
        (url,) = re.findall(r"FEDN_URL=(\S+)", text)
        seen = "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in below(home))
        environment = os.environ | {"FEDN_URL": url, "FEDN_TOKEN_FILE": str(token_file)}
        asked = [sys.executable, "-m", "fedn", "whoami"]
        who = subprocess.run(asked, env=environment, capture_output=True, text=True, timeout=60, check=False)
        popen.send_signal(signal.SIGINT)
        out, err = popen.communicate(timeout=30)
    assert popen.returncode == 0
    assert who.stdout.startswith("admin admin"), who.stderr
    secrets = [file.read_text().strip().rpartition(".")[2] for file in home.rglob("*.token")]
    assert len(secrets) == 3
    logs = "".join(file.read_text() for file in (home / "logs").iterdir())
    for secret in secrets:
        assert len(secret) == 43
        assert secret not in text + out + err + logs + seen
    again = subprocess.run(
        command(*flags, "--exit", "--json"), capture_output=True, text=True, timeout=110, check=False
    )
    assert json.loads(again.stdout)["state"] == "finished", again.stderr
    assert secrets == [file.read_text().strip().rpartition(".")[2] for file in home.rglob("*.token")]


def test_a_taken_port_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command("--port", str(port), "--dir", str(tmp_path / "home"), "--json"),
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2
    error = json.loads(done.stderr.splitlines()[-1])
    assert error["details"]["field"] == "port"
    assert f"{port} is in use" in error["error"]
    assert not below(tmp_path)


@pytest.mark.parametrize("tier", ["reducer", "combiner"])
def test_a_tier_says_that_its_port_is_taken(tmp_path: Path, tier: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "fedn", tier, "start", "--port", str(port)],
            capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert f"port: 127.0.0.1:{port} can't be used" in done.stderr
    assert "another --port" in done.stderr


def test_a_second_sandbox_client_can_not_take_an_identity_in_use(tmp_path: Path) -> None:
    flags = ["--state-dir", str(tmp_path), "--name", "a", "--app", "fedn.sandbox.digits:app"]
    start = [sys.executable, "-m", "fedn", "client", "start", "--reducer", "http://127.0.0.1:1", *flags]
    with subprocess.Popen(start, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        assert any("client is up" in line for line in iter(first.stderr.readline, ""))
        second = subprocess.run(start, capture_output=True, text=True, check=False, timeout=60)
        first.terminate()
        first.communicate(timeout=30)
    assert second.returncode == 1
    assert "another client uses" in second.stderr
