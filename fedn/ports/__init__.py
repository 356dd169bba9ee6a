"""Every seam of the system: what a plug-in implements, and what one tier needs of the next.

Numerics are plain functions on numpy arrays; the network is async. Everything raises from
``fedn.domain.errors`` only. Import the names from here; which file has one is nobody's business.
"""

from __future__ import annotations

from fedn.domain.part import PartHeader
from fedn.ports.buffers import Buffer, Tensors, Vector
from fedn.ports.identity import IdentityStore
from fedn.ports.leadership import Leadership, Lease
from fedn.ports.links import ClientLink, CombinerLink, Dial, ReducerLink
from fedn.ports.observing import Exporter, Observed, Observer, Remembering
from fedn.ports.plugins import (
    Aggregator,
    ClientSelector,
    Helper,
    ProximalHelper,
    SavingHelper,
    ServerOptimizer,
)
from fedn.ports.stored import BlobInfo, CombinerInfo, EventRow, MetricRow, ModelInfo, PackageInfo, SessionInfo
from fedn.ports.stores import ModelStore, Presigning, StateStore
from fedn.ports.training import Journal, Trained, Trainer

__all__ = [
    "Aggregator", "BlobInfo", "Buffer", "ClientLink", "ClientSelector", "CombinerInfo", "CombinerLink",
    "Dial", "EventRow", "Exporter", "Helper", "IdentityStore", "Journal", "Leadership", "Lease",
    "MetricRow", "ModelInfo", "ModelStore", "Observed", "Observer", "PackageInfo", "PartHeader",
    "Presigning", "ProximalHelper", "ReducerLink", "Remembering", "SavingHelper", "ServerOptimizer",
    "SessionInfo", "StateStore", "Tensors", "Trained", "Trainer", "Vector",
]  # fmt: skip
