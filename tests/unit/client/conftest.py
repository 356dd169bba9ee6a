"""What the file system is told, in order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def disk_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Grows by the name of each call and the inode that it is about; a renamed file keeps its own."""
    calls: list[tuple[str, int]] = []

    def listen(name: str) -> None:
        call = getattr(os, name)

        def called(what: Any, *arguments: Any, **options: Any) -> None:
            before = 0 if name == "mkdir" else _inode(what)
            call(what, *arguments, **options)
            calls.append((name, before or _inode(what)))

        monkeypatch.setattr(os, name, called)

    for name in ("mkdir", "fsync", "replace", "unlink"):
        listen(name)
    return calls


def _inode(what: Any) -> int:
    return (os.fstat(what) if isinstance(what, int) else Path(what).stat()).st_ino
