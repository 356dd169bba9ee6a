"""The crossing from the web server's threads to the control loop, over a real reducer on memory stores."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fedn.domain.errors import InvalidModel, NotFound, Revoked, Unavailable
from fedn.domain.identity import Member, Role
from fedn.domain.ids import (
    PROTOCOL_VERSION,
    ClientId,
    CombinerName,
    Digest,
    Incarnation,
    SessionId,
    digest_of,
)
from fedn.domain.messages import Registration
from fedn.ports import CombinerInfo
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
        MemoryState(), MemoryModels(), lambda *_: Severable(lambda: None, lambda _: None), hub, Limits()
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


async def test_a_seed_that_is_refused_goes_unless_it_was_there_before(service: ReducerService) -> None:
    """And nobody lists a whole bucket to know that."""
    kept, _ = service.models.put([b"a package, maybe"])
    service.models.digests = service.models.blobs = None  # type: ignore[assignment,method-assign]
    for blob in (b"a package, maybe", b"no model"):
        with pytest.raises(InvalidModel):
            await asyncio.to_thread(service.seed_model, [blob], "", len(blob))
    assert service.models.size(kept) == 16
    with pytest.raises(NotFound):
        service.models.size(digest_of(b"no model"))


@pytest.mark.parametrize("ask", ["pause_session", "resume_session", "stop_session"])
async def test_a_session_that_is_unknown_is_not_found(service: ReducerService, ask: str) -> None:
    with pytest.raises(NotFound):
        await asyncio.to_thread(getattr(service, ask), SessionId("nobody"))


async def test_a_revoked_combiner_is_gone_at_once_and_can_not_come_back(service: ReducerService) -> None:
    for name in ("a", "b"):
        me = Registration(PROTOCOL_VERSION, CombinerName(name), f"{name}:1", Incarnation("i"))
        await asyncio.to_thread(service.register, me)
    await asyncio.to_thread(service.put_out, _member(Role.CLIENT, "a"))
    await asyncio.to_thread(service.put_out, _member(Role.COMBINER, "b"))
    async with asyncio.timeout(10):
        while [combiner.combiner for combiner in service.network().combiners] != ["a"]:
            await asyncio.sleep(0.01)
    with pytest.raises(Revoked, match="combiner b was revoked"):
        await asyncio.to_thread(service.register, me)


async def test_a_combiner_that_is_no_member_is_not_looked_for_after_a_restart() -> None:
    state, dialled = MemoryState(), []
    for name in ("good", "bad"):
        state.put_combiner(CombinerInfo(CombinerName(name), f"{name}:1", "i", 1.0))

    def dial(address: str, name: CombinerName) -> Severable:
        dialled.append((address, name))
        return Severable(lambda: None, lambda _: None)

    members = {"good": "good"}
    reducer = Reducer(
        state, MemoryModels(), dial, EventHub(), Limits(), lambda _, member, __: members.get(member)
    )
    await reducer.start()
    assert dialled == [("good:1", "good")]
    reducer.redial()
    async with asyncio.timeout(10):
        while len(dialled) < 2:
            await asyncio.sleep(0.01)
    await reducer.close()


def _member(role: Role, name: str) -> Member:
    return Member(role, name, "", {}, Digest("0" * 64), "", 1.0, 1.0, 2.0, 3.0)
