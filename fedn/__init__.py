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
    from fedn.sdk.client import Client as Client
    from fedn.sdk.fit import fit as fit
    from fedn.sdk.network import Network as Network

__version__ = "0.1.0"

_HOMES = {
    "Client": "fedn.sdk.client",
    "FednError": "fedn.domain.errors",
    "Network": "fedn.sdk.network",
    "Plan": "fedn.domain.plan",
    "Trained": "fedn.ports",
    "data": "fedn.sdk.data",
    "fit": "fedn.sdk.fit",
}
_MODULES = {"data"}
"""Those of the names that stand for their home itself."""

__all__ = ["Client", "FednError", "Network", "Plan", "Trained", "__version__", "data", "fit"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedn' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    return home if name in _MODULES else getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
