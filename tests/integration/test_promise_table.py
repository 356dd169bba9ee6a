"""The table "What survives what" in ``docs/protocol.md`` and the tests of the promise are one list."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

from promise_rows import ROWS

HERE = Path(__file__).parent
PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"


def table() -> list[str]:
    """The names in the first column, in order."""
    [section] = re.findall(
        r"^## What survives what\n(.*?)^## ", PROTOCOL.read_text(), re.DOTALL | re.MULTILINE
    )
    return re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)


def names_in(file: str) -> list[str]:
    return re.findall(r"^(?:async )?def (test_\w+)\(", (HERE / file).read_text(), re.MULTILINE)


def test_every_row_has_exactly_one_test_and_every_test_its_row() -> None:
    own = [name for name in names_in("test_promises.py") if name != "test_promise"]
    full = [name for name in names_in("test_disk_full.py") if name.startswith("test_disk_full_at_")]
    promised = [row.name for row in ROWS] + own + full
    assert len(set(promised)) == len(promised)
    assert sorted(table()) == sorted(promised)


def test_every_instant_is_one_of_the_product() -> None:
    for row in ROWS:
        for trip in (row.trip, *row.also.values()):
            module, _, path = trip.target.partition(":")
            owner = import_module(module)
            for part in path.split("."):
                owner = getattr(owner, part)
            assert callable(owner), row.name
