"""The whole rehearsal, as `make rehearse` runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, str(Path(__file__).with_name("rehearse.py"))]


@pytest.mark.timeout(900)
def test_the_containers_files_start_a_network_that_trains() -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    if done.stderr.startswith("skipped: "):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is whole") == 2


def test_what_can_not_be_rehearsed_says_why() -> None:
    done = subprocess.run(
        COMMAND, capture_output=True, text=True, env={**os.environ, "PATH": ""}, check=False
    )
    reason = "run it as root" if os.geteuid() else "ip, nsenter, setpriv, unshare, wget: not installed"
    assert (done.returncode, reason in done.stderr) == (0, True)
