"""The crossing from the web server's threads to the control loop, over a real reducer on memory stores."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fedn.domain.errors import NotFound, Unavailable
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, Incarnation, SessionId
from fedn.domain.messages import Registration
from fedn.reducer.events import EventHub
from fedn.reducer.federation import Limits, Reducer
from fedn.reducer.service import ReducerService
from fedn.stores.memory import MemoryModels, MemoryState
from fedn.testing.links import Severable

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


@pytest.fixture
async def service() -> AsyncIterator[ReducerService]:
    hub = EventHub(streams=3)
    reducer = Reducer(
        MemoryState(), MemoryModels(), lambda _: Severable(lambda: None, lambda _: None), hub, Limits()
    )
    await reducer.start()
    yield ReducerService(reducer, asyncio.get_running_loop(), hub, 2**20, 7)
    await reducer.close()


async def test_every_gauge_is_documented_and_nothing_else_is(service: ReducerService) -> None:
    section = OPERATIONS.read_text().partition("### The reducer's own\n")[2].partition("\n##")[0]
    gauges = service.network().gauges
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [gauge.name for gauge in gauges]
    assert {gauge.value for gauge in gauges} == {0}


async def test_gauges_count_what_there_is(service: ReducerService) -> None:
    me = Registration(PROTOCOL_VERSION, CombinerName("c"), "localhost:1", Incarnation("i"))
    await asyncio.to_thread(service.register, me)
    with service.hub.subscribe():
        found = {gauge.name: (gauge.value, gauge.peak, gauge.limit) for gauge in service.network().gauges}
    assert found["combiners"] == (1, 1, 1000)
    assert found["commands"] == (0, 1, 7)
    assert found["event_streams"] == (1, 1, 3)


async def test_nobody_is_assigned_where_nobody_is(service: ReducerService) -> None:
    with pytest.raises(Unavailable, match="no combiner"):
        await asyncio.to_thread(service.assign, ClientId("ann"), "", "")


@pytest.mark.parametrize("ask", ["pause_session", "resume_session", "stop_session"])
async def test_a_session_that_is_unknown_is_not_found(service: ReducerService, ask: str) -> None:
    with pytest.raises(NotFound):
        await asyncio.to_thread(getattr(service, ask), SessionId("nobody"))
