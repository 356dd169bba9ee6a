"""Metrics of a committed model: what one combiner spoils is not everybody's loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fedn.domain import messages as m
from fedn.domain.errors import Damaged
from fedn.domain.ids import ClientId, CombinerName, Incarnation, SessionId, digest_of
from fedn.domain.round import ValidationSpec
from fedn.reducer.network import Station
from fedn.reducer.validating import gather_metrics

MODEL = digest_of(b"model")


class Answering:
    """A live peer with one client, which reports at once; then ``fault`` is raised, if there is one."""

    live = True

    def __init__(self, name: str, fault: Exception | None = None, never: asyncio.Event | None = None) -> None:
        self.name, self.incarnation = CombinerName(name), Incarnation(name)
        self.station = Station(self.incarnation, frozenset({ClientId(f"at-{name}")}))
        self._fault, self._never = fault, never
        self.left = False

    async def stream(self, *_: object) -> AsyncIterator[m.ValidationEvent]:
        try:
            (client,) = self.station.clients
            yield m.ModelValidated(SessionId("s"), 1, client, MODEL, 3, {"accuracy": 1.0})
            if self._fault:
                raise self._fault
            if self._never:
                await self._never.wait()
        finally:
            self.left = True


def spec_for(clients: tuple[ClientId, ...]) -> ValidationSpec:
    return ValidationSpec(1, SessionId("s"), 1, MODEL, 10, clients, "{}", 0, 60.0)


@pytest.mark.parametrize("fault", [Damaged("torn"), ValueError("no such kind")], ids=repr)
async def test_what_goes_wrong_at_one_combiner_costs_no_other_its_rows(fault: Exception) -> None:
    peers = [Answering("a"), Answering("b", fault), Answering("c")]
    rows = await gather_metrics(peers, spec_for)  # type: ignore[arg-type]
    assert [row.client for row in rows] == ["at-a", "at-b", "at-c"]


async def test_who_is_cancelled_asks_nobody_any_more() -> None:
    never = asyncio.Event()
    peers = [Answering("a", never=never), Answering("b", never=never)]
    asking = asyncio.create_task(gather_metrics(peers, spec_for))  # type: ignore[arg-type]
    while len(asyncio.all_tasks()) < 4:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    assert len(asyncio.all_tasks()) == 1
