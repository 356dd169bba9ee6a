"""For all tests: hypothesis explores on a developer's machine and repeats itself in CI."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """The same names in every process that runs tests: bytes may hold the time, as those of an archive do."""
    return argname if isinstance(val, bytes) else None
