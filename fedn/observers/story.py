"""What exporters share: the events they follow, names that trackers take, finding an optional library."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from fedn.domain.errors import InvalidInput

BEGUN = frozenset({"session_started", "session_recovered"})
ENDED = frozenset({"session_finished", "session_failed", "session_cancelled"})
KINDS = {"round_committed": "train", "round_validated": "validate"}
"""What the metrics of a round's events are called by."""
LAST = "examples"
"""Of those, the one that is written last: where it is, all of the event is."""
EVENTS = BEGUN | ENDED | {"round_committed", "round_validated", "best_model"}


def library(module: str, name: str) -> Any:
    """Import what only the extra of the observer's name installs.

    Raises:
        InvalidInput: it can't be imported; names the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        problem = f"{name!r} needs {module}, which can't be imported: {error}"
        raise InvalidInput("observers", problem, f"pip install '.[{name}]' in fedn's source tree") from error


def numbers(event: str, fields: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that a committed or validated round brings, by kind/name."""
    kind, told = KINDS[event], fields["train"] if event == "round_committed" else fields
    found = {f"{kind}/{_plain(name)}": float(value) for name, value in told["metrics"].items()}
    return found | {f"{kind}/clients": float(told["clients"]), f"{kind}/{LAST}": float(told["examples"])}


def settings(plan: Mapping[str, Any]) -> dict[str, str]:
    """A plan's fields as texts; hyperparameters are config.name."""
    flat = {name: value for name, value in plan.items() if name != "config"}
    flat |= {f"config.{_plain(name)}": value for name, value in plan["config"].items()}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in flat.items()}


def _plain(name: str) -> str:
    """A client's or plan's own name, without what means something in a path."""
    return re.sub(r"[^\w .-]", "_", name, flags=re.ASCII).strip(" .") or "_"
