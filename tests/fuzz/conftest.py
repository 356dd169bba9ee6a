"""Counts what was tried, and says so at the end."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import FEW, RUNS

tried: Counter[str] = Counter()
took: dict[str, float] = {}


REDUCER_TESTS = Path(__file__).parents[1] / "unit" / "reducer"


def of_reducer_tests(name: str) -> Any:
    """A module that the reducer's unit tests share."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, REDUCER_TESTS / f"{name}.py")
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Any]:
    """A network with an identity over the small reducer."""
    small = of_reducer_tests("small_service")
    service = small.SmallService()
    made = of_reducer_tests("small_network").SmallNetwork(service, tmp_path / "network")
    made.small = small
    yield made
    service.hub.close()


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Callable[[int], None]]:
    """Call it once for each input, or with how many there were."""
    name, begun = request.node.name, time.perf_counter()

    def count(inputs: int = 1) -> None:
        tried[name] += inputs

    yield count
    took[name] = time.perf_counter() - begun


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not tried:
        return
    terminalreporter.section("hostile inputs")
    if RUNS <= FEW:
        terminalreporter.write_line(f"{tried.total()} in all, always the same few; `make fuzz` tries more")
        return
    for name, count in tried.items():
        terminalreporter.write_line(f"{count:>8} {took.get(name, 0):>7.1f} s  {name}")
    terminalreporter.write_line(f"{tried.total():>8} {sum(took.values()):>7.1f} s  in all")
