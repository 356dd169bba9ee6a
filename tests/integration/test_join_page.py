"""What the page "add a client" tells people to do, done as it stands there, in a network with an identity."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from federations import Running
from ports import settled_port

from fedn.cli.rest_client import Reducer
from fedn.running import STOP_WITH_STDIN
from fedn.sandbox.processes import Sandbox


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    sandbox = Sandbox(tmp_path_factory.mktemp("network"), 1, 0, settled_port(), tls=True)
    with sandbox, Reducer(sandbox.url, sandbox.token) as reducer:
        yield Running(sandbox, reducer)


class Page:
    """The page as an admin sees it, for a client of this name."""

    def __init__(self, network: Running, **answers: str) -> None:
        self.network, self.query = network, {**answers, "reducer": network.sandbox.url}
        self.text = html.unescape(self.get("/network/join").text)

    def get(self, address: str) -> httpx.Response:
        sandbox = self.network.sandbox
        return httpx.get(
            sandbox.url + address, params=self.query, verify=False,
            headers={"Authorization": f"Bearer {sandbox.token}"},
        ).raise_for_status()  # fmt: skip

    def command(self, id: str) -> str:
        (found,) = re.findall(rf'<pre id="{id}"[^>]*>(.*?)</pre>', self.text, re.DOTALL)
        return str(found)

    def token(self) -> str:
        """As the form's button makes it."""
        (form,) = re.findall(r'<form data-api="/api/v1/tokens".*?</form>', self.text, re.DOTALL)
        fields = re.findall(r'name="(\w+)" value="([^"]*)"( data-type)?', form)
        body: dict[str, Any] = {name: int(value) if kind else value for name, value, kind in fields}
        return str(self.network.reducer.post("/tokens", body)["text"])


@contextmanager
def typed(command: str, folder: Path) -> Iterator[None]:
    """A command in a shell, until it is done with."""
    process = subprocess.Popen(
        ["sh", "-c", f"PATH={Path(sys.executable).parent}:$PATH; exec {command}"],
        cwd=folder, stdin=subprocess.PIPE, env=os.environ | {STOP_WITH_STDIN: "1"},
    )  # fmt: skip
    try:
        yield
    finally:
        process.communicate(timeout=60)


@pytest.mark.parametrize("way", ["start", "flags"])
def test_a_client_comes_by_what_the_page_says(network: Running, tmp_path: Path, way: str) -> None:
    page = Page(network, name=f"clinic-{way}", data="it's mine.npz")
    np.savez(tmp_path / "it's mine.npz", x=np.zeros(3))
    (tmp_path / "client.token").write_text(page.token())
    if way == "start":
        (tmp_path / "client.yaml").write_text(page.get("/network/join/client.yaml").text)
    assert "Not yet." in page.text
    with typed(page.command(way), tmp_path):
        network.until(lambda: f"clinic-{way}" in network.clients_at("combiner-1"))
        assert "is attached to" in page.get("/network/join").text
