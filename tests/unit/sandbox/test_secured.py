"""The sandbox's own network: made once, tokens by file, and patience with a reducer that is starting."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fedn.config import ReducerSettings
from fedn.domain.errors import FednError
from fedn.domain.identity import Role, parse_token
from fedn.identity.network_dir import NetworkDir
from fedn.reducer.auditing import Auditor
from fedn.reducer.gate import Gate
from fedn.reducer.registrar import Registrar
from fedn.reducer.rest_errors import guard
from fedn.reducer.rest_identity import identity_routes
from fedn.reducer.web import Web
from fedn.sandbox.processes import Sandbox, free_port
from fedn.sandbox.secured import Secured
from fedn.stores import open_state

flask = pytest.importorskip("flask")
SETTINGS = ReducerSettings(port=0, http_threads=4, event_streams=2)


class Reducer:
    """What of a reducer makes tokens, over TLS; it listens from `start` on."""

    def __init__(self, directory: Path, port: int) -> None:
        network = NetworkDir.open(directory / "network")
        self.state = open_state("memory://")
        self.store = self.state.identity
        auditor = Auditor(self.store)
        registrar = Registrar(self.store, network.authority, auditor, name="x", admin=network.admin)
        app = flask.Flask("test", static_folder=None)
        guard(app, SETTINGS, identity=True)
        Gate(auditor, registrar).install(app)
        app.register_blueprint(identity_routes(self.store, registrar))
        self.web = Web(app, SETTINGS.model_copy(update={"port": port}), network.wallet)
        self.web.start()


def nothing() -> None:
    """Every process is well."""


def test_every_process_gets_a_token_of_its_own_once(tmp_path):
    asked: list[Reducer | None] = []
    port = free_port(0)

    def check() -> None:
        """Looked at before each try; the reducer is up at the third."""
        asked.append(Reducer(tmp_path, port) if len(asked) == 2 else None)

    secured = Secured(tmp_path, f"https://127.0.0.1:{port}", check)
    secured.make()
    file = secured.join_file(Role.CLIENT, "client-1")
    text = parse_token("file", file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    reducer = asked[2]
    assert reducer
    token = reducer.store.token(text.token)
    assert (token.role, token.name, token.uses) == (Role.CLIENT, "client-1", 1)
    assert secured.join_file(Role.CLIENT, "client-1").read_text() == file.read_text()
    other = secured.join_file(Role.COMBINER, "combiner-1")
    assert reducer.store.token(parse_token("file", other.read_text()).token).role is Role.COMBINER
    assert len(reducer.store.tokens()) == 3  # with the administrator's
    reducer.web.stop()
    reducer.state.close()


def test_a_reducer_that_died_is_not_waited_for(tmp_path):
    def check() -> None:
        raise FednError("reducer has stopped with exit code 2")

    secured = Secured(tmp_path, "https://127.0.0.1:9", check)
    secured.make()
    with pytest.raises(FednError, match="exit code 2"):
        secured.wait()


def test_the_network_is_made_once(tmp_path):
    secured = Secured(tmp_path, "", nothing)
    secured.make()
    before = secured.token_file.read_text()
    secured.make()
    assert secured.token_file.read_text() == before


def test_a_plain_sandbox_has_no_token(tmp_path):
    sandbox = Sandbox(tmp_path, 1, 1, 8090)
    assert (sandbox.url, sandbox.token) == ("http://127.0.0.1:8090", "")
    secured = Sandbox(tmp_path, 1, 1, 8090, tls=True)
    secured.secured.make()
    assert secured.url == "https://127.0.0.1:8090"
    assert secured.token == (tmp_path / "network" / "admin.token").read_text().strip()
    assert secured.token not in repr(secured)
