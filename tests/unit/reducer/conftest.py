"""The small reducer that REST tests speak to, and a small network with an identity around it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest


def _beside(name: str):
    """A module in this folder, which is no package."""
    if name not in sys.modules:
        path = Path(__file__).with_name(f"{name}.py")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def beside():
    """Imports modules of this folder by name."""
    return _beside


@pytest.fixture(scope="session")
def small():
    """The module `small_service`."""
    return _beside("small_service")


@pytest.fixture
def service(small):
    made = small.SmallService()
    yield made
    made.hub.close()


@pytest.fixture
def net(service, tmp_path):
    """A `SmallNetwork`: its authority, registrar and web application over the small reducer."""
    return _beside("small_network").SmallNetwork(service, tmp_path / "network")
