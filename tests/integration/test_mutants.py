"""Each headline promise broken on purpose: the oracle must see it, or its green means nothing.

The oracle (`fedn.sandbox.flat`) shares no code with what it judges; the trail check stands beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedn.aggregation.mean import PartMerger
from fedn.combiner.ledger import Ledger
from fedn.combiner.staging import PartSum
from fedn.sandbox.flat import largest_difference
from fedn.stores.trail import verify_trail
from fedn.testing.federation import Federation

SEED = {"w": np.zeros(4), "b": np.ones((2, 3), dtype=np.float32)}
Mutation = Callable[[pytest.MonkeyPatch], None]


class AddNumber:
    def __init__(self, number: int) -> None:
        self.number = number

    def train(self, model: Any, config: Any) -> Any:
        return {k: v + self.number for k, v in model.items()}, 10 * self.number

    def validate(self, model: Any) -> Any:
        return {}


async def audited(directory: Path) -> tuple[float, bool]:
    """(largest difference from flat averaging, trail verified) of three rounds on two combiners."""
    async with Federation(directory) as federation:
        for name in ("combiner-1", "combiner-2"):
            await federation.add_combiner(name)
        await federation.story.until("network_changed", combiners=2)
        for number in range(1, 5):
            name = f"client-{number}"
            await federation.add_client(
                name, AddNumber(number), f"combiner-{number % 2 + 1}", keep_updates=True
            )
        await federation.story.until("network_changed", clients=4)
        info = await federation.start_session(SEED, rounds=3, validate=False)
        await federation.story.until("session_finished")
        await federation.story.until("settled", count=12)
        records = [stored.record for stored in federation.state.records(info.session)]
        updates = {
            c.digest: directory / c.client / "kept" / f"{info.session}-{record.round}-{c.digest}.safetensors"
            for record in records
            for c in record.contributors
        }
        difference = largest_difference(
            [as_json(record) for record in records],
            updates,
            lambda digest: b"".join(bytes(chunk) for chunk in federation.models.read(digest)),
        )
        assert difference is not None
        return difference, verify_trail(federation.state, federation.models, info.session).ok


def as_json(record: Any) -> Any:
    return json.loads(record.canonical())


async def test_without_a_mutation_the_hierarchy_is_flat_averaging(tmp_path: Path) -> None:
    difference, whole = await audited(tmp_path)
    assert difference < 1e-7  # one tensor is float32
    assert whole


def fold_twice(patch: pytest.MonkeyPatch) -> None:
    fold = PartSum.fold

    def twice(self: PartSum, upload: Any) -> None:
        fold(self, upload)
        if upload.header.client == "client-3":
            fold(self, upload)

    patch.setattr(PartSum, "fold", twice)


def drop_a_contributor_from_the_record(patch: pytest.MonkeyPatch) -> None:
    honest = Ledger.contributors.fget
    assert honest is not None
    patch.setattr(Ledger, "contributors", property(lambda self: honest(self)[:1]))


def drop_a_contributor_from_the_sum(patch: pytest.MonkeyPatch) -> None:
    fold = PartSum.fold
    patch.setattr(
        PartSum, "fold", lambda self, upload: upload.header.client == "client-3" or fold(self, upload)
    )


def weigh_combiners_equally(patch: pytest.MonkeyPatch) -> None:
    merge = PartMerger.merge
    patch.setattr(PartMerger, "merge", lambda self, name, part, weight: merge(self, name, part / weight, 1))


def forget_the_weights(patch: pytest.MonkeyPatch) -> None:
    fold = PartSum.fold

    def unweighted(self: PartSum, upload: Any) -> None:
        upload.header = replace(upload.header, examples=1)
        fold(self, upload)

    patch.setattr(PartSum, "fold", unweighted)


@pytest.mark.parametrize(
    "mutate",
    [
        fold_twice,
        drop_a_contributor_from_the_record,
        drop_a_contributor_from_the_sum,
        weigh_combiners_equally,
        forget_the_weights,
    ],
)
async def test_a_broken_promise_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutate: Mutation
) -> None:
    mutate(monkeypatch)
    difference, _ = await audited(tmp_path)
    assert difference > 1e-6
