"""State stores seen from outside: statements behind the store's back, and stores in other processes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fedn

ROOT = Path(fedn.__file__).parents[1]


def run_raw(path: Path, *statements: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """Execute statements on a database file; the rows that they answer."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return [row for statement in statements for row in connection.execute(statement, values).fetchall()]
    finally:
        connection.close()


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Python that runs ``code`` in a process of its own; its input and output are pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def flipped(data: bytes, bit: int) -> bytes:
    """The same bytes, but for one bit."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
