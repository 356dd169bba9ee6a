"""`python .ci/audit.py`, the end of `make check`: is one of the installed packages known to be vulnerable?

Asks a public database by pip-audit. Where none can be reached nothing is known, and nothing fails.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

SECONDS = 60
NOT_OURS = {"pip", "setuptools"}
"""They come with the virtual environment; nothing here depends on them."""


def main() -> int:
    if importlib.util.find_spec("pip_audit") is None:
        print("audit: pip-audit is not installed; `make dev` does it")
        return 1
    command = [sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--format=json",
               "--progress-spinner=off", "--timeout=10", *sys.argv[1:]]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        failed, words = verdict(json.loads(done.stdout)["dependencies"])
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        failed, words = False, "left out, no database of vulnerabilities answers here"
    print(f"audit: {words}")
    return int(failed)


def verdict(packages: list[dict[str, Any]]) -> tuple[bool, str]:
    """Whether it is to fail, and what to say. Packages that the database does not know don't count."""
    known = [package for package in packages if "vulns" in package and package["name"] not in NOT_OURS]
    found = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, "
        f"mended in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in known
        for vulnerability in package["vulns"]
    ]
    if not known:
        return False, "left out, no database of vulnerabilities knows these packages"
    if found:
        return True, "\n  ".join([f"known vulnerabilities in {len(found)} places:", *found])
    return False, f"{len(known)} packages, none is known to be vulnerable"


if __name__ == "__main__":
    sys.exit(main())
