"""Bounded work and its gauges."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from fedn.combiner.admission import Places
from fedn.combiner.clients import Clients, Parked
from fedn.combiner.driver import Combiner
from fedn.combiner.limits import Limits
from fedn.domain import messages as m
from fedn.domain.errors import Busy
from fedn.domain.gauges import Gauges
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, SessionId, digest_of
from fedn.domain.messages import Gauge
from fedn.domain.update import UpdateHeader
from fedn.stores.cache import ModelCache
from fedn.stores.memory import MemoryModels

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
SESSION, OTHER = SessionId("s"), SessionId("t")


def offer(client: str, round_: int = 1) -> UpdateHeader:
    digest = digest_of(client.encode())
    return UpdateHeader(SESSION, round_, ClientId(client), digest, 1, 1, digest, digest)


def test_a_gauge_remembers_the_most_there_ever_was() -> None:
    held: list[int] = []
    gauges = Gauges()
    level = gauges.add("held", 9, lambda: len(held))
    held += [1, 2, 3]
    level.note(len(held))
    held.clear()
    assert gauges.read() == (Gauge("held", 0, 9, 3),)


async def test_places_are_given_in_order_and_the_queue_for_them_is_bounded() -> None:
    gauges, story = Gauges(), list[str]()
    places = Places(gauges, "fetches", 1, 2)
    leave = {name: asyncio.Event() for name in "abc"}

    async def work(name: str) -> None:
        async with places.taken():
            story.append(name)
            await leave[name].wait()

    tasks = [asyncio.create_task(work(name)) for name in "abc"]
    await asyncio.sleep(0)
    assert story == ["a"]
    assert gauges.read() == (Gauge("fetches", 1, 1, 1), Gauge("fetches_waiting", 2, 2, 2))
    with pytest.raises(Busy, match=r"1 fetches are in flight and 2 wait \(fetches_waiting\)"):
        await work("d")
    tasks[1].cancel()
    leave["a"].set()
    leave["c"].set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert story == ["a", "c"]
    assert gauges.read() == (Gauge("fetches", 0, 1, 1), Gauge("fetches_waiting", 0, 2, 2))


def test_parked_offers_are_bounded_altogether_and_for_each_client() -> None:
    gauges = Gauges()
    parked = Parked(Limits(max_parked=3, parked_each=2), gauges)
    assert parked.add(offer("ann", 1))
    assert parked.add(offer("ann", 2))
    assert parked.add(offer("ann", 2))  # again
    assert not parked.add(offer("ann", 3))
    assert parked.add(offer("bob"))
    with pytest.raises(Busy, match="max_parked"):
        parked.add(offer("cat"))
    parked.drop(ClientId("ann"), SESSION, 1)
    parked.drop(ClientId("ann"), OTHER, 1)  # of another session: nothing
    parked.leave(ClientId("bob"))
    assert list(parked) == [offer("ann", 2)]
    assert gauges.read() == (Gauge("parked", 1, 3, 3),)


async def test_the_fullest_outbox_is_what_the_gauge_shows() -> None:
    gauges = Gauges()
    clients = Clients(Limits(max_clients=2, outbox=3), gauges)
    ann, bob = (clients.add(m.ClientInfo(ClientId(name), name), 0.0) for name in ("ann", "bob"))
    for _ in range(2):
        ann.send(m.Reoffer(SESSION, 1))
    bob.send(m.Reoffer(SESSION, 1))
    assert gauges.read() == (Gauge("clients", 2, 2, 2), Gauge("outbox", 2, 3, 2))
    with pytest.raises(Busy, match="max_clients"):
        clients.add(m.ClientInfo(ClientId("cat"), ""), 0.0)


async def watched(tmp_path: Path) -> tuple[Gauge, ...]:
    """The gauges of a combiner that nobody has come to yet."""
    models = ModelCache(MemoryModels(), keep=1)
    combiner = Combiner(CombinerName("c"), None, models, tmp_path, Limits())  # type: ignore[arg-type]
    stream = combiner.watch(m.WatchRequest(PROTOCOL_VERSION, 1))
    told = [await anext(stream), await anext(stream)]
    await combiner.close()
    assert isinstance(told[1], m.GaugesChanged)
    return told[1].gauges


async def test_every_gauge_is_documented_and_nothing_else_is(tmp_path: Path) -> None:
    section = OPERATIONS.read_text().partition("## Gauges\n")[2].partition("\n##")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    gauges = await watched(tmp_path)
    assert documented == [gauge.name for gauge in gauges]
    assert {gauge.value for gauge in gauges} == {0}
