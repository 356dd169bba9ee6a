"""The audit of what is installed: a known vulnerability fails it, a missing network never does."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / ".ci" / "audit.py"


def verdict(*packages):
    spec = importlib.util.spec_from_file_location("audit_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.verdict(list(packages))


def package(name, *vulnerabilities):
    vulns = [{"id": number, "fix_versions": fixes} for number, fixes in vulnerabilities]
    return {"name": name, "version": "1.0", "vulns": vulns}


UNKNOWN = {"name": "ours", "skip_reason": "not found"}


def test_a_known_vulnerability_fails():
    failed, words = verdict(package("fine"), package("bad", ("PYSEC-1", ["1.1"]), ("PYSEC-2", [])), UNKNOWN)
    assert failed
    assert "bad 1.0: PYSEC-1, mended in 1.1\n" in words
    assert words.endswith("bad 1.0: PYSEC-2, mended in no version yet")


def test_what_is_not_known_to_be_vulnerable_passes():
    assert verdict(package("fine"), UNKNOWN) == (False, "1 packages, none is known to be vulnerable")


def test_what_nobody_knows_is_not_called_safe():
    failed, words = verdict(UNKNOWN)
    assert not failed
    assert words.startswith("left out")


def test_the_environments_own_tools_are_no_dependencies():
    assert verdict(package("fine"), package("pip", ("PYSEC-3", ["99"])))[0] is False


def test_without_a_network_it_says_so_and_fails_nothing(tmp_path):
    nowhere = dict.fromkeys(("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, TOOL, f"--cache-dir={tmp_path}"],
        env={**os.environ, **nowhere, "NO_PROXY": "", "no_proxy": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "audit: left out, no database of vulnerabilities answers here\n"
