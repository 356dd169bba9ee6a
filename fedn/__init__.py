"""Tiered federated learning: a reducer, combiners below it, and clients beside their own data.

Importing this package loads nothing else: every name is fetched when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedn.domain.errors import FednError as FednError
    from fedn.domain.plan import Plan as Plan
    from fedn.ports import Trained as Trained

__version__ = "0.1.0"

_HOMES = {
    "FednError": "fedn.domain.errors",
    "Plan": "fedn.domain.plan",
    "Trained": "fedn.ports",
}

__all__ = ["FednError", "Plan", "Trained", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedn' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
