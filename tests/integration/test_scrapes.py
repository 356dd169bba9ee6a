"""What Prometheus gets of real processes that train: the reducer by token, the combiner by certificate."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from federations import APP, Running
from ports import settled_port
from prometheus_client.parser import text_string_to_metric_families

from fedn.cli.rest_client import Reducer
from fedn.domain.identity import Role
from fedn.identity.certificates import server_name
from fedn.identity.credentials import Credentials, Keyring
from fedn.sandbox.processes import Sandbox
from fedn.wire.security import https_context


@pytest.fixture
def port() -> int:
    return settled_port()


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int) -> Iterator[Running]:
    """A secured one; its combiner is scraped at every address of this machine."""
    monkeypatch.setenv("FEDN_TEST_DIR", str(tmp_path))
    sandbox = Sandbox(tmp_path, 0, 2, settled_port(), app=APP, tls=True)
    try:
        sandbox.start_reducer()
        sandbox.start_combiner("combiner-1", f"--metrics-port={port}", "--metrics-host=0.0.0.0")
        for index in range(2):
            sandbox.start_client(index)
        with Reducer(sandbox.url, sandbox.token) as reducer:
            running = Running(sandbox, reducer)
            running.attached(2)
            yield running
    finally:
        sandbox.stop()


def samples(answer: httpx.Response) -> Callable[..., float]:
    """Finds a sample's value by its name and some of its labels."""
    assert answer.status_code == 200, answer.text
    families: Iterable[Any] = list(text_string_to_metric_families(answer.text))
    found = [sample for family in families for sample in family.samples]

    def value(name: str, **labels: str) -> float:
        (one,) = [s.value for s in found if s.name == name and labels.items() <= s.labels.items()]
        return float(one)

    return value


def held(network: Running, place: str) -> Credentials:
    credentials = Keyring(network.sandbox.directory / place / "identity").load()
    assert credentials is not None
    return credentials


def showing(credentials: Credentials | None, authority: bytes) -> ssl.SSLContext:
    context = https_context(authority, credentials)
    context.name = server_name(Role.COMBINER, "combiner-1")  # type: ignore[attr-defined]
    return context


def test_both_tell_of_a_round_and_only_to_those_who_may_know(network: Running, port: int) -> None:
    network.open_gate()
    session = network.start(rounds=2, min_clients=2)
    network.finished(session)
    authority = (network.sandbox.secured.network / "ca.pem").read_bytes()

    with httpx.Client(verify=https_context(authority), trust_env=False, timeout=20) as http:
        where = f"{network.sandbox.url}/metrics"
        assert http.get(where).status_code == 401
        token = network.reducer.post("/tokens", {"role": "viewer", "name": "prometheus"})["text"]
        reducer = samples(http.get(where, headers={"Authorization": f"Bearer {token}"}))
    assert reducer("fedn_sessions", state="finished") == 1
    assert reducer("fedn_session_rounds_committed_total", session=session) == 2
    assert reducer("fedn_session_last_round_seconds", session=session, phase="clients") > 0
    assert reducer("fedn_combiners", state="live") == 1
    assert reducer("fedn_clients", combiner="combiner-1") == 2
    assert reducer("fedn_reducer_term") == 1
    assert reducer("fedn_gauge_limit", gauge="sessions") == 64
    assert reducer("fedn_http_requests_total", route="/metrics", status="401") == 1
    assert reducer("process_cpu_seconds_total") > 0

    mine = held(network, "combiner-1")
    where = f"https://127.0.0.1:{port}/metrics"
    with httpx.Client(verify=showing(mine, authority), trust_env=False, timeout=20) as http:
        combiner = samples(http.get(where))
        assert http.get(where[:-1]).status_code == 404
    assert combiner("fedn_combiner_clients") == 2
    assert combiner("fedn_combiner_updates_received_total") == 4
    assert combiner("fedn_combiner_updates_folded_total") == 4
    assert combiner("fedn_combiner_updates_refused_total") == 0
    assert combiner("fedn_combiner_received_bytes_total") > 4 * 80
    assert combiner("fedn_combiner_parts") <= 1
    assert combiner("fedn_gauge_limit", gauge="uploads") == 4
    assert combiner("process_resident_memory_bytes") > 1e6

    with httpx.Client(verify=showing(None, authority), trust_env=False, timeout=20) as http:
        assert http.get(where).status_code == 401
    client = held(network, "clients/client-1")
    with httpx.Client(verify=showing(client, authority), trust_env=False, timeout=20) as http:
        assert http.get(where).status_code == 403
