"""What comes in for one round: told once, added once, and never taken for another round's."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from safetensors.numpy import save

from fedn.aggregation.mean import PartMerger
from fedn.domain.errors import Damaged
from fedn.domain.ids import ClientId, CombinerName, Incarnation, SessionId, digest_of
from fedn.domain.messages import UpdateReceived
from fedn.domain.model import parse_layout
from fedn.domain.part import PartHeader
from fedn.domain.round import MergedPart
from fedn.domain.update import Contributor
from fedn.reducer.books import Hindrances
from fedn.reducer.intake import Intake
from fedn.reducer.legs import PartKey
from fedn.reducer.timing import RoundTimes

S, ANN, A = SessionId("s"), ClientId("ann"), CombinerName("A")
KEY = PartKey(A, Incarnation("A1"), 0)
FILE = save({"w": np.zeros(2, np.float32)})
LAYOUT = parse_layout(FILE, len(FILE))


def intake(number: int = 1, told: list[str] | None = None) -> Intake:
    hindrances = Hindrances((told if told is not None else []).append)
    times = RoundTimes(number, lambda *_, **__: None)
    return Intake(S, number, PartMerger(LAYOUT, "weighted"), hindrances, times)


def part(of: PartKey, value: float, number: int = 1) -> tuple[PartHeader, bytes]:
    data = np.full(2, 10 * value).tobytes()
    folded = (Contributor(ClientId(f"at-{of.combiner}"), 10, digest_of(b"")),)
    return PartHeader(S, number, *of, digest_of(data), len(data), folded), data


def merged(*keys: PartKey) -> list[MergedPart]:
    return [MergedPart(*key, digest_of(b""), ()) for key in keys]


def test_an_update_is_new_once() -> None:
    one = intake()
    assert [one.receive(UpdateReceived(ANN, 5, {"loss": 1.0})) for _ in range(3)] == [True, False, False]
    assert [row.examples for row in one.metrics] == [5]
    assert one.receive(UpdateReceived(ClientId("bob"), 5))
    assert len(one.metrics) == 1


def test_of_a_clients_seconds_only_sound_ones_are_kept() -> None:
    one = intake()
    told = {"training": 2.5, "queued": -1.0, "uploading": float("nan"), "napping": 3.0}
    one.receive(UpdateReceived(ANN, 5, {}, told))
    [row] = one.timing
    assert (row.kind, row.metrics) == ("timing", {"training": 2.5})
    one.receive(UpdateReceived(ClientId("bob"), 5, {}, {"training": float("inf")}))
    assert one.timing == [row]


async def test_the_mean_is_that_of_the_parts_that_were_added() -> None:
    one, other = intake(), PartKey(CombinerName("B"), Incarnation("B1"), 0)
    for key, value in ((KEY, 1.0), (other, 3.0)):
        one.seal(key, *part(key, value))
        await one.add(key)
    assert (await one.mean(merged(KEY, other))).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("recorded", [[], [KEY, KEY._replace(part=1)]], ids=["fewer", "more"])
async def test_what_is_recorded_is_what_was_added(recorded: list[PartKey]) -> None:
    one = intake()
    one.seal(KEY, *part(KEY, 1.0))
    await one.add(KEY)
    with pytest.raises(Damaged, match="does not hold"):
        await one.mean(merged(*recorded))


async def test_a_part_of_one_round_is_not_one_of_the_next() -> None:
    """Both have the same number at the same process."""
    first, second = intake(1), intake(2)
    first.seal(KEY, *part(KEY, 1.0))
    with pytest.raises(Damaged, match="does not fit its round"):
        second.seal(KEY, *part(KEY, 1.0))
    second.seal(KEY, *part(KEY, 5.0, number=2))
    await first.add(KEY)
    await second.add(KEY)
    assert (await second.mean(merged(KEY))).tolist() == [5.0, 5.0]


async def test_what_is_said_of_a_part_waits_until_it_is_open_or_in_vain() -> None:
    one = intake()
    with one.following(KEY) as opened:
        waits = asyncio.create_task(one.opened_at(A))
        elsewhere = asyncio.create_task(one.opened_at(CombinerName("B")))
        await elsewhere
        assert not waits.done()
        opened.set()
        await waits
    await one.opened_at(A)


async def test_a_combiner_hinders_as_long_as_one_of_its_parts_is_followed() -> None:
    told: list[str] = []
    hindrances = Hindrances(told.append)
    one = Intake(S, 1, PartMerger(LAYOUT, "weighted"), hindrances, RoundTimes(1, lambda *_, **__: None))
    later = KEY._replace(part=1)
    with one.following(KEY):
        hindrances.blame(A, Damaged("torn"))
        one.followers[later] = asyncio.create_task(asyncio.sleep(0))
    assert hindrances.joined("") == "combiner A: torn"
    with one.following(later):
        pass
    assert hindrances.joined("") == ""
    assert told == ["combiner A: torn"]
