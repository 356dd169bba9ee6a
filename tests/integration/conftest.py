"""A network for the tests of the SDK: a sandbox for each file, and clients that add."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import settled_port
from sdk_clients import PATIENCE, adding, until

import fedn
from fedn.sandbox.processes import Sandbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("network"), 2, 0, settled_port()) as running:
        with fedn.Network(running.url) as network:
            until(lambda: sum(one["live"] for one in network.status()["combiners"]) == 2)
        yield running


@pytest.fixture
def network(sandbox: Sandbox) -> Iterator[fedn.Network]:
    """Nobody is attached but who the test brings."""
    with fedn.Network(sandbox.url) as network:
        until(lambda: not network.clients())
        yield network


@pytest.fixture
def two(network: fedn.Network, tmp_path: Path) -> Iterator[list[fedn.Client]]:
    """Clients that add 1, of 10 examples, and 2, of 30: together 1.75 a round."""
    clients = [
        adding(fedn.Client(network.url, name=name, state_dir=tmp_path), number, examples)
        for name, number, examples in (("ann", 1.0, 10), ("bob", 2.0, 30))
    ]
    with clients[0], clients[1]:
        network.wait_for(["ann", "bob"], PATIENCE)
        yield clients
