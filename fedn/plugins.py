"""Names in a plan or an app to the classes behind them, through Python's entry points.

Built-ins are registered in this project's own ``pyproject.toml`` exactly as a plug-in's are in its:
``fedn.aggregators``, ``fedn.helpers`` and ``fedn.selectors`` name classes called without arguments,
``fedn.server_optimizers`` classes called with those of ``learning_rate``, ``momentum``, ``beta2`` and
``epsilon`` that their constructor names, ``fedn.observers`` classes called with ``location``. Ports are in
`fedn.ports`, a guide in ``docs/plugins.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from fedn.domain.errors import InvalidInput
from fedn.ports import Aggregator, ClientSelector, Exporter, Helper, ServerOptimizer

GROUPS: Mapping[str, str] = {
    "fedn.aggregators": "aggregator",
    "fedn.server_optimizers": "server_optimizer",
    "fedn.helpers": "helper",
    "fedn.selectors": "selection",
    "fedn.observers": "observers",
}
"""Each group with the plan field (or app attribute, or setting) that names one of it."""

_PORTS: Mapping[str, type] = {
    "fedn.aggregators": Aggregator,
    "fedn.server_optimizers": ServerOptimizer,
    "fedn.helpers": Helper,
    "fedn.selectors": ClientSelector,
    "fedn.observers": Exporter,
}


def available() -> dict[str, dict[str, str]]:
    """Group to name to ``module:attribute``, sorted; nothing is imported."""
    return {group: {name: found[0].value for name, found in _by_name(group).items()} for group in GROUPS}


def check(group: str, name: str) -> None:
    """Raise InvalidInput unless ``name`` is registered in ``group``; imports nothing."""
    _find(group, name)


def load(group: str, name: str) -> Any:
    """Import what ``name`` stands for in ``group``: a class to be called.

    Raises:
        InvalidInput: naming the plan field and the known names, or why the plug-in can't be imported.
    """
    entry = _find(group, name)
    try:
        return entry.load()
    except Exception as error:  # a plug-in's module may raise anything
        problem = f"{name!r} ({entry.value}) can't be imported: {type(error).__name__}: {error}"
        raise InvalidInput(GROUPS[group], problem, "install the plug-in again") from error


def make(group: str, name: str, **arguments: float | str) -> Any:
    """An object of what ``name`` stands for in ``group``, which has what its port asks for.

    Raises:
        InvalidInput: as `load` does, and when it can't be built or lacks something of its port.
    """
    kind = load(group, name)
    try:
        made = kind(**arguments)
        lacking = [part for part in vars(_PORTS[group]) if part[0] != "_" and not hasattr(made, part)]
    except InvalidInput:  # it says itself what is wrong
        raise
    except Exception as error:  # a plug-in's constructor may raise anything
        problem = f"{name!r} can't be built: {type(error).__name__}: {error}"
        raise InvalidInput(GROUPS[group], problem, "mend the plug-in") from error
    if lacking:
        problem = f"{name!r} lacks {', '.join(lacking)}"
        raise InvalidInput(GROUPS[group], problem, f"see fedn.ports.{_PORTS[group].__name__}")
    return made


def _find(group: str, name: str) -> EntryPoint:
    known = _by_name(group)
    if name not in known:
        remedy = f"known are {', '.join(known)}" if known else "none is known; install this project again"
        raise InvalidInput(GROUPS[group], f"{name!r} is unknown", remedy)
    values = sorted({entry.value for entry in known[name]})
    if len(values) > 1:
        problem = f"{name!r} is registered by several packages ({', '.join(values)})"
        raise InvalidInput(GROUPS[group], problem, "uninstall all but one")
    return known[name][0]


def _by_name(group: str) -> dict[str, list[EntryPoint]]:
    names: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        names.setdefault(entry.name, []).append(entry)
    return names
