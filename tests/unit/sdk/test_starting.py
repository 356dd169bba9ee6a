"""The start of a client made of functions: what takes long keeps nobody else waiting."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import fedn
from fedn import plugins
from fedn.sdk.background import Background


def test_importing_a_framework_does_not_hold_up_others_on_the_same_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    importing, go, load = threading.Event(), threading.Event(), plugins.load

    def slowly(group: str, name: str) -> Any:
        importing.set()
        assert go.wait(20), "whoever lets it go was kept waiting itself"
        return load(group, name)

    monkeypatch.setattr(plugins, "load", slowly)
    background = Background("shared")
    client = fedn.Client("http://127.0.0.1:1", state_dir=tmp_path, background=background)
    client.train(lambda model, config: (model, 1))
    starting = threading.Thread(target=client.start)
    starting.start()
    try:
        assert importing.wait(60)
        assert background.submit(answer()).result(10) == "here"
    finally:
        go.set()
        starting.join()
        client.stop()
        background.close()
    assert client.client == ""


async def answer() -> str:
    return "here"
