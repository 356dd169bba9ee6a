"""Membership as people meet it: real processes that join by token, renew, are revoked, and are told why.

Certificates live for six seconds here, so that everything about their end happens while one looks.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from federations import APP, Running, names
from ports import settled_port

from fedn.cli.rest_client import Reducer
from fedn.domain.identity import Role
from fedn.identity.credentials import Keyring
from fedn.sandbox.processes import Sandbox
from fedn.wire.security import https_context

SECONDS = 6.0
NOT_ALLOWED = 5
"""The exit code of whoever may not, or not any more."""


class Network(Running):
    """A secured federation, and what its processes have logged."""

    def log(self, name: str) -> str:
        return (self.sandbox.directory / "logs" / f"{name}.log").read_text()

    def said(self, name: str, words: str, times: int = 1) -> None:
        self.until(lambda: len(re.findall(words, self.log(name))) >= times)

    def ended(self, name: str) -> int:
        """With which exit code it ends by itself."""
        code = self.sandbox.processes[name].popen.wait(60)
        self.sandbox.kill(name)
        return code

    def identity(self, index: int) -> Keyring:
        return Keyring(self.sandbox.directory / "clients" / f"client-{index + 1}" / "identity")

    def member(self, name: str) -> Any:
        return next(m for m in self.reducer.get("/members")["members"] if name in (m["member"], m["name"]))

    def revoke(self, name: str) -> None:
        member = self.member(name)
        self.reducer.post(f"/members/{member['role']}/{member['member']}/revoke")


@contextmanager
def secured(directory: Path, monkeypatch: pytest.MonkeyPatch, clients: int = 0) -> Iterator[Network]:
    """A reducer, a combiner and clients in a network of their own."""
    monkeypatch.setenv("FEDN_TEST_DIR", str(directory))
    sandbox = Sandbox(directory, 0, clients, settled_port(), app=APP, tls=True)
    try:
        sandbox.start_reducer(f"--certificate-hours={SECONDS / 3600}")
        sandbox.start_combiner("combiner-1")
        for index in range(clients):
            sandbox.start_client(index, "--log-level=debug")
        with Reducer(sandbox.url, sandbox.token) as reducer:
            network = Network(sandbox, reducer)
            network.attached(clients)
            yield network
    finally:
        sandbox.stop()


def test_a_round_outlives_the_certificates_of_all_who_take_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with secured(tmp_path, monkeypatch, clients=2) as network:
        session = network.start(rounds=2, min_clients=2, validate=True)
        for client in ("client-1", "client-2"):
            network.said(client, " working")
        for client in ("client-1", "client-2"):
            network.said(client, "was renewed", 3)
            network.said(client, "client attached", 3)
        network.said("combiner-1", "was renewed", 2)
        network.open_gate()
        network.finished(session)
        assert [network.trained(index) for index in (0, 1)] == [[1, 2], [1, 2]]
        assert network.audit(session) < 1e-6
        for client in ("client-1", "client-2"):
            assert " waiting" not in network.log(client)[network.log(client).index("client attached") :]


def test_a_member_that_was_away_for_longer_than_its_certificate_comes_back_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with secured(tmp_path, monkeypatch, clients=1) as network:
        network.sandbox.kill("client-1")
        held = network.identity(0).load()
        assert held
        network.until(lambda: held.expires_at < time.time())
        network.sandbox.secured.join_file(Role.CLIENT, "client-1").write_text("")  # it was used, and is gone
        network.sandbox.start_client(0)
        network.said("client-1", "client attached", 2)
        renewed = network.identity(0).load()
        assert renewed
        assert (renewed.key, renewed.principal.name) == (held.key, held.principal.name)


def test_a_client_is_called_as_it_was_when_it_joined_whatever_it_says_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with secured(tmp_path, monkeypatch, clients=1) as network:
        network.sandbox.kill("client-1")
        network.until(lambda: not network.clients_at("combiner-1"))
        (tmp_path / "clients" / "client-1").rename(tmp_path / "clients" / "somebody-else")
        network.sandbox.start_client(0, "--name=somebody-else")
        network.attached(1)
        assert network.clients_at("combiner-1") == {"client-1"}


def test_a_member_that_the_network_has_forgotten_joins_anew_with_another_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with secured(tmp_path, monkeypatch, clients=1) as network:
        for name in ("client-1", "reducer"):
            network.sandbox.kill(name)
        held = network.identity(0).load()
        assert held
        for file in (tmp_path / "reducer").glob("state.db*"):
            file.unlink()
        network.sandbox.start_reducer()
        assert network.ended("combiner-1") == NOT_ALLOWED  # as soon as its certificate has ended
        assert "combiner combiner-1 is not a member of this network" in network.log("combiner-1")
        network.until(lambda: held.expires_at < time.time())
        (tmp_path / "again").write_text(network.until(lambda: token(network)))
        network.sandbox.start_client(0, f"--join-file={tmp_path / 'again'}")
        network.said("client-1", "joining anew")
        network.said("client-1", "joined the network", 2)
        assert network.identity(0).key() == held.key


def test_whoever_is_revoked_ends_within_seconds_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with secured(tmp_path, monkeypatch, clients=2) as network:
        network.revoke("client-1")
        assert network.ended("client-1") == NOT_ALLOWED
        assert "was revoked by an administrator of this network; to come back, remove" in network.log(
            "client-1"
        )
        network.until(lambda: network.clients_at("combiner-1") == {"client-2"})

        network.sandbox.start_client(0)
        assert network.ended("client-1") == NOT_ALLOWED

        network.revoke("combiner-1")
        assert network.ended("combiner-1") == NOT_ALLOWED
        assert "combiner combiner-1 was revoked" in network.log("combiner-1")
        network.said("client-2", "no combiner is connected")


def test_the_round_goes_on_without_whoever_is_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with secured(tmp_path, monkeypatch, clients=2) as network:
        session = network.start(rounds=1, min_clients=1, validate=False)
        for client in ("client-1", "client-2"):
            network.said(client, " working")
        network.revoke("client-1")
        assert network.ended("client-1") == NOT_ALLOWED
        network.open_gate()
        network.finished(session)
        assert names(network.records(session)[1]) == ["client-2"]


# --- what people are told --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with pytest.MonkeyPatch.context() as patch, secured(tmp_path_factory.mktemp("network"), patch) as made:
        yield made


def token(network: Network, **body: Any) -> str:
    return str(network.reducer.post("/tokens", {"role": "client", **body})["text"])


def command(url: str, directory: Path, *flags: str) -> list[str]:
    options = ("--app-options=index=0", "--app-options=clients=1")
    where = (f"--reducer={url}", f"--state-dir={directory}", "--name=new")
    return [sys.executable, "-m", "fedn", "client", "start", f"--app={APP}", *where, *options, *flags]


def start(network: Network, directory: Path, *flags: str, text: str = "", url: str = "") -> tuple[int, str]:
    """A client's exit code and last words; it may have a token."""
    url = url or network.sandbox.url
    if text:
        (directory / "token").write_text(text)
        flags += (f"--join-file={directory / 'token'}",)
    done = subprocess.run(command(url, directory, *flags), capture_output=True, text=True, timeout=60,
                          check=False)  # fmt: skip
    assert "Traceback" not in done.stderr
    assert text.rpartition(".")[2] not in done.stderr or not text
    return done.returncode, done.stderr


def test_whoever_has_no_token_is_told_how_to_get_one(network: Network, tmp_path: Path) -> None:
    code, said = start(network, tmp_path)
    assert code == 2
    assert list(tmp_path.iterdir()) == []  # no folder of a client that never was
    assert "join: is missing" in said
    assert "fedn token create --role client" in said


def test_a_token_that_is_no_good_is_refused_with_the_reason(network: Network, tmp_path: Path) -> None:
    good = token(network)
    prefix, other, token_id, secret = good.split(".")
    wrong = {
        f"{prefix}.{other}.{token_id}.{secret[::-1]}": "this token is not known here",
        f"{prefix}.{other}.{'0' * 16}.{secret}": "this token is not known here",
        f"{prefix}.{'0' * 64}.{token_id}.{secret}": "is not the one of this token",
        token(network, name="somebody"): "this token is for 'somebody' alone",
        token(network, role="combiner"): "this token is for a combiner, and a client asks",
        network.sandbox.token: "this token is for a person",
    }
    for text, words in wrong.items():
        code, said = start(network, tmp_path, text=text)
        assert (code, words in said) == (NOT_ALLOWED, True), said


def test_a_token_that_is_used_up_or_revoked_is_refused(network: Network, tmp_path: Path) -> None:
    text = token(network)
    identity = text.split(".")[2]
    network.reducer.post(f"/tokens/{identity}/revoke")
    code, said = start(network, tmp_path, text=text)
    assert (code, "this token was revoked" in said) == (NOT_ALLOWED, True), said
    used = network.sandbox.secured.join_file(Role.COMBINER, "combiner-1").read_text().strip()
    code, said = start(network, tmp_path, text=used)
    assert code == NOT_ALLOWED


def waiting(network: Network, directory: Path, words: str, *flags: str, url: str) -> None:
    """Start a client that waits, until it has said these words."""
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command(url, directory, *flags), stderr=output)
    try:
        network.until(lambda: words in log.read_text() or process.poll() is not None)
        assert words in log.read_text()
    finally:
        process.terminate()
        process.wait()


def test_http_where_https_is_spoken_is_named(network: Network, tmp_path: Path) -> None:
    plain = network.sandbox.url.replace("https", "http")
    code, said = start(network, tmp_path, url=plain)
    assert code == 1
    assert f"Error: {plain}: this address speaks HTTPS; ask for https://" in said


def test_https_where_http_is_spoken_is_named(network: Network, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token(network))
    plain = Sandbox(tmp_path, 0, 0, settled_port(), app=APP)
    plain.start_reducer()
    try:
        url = plain.url.replace("http", "https")
        waiting(network, tmp_path, "does it speak TLS?", f"--join-file={tmp_path / 'token'}", url=url)
    finally:
        plain.stop()


def test_an_identity_is_not_forgotten_for_a_plain_address(network: Network, tmp_path: Path) -> None:
    with secured_client(network, tmp_path):
        pass
    code, said = start(network, tmp_path, url=network.sandbox.url.replace("https", "http"))
    assert code == 2
    assert "is plain HTTP, and" in said
    assert "holds an identity of a network" in said


def test_the_token_of_another_network_is_not_taken_for_an_identity_that_is_there(
    network: Network, tmp_path: Path
) -> None:
    with secured_client(network, tmp_path):
        pass
    prefix, _, *rest = token(network).split(".")
    code, said = start(network, tmp_path, text=".".join((prefix, "0" * 64, *rest)))
    assert code == 2
    assert "join: is a token of another network than the one joined in" in said


@contextmanager
def secured_client(network: Network, directory: Path) -> Iterator[None]:
    """A client that has joined, and runs."""
    file = directory / "once"
    file.write_text(token(network))
    waiting(network, directory, "client attached", f"--join-file={file}", url=network.sandbox.url)
    yield


def test_the_reducer_asks_a_stranger_who_it_is(network: Network) -> None:
    authority = (network.sandbox.secured.network / "ca.pem").read_bytes()
    with httpx.Client(verify=https_context(authority), trust_env=False) as http:
        answer = http.post(f"{network.sandbox.url}/api/v1/clients/assignment", json={"client": "new"})
    assert answer.status_code == 401
