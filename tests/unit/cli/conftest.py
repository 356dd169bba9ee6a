"""Commands against a real web server on a free port, over the small reducer of the REST tests."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fedn.cli.root import root
from fedn.config import ReducerSettings
from fedn.reducer.rest import create_app
from fedn.reducer.web import Web

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="session")
def small():
    """The module tests/unit/reducer/small_service.py."""
    if "small_service" not in sys.modules:
        path = Path(__file__).parents[1] / "reducer" / "small_service.py"
        spec = importlib.util.spec_from_file_location("small_service", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["small_service"] = module
        spec.loader.exec_module(module)
    return sys.modules["small_service"]


@pytest.fixture
def service(small):
    """A reducer of this test's own."""
    made = small.SmallService()
    yield made
    made.hub.close()


class Switch:
    """A WSGI application that is whichever one the running test has plugged in."""

    def __init__(self) -> None:
        self.app: Any = None

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.app(environ, start_response)


SETTINGS = ReducerSettings(port=0, http_threads=6, event_streams=3, max_model_bytes=2**24)


@pytest.fixture(scope="session")
def server():
    """One web server for all tests: stopping one takes half a second."""
    switch = Switch()
    served = Web(switch, SETTINGS)
    served.start()
    yield served.port, switch
    served.stop()


@pytest.fixture
def fedn(server, service):
    port, switch = server
    switch.app = create_app(service, SETTINGS)
    return Fedn(f"http://127.0.0.1:{port}")


@dataclass
class Fedn:
    """`fedn` with the address of the reducer, and the file of a token, in its environment."""

    url: str
    token_file: str | None = None

    def __call__(self, *args: Any) -> Result:
        env = {"FEDN_URL": self.url, "FEDN_TOKEN_FILE": self.token_file, "COLUMNS": "200"}
        return CliRunner().invoke(root, [str(a) for a in args], env=env)

    def holding(self, token_file: Any) -> Fedn:
        """The same, with another token."""
        return Fedn(self.url, str(token_file))

    def good(self, *args: Any) -> str:
        """What it printed, having succeeded."""
        result = self(*args)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *args: Any) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.good(*args, "--json"))

    def refused(self, code: int, *args: Any) -> str:
        """The sentence on stderr; and the same as JSON with --json."""
        plain, machine = self(*args), self(*args, "--json")
        assert plain.exit_code == machine.exit_code == code, plain.output
        assert plain.stdout == machine.stdout == ""
        assert "Traceback" not in plain.stderr
        form = json.loads(machine.stderr)
        assert set(form) == {"code", "error", "details", "status"}
        assert _timeless(form["error"]) in _timeless(plain.stderr)
        return form["error"]


@pytest.fixture
def alone():
    """`fedn` where no reducer is."""
    return Fedn(NOBODY)


@pytest.fixture(scope="session")
def fedn_at():
    """`fedn` for a reducer at an address."""
    return Fedn


@pytest.fixture(scope="session")
def settings():
    """Those of the served reducer."""
    return SETTINGS


@pytest.fixture(scope="session")
def plug():
    """A `Switch` of one's own, for a server of one's own."""
    return Switch


def _timeless(text: str) -> str:
    """Without seconds: the second of two runs is a little later."""
    return re.sub(r"\b\d+ s\b", "… s", text)
