"""The whole rehearsal, as `make rehearse` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REHEARSE = Path(__file__).with_name("rehearse.py")


@pytest.mark.timeout(600)
def test_the_containers_files_start_a_network_that_trains() -> None:
    done = subprocess.run([sys.executable, str(REHEARSE)], capture_output=True, text=True, check=False)
    if done.stdout.startswith("skipped"):
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    assert "is whole" in done.stdout
