"""Flat federated averaging, recomputed from the clients' kept updates: the sandbox's own auditor.

Plain numpy on files and the trail's JSON. It shares no code with what it judges: it imports nothing
from ``fedn``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load

Model = dict[str, Any]


def largest_difference(
    records: Iterable[Mapping[str, Any]], updates: Mapping[str, Path], read_model: Callable[[str], bytes]
) -> float | None:
    """The largest |committed - flat mean| over all rounds and elements.

    ``records`` are the trail's records in order, ``updates`` maps an update's digest to its kept file,
    ``read_model`` gives a model's bytes by digest. None where the plan is not example-weighted with
    server SGD of learning rate 1, and where nothing was committed.
    """
    largest: float | None = None
    for record in records:
        if record["round"] == 0:
            continue
        if not _plain(record["plan"]):
            return None
        mean = _flat_mean(record, updates)
        largest = max(largest or 0.0, _difference(load(read_model(record["model"])), mean))
    return largest


def _plain(plan: Mapping[str, Any]) -> bool:
    step = (plan["server_optimizer"], plan["server_learning_rate"], plan.get("server_momentum", 0.0))
    return bool(
        plan["averaging"] == "weighted" and plan["aggregator"] == "mean" and step == ("sgd", 1.0, 0.0)
    )


def _flat_mean(record: Mapping[str, Any], updates: Mapping[str, Path]) -> Model:
    """Σ n·x / Σ n over the record's contributors, in float64."""
    total: Model = {}
    examples = 0
    for part in record["parts"]:
        for contributor in part["contributors"]:
            update = load(updates[contributor["digest"]].read_bytes())
            weight = contributor["examples"]
            examples += weight
            for key, value in update.items():
                total[key] = total.get(key, 0.0) + weight * value.astype(np.float64)
    return {key: value / examples for key, value in total.items()}


def _difference(model: Model, mean: Model) -> float:
    floating = [key for key, value in model.items() if np.issubdtype(value.dtype, np.floating)]
    return max(
        float(np.max(np.abs(model[key].astype(np.float64) - mean[key]), initial=0.0)) for key in floating
    )
