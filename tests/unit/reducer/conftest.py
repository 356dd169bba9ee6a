"""The small reducer that REST tests speak to, and a small network with an identity around it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from web_site import Site

from fedn.config import ReducerSettings
from fedn.reducer import web as web_module
from fedn.reducer.rest import create_app


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


@pytest.fixture
def start(net, monkeypatch):
    """Starts a web server; ``start()`` for HTTPS, ``start(plain=True)`` without identity.

    With two threads: two peers that hold one would hold up everybody.
    """
    monkeypatch.setattr(web_module.Server, "expiration_interval", 0.02)  # so that it stops at once
    running: list[web_module.Web] = []

    def started(plain: bool = False, threads: int = 2, **settings) -> Site:
        chosen = ReducerSettings(port=0, http_threads=threads, event_streams=1, **settings)
        app = create_app(net.service, chosen) if plain else net.app(http_threads=threads, event_streams=1)
        running.append(web_module.Web(app, chosen, None if plain else net.wallet))
        running[-1].start()
        return Site(running[-1], None if plain else net.dir.authority.certificate)

    yield started
    for web in running:
        web.stop()
