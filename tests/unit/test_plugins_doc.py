"""docs/plugins.md is true: its classes keep their contracts, its tables name what there is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from fedn import plugins, ports
from fedn.aggregation import optimizers
from fedn.reducer.numerics import KNOBS
from fedn.testing import contracts

DOC = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
FENCED = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)

pytest_plugins = ["pytester"]


def test_the_classes_in_it_keep_their_contracts(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("\n\n".join(FENCED))
    outcome = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio").parseoutcomes()
    assert outcome.keys() == {"passed"}
    assert outcome["passed"] > 20


def test_every_group_is_in_its_table_with_its_port() -> None:
    for group, field in plugins.GROUPS.items():
        [row] = [line for line in DOC.splitlines() if line.startswith("|") and f"`{group}`" in line]
        port = row.split("`")[1]
        assert hasattr(ports, port)
        assert f"`{field}`" in row


@pytest.mark.parametrize("name", re.findall(r"`(\w+Contract)`", DOC))
def test_every_contract_that_it_names_is_there(name: str) -> None:
    modules = Path(next(iter(contracts.__path__))).glob("*.py")
    assert any(f"class {name}" in path.read_text(encoding="utf-8") for path in modules)


@pytest.mark.parametrize("kind", ["sgd", "adagrad", "adam", "yogi"])
def test_the_table_of_built_ins_names_what_each_takes(kind: str) -> None:
    optimizer: Any = getattr(optimizers, kind.capitalize())
    takes = inspect.signature(optimizer).parameters
    [header] = [line for line in DOC.splitlines() if line.startswith("| name | next |")]
    [row] = [line for line in DOC.splitlines() if line.startswith(f"| `{kind}` |")]
    for column, cell in zip(header.split("|")[3:-1], row.split("|")[3:-1], strict=True):
        [knob] = [knob for knob, field in KNOBS.items() if field in column]
        assert bool(cell.strip()) is (knob in takes)
