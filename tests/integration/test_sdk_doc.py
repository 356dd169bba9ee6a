"""docs/sdk.md, run as it stands there, but for the address and for waiting until Ctrl-C."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from ports import settled_port

import fedn
from fedn.domain.errors import Unavailable
from fedn.sandbox.processes import Sandbox

DOC = Path(__file__).parents[2] / "docs" / "sdk.md"
ADDRESS = "http://127.0.0.1:8090"


def snippets() -> list[str]:
    """Every indented block, in order."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", DOC.read_text("utf-8"), re.MULTILINE)
    return [re.sub("^ {4}", "", block, flags=re.MULTILINE) for block in blocks if block.strip()]


def ready(url: str) -> bool:
    try:
        with fedn.Network(url) as network:
            return any(one["live"] for one in network.status()["combiners"])
    except Unavailable:
        return False


def test_every_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for extra in ("sklearn", "pandas"):
        pytest.importorskip(extra)
    monkeypatch.chdir(tmp_path)
    found = snippets()
    assert len(found) == 7
    space: dict[str, Any] = {}
    with Sandbox(tmp_path / "network", 1, 0, settled_port()) as running:
        deadline = time.monotonic() + 60
        while not ready(running.url):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        try:
            for number, block in enumerate(found, 1):
                code = block.replace(ADDRESS, running.url).replace("client.run()", "client.start()")
                exec(compile(code, f"sdk.md, block {number}", "exec"), space)
        finally:
            if client := space.get("client"):
                client.stop()
    assert space["model"]["w"].shape == (4,)
    assert space["history"][-1].validate["accuracy"] > 0.9
    assert space["session"].id
    assert space["answers"].metrics["accuracy"] > 0.9
    assert {path.name for path in tmp_path.glob("model.*")} == {"model.safetensors", "model.npz"}
    out = capsys.readouterr().out
    assert "round 4 counted" in out
    assert "finished {'" in out
