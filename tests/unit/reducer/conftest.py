"""The small reducer that REST tests speak to (`small_service.py` beside this file)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small():
    """The module `small_service`."""
    if "small_service" not in sys.modules:
        path = Path(__file__).with_name("small_service.py")
        spec = importlib.util.spec_from_file_location("small_service", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["small_service"] = module
        spec.loader.exec_module(module)
    return sys.modules["small_service"]


@pytest.fixture
def service(small):
    made = small.SmallService()
    yield made
    made.hub.close()
