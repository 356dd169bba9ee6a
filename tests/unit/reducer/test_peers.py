"""Which combiner is forgotten when there is no room for another, and that it is left in peace then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from rounds import offer

from fedn.domain import messages as m
from fedn.domain.errors import LinkBroken
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, Incarnation
from fedn.reducer.peers import Hooks, Peer, longest_gone


class Gate:
    """A link that works while it is open; ``tries`` counts how often it was asked to watch."""

    def __init__(self) -> None:
        self.up, self.down, self.tries = asyncio.Event(), asyncio.Event(), 0

    async def watch(self, _: m.WatchRequest) -> AsyncIterator[m.CombinerEvent]:
        self.tries += 1
        if not self.up.is_set():
            raise LinkBroken("nobody there")
        yield m.Snapshot(PROTOCOL_VERSION, CombinerName("a"), Incarnation("a1"))
        await self.down.wait()
        raise LinkBroken("gone")

    async def close(self) -> None:
        self.up.clear()


def nothing(*_: Any) -> None:
    """Nobody listens."""


def peer(name: str, seen: float, link: Any = None, lost: bool = True) -> Peer:
    """One that was given up, if not said otherwise."""
    hooks = Hooks(nothing, nothing, nothing, nothing, nothing)
    made = Peer(CombinerName(name), f"{name}:1", 1, lambda *_: link, 0.01, hooks, seen)
    made.lost = lost
    return made


async def holds(what: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not what():
            await asyncio.sleep(0.001)


async def test_the_one_that_was_seen_last_the_longest_ago_makes_room() -> None:
    peers = [peer("a", 30.0), peer("b", 10.0), peer("c", 20.0)]
    assert longest_gone(peers, ()) is peers[1]
    assert longest_gone(peers, {"b"}) is peers[2]
    assert longest_gone(peers, {"a", "b", "c"}) is None


async def test_one_that_is_live_or_still_looked_for_does_not() -> None:
    assert longest_gone([peer("a", 1.0, lost=False)], ()) is None


async def test_who_registers_or_was_live_is_seen() -> None:
    link = Gate()
    link.up.set()
    one = peer("a", 5.0, link, lost=False)
    await one.moved("a:1")
    registered = one.seen
    assert registered > 5.0
    one.seen = 5.0
    watching = asyncio.create_task(one.run())
    await holds(lambda: one.live)
    link.up.clear()
    link.down.set()
    await holds(lambda: one.lost)
    assert one.seen >= registered
    await one.close()
    await asyncio.wait_for(watching, 10)


async def test_one_that_is_forgotten_is_not_tried_for_any_more() -> None:
    link = Gate()
    one = peer("a", 5.0, link, lost=False)
    watching = asyncio.create_task(one.run())
    await holds(lambda: one.lost and link.tries > 1)
    await one.close()
    await asyncio.wait_for(watching, 10)
    assert not one.live


async def test_one_that_is_put_out_is_lost_at_once_and_left_in_peace() -> None:
    link, told = Gate(), []
    link.up.set()
    hooks = Hooks(lambda: told.append("changed"), nothing, lambda *_: told.append("lost"), nothing, nothing)
    one = Peer(CombinerName("a"), "a:1", 1, lambda *_: link, 3600.0, hooks)
    watching = asyncio.create_task(one.run())
    await holds(lambda: one.live)
    told.clear()
    await one.put_out()
    assert (one.live, one.lost) == (False, True)
    assert told == ["changed", "lost", "changed"], "first that it is away, then that it does not come back"
    link.down.set()
    await asyncio.wait_for(watching, 10)
    assert link.tries == 1
    assert await one.call(Incarnation("a1"), lambda _: asyncio.sleep(0)) is None


async def test_a_new_link_takes_the_place_of_the_old_one_without_a_loss() -> None:
    links: list[Gate] = []
    names: list[tuple[str, str]] = []

    def dial(address: str, name: CombinerName) -> Any:
        names.append((address, name))
        links.append(Gate())
        links[-1].up.set()
        return links[-1]

    lost: list[object] = []
    hooks = Hooks(nothing, nothing, lambda *_: lost.append(_), nothing, nothing)
    one = Peer(CombinerName("a"), "a:1", 1, dial, 3600.0, hooks)
    watching = asyncio.create_task(one.run())
    await holds(lambda: one.live)
    await one.redial()
    links[0].down.set()  # closing a link ends what is under way on it
    await holds(lambda: len(links) == 2 and links[1].tries == 1 and one.live)
    assert names == [("a:1", "a")] * 2
    assert not lost
    await one.close()
    links[1].down.set()
    await asyncio.wait_for(watching, 10)


class Talker:
    """A combiner that speaks for clients, whoever they are."""

    def __init__(self) -> None:
        self.said = asyncio.Event()

    async def watch(self, _: m.WatchRequest) -> AsyncIterator[m.CombinerEvent]:
        infos = tuple(m.ClientInfo(ClientId(name), "admin") for name in ("ann", "sybil"))
        yield m.Snapshot(PROTOCOL_VERSION, CombinerName("a"), Incarnation("a1"), infos)
        for name in ("bob", "mallory"):
            yield m.ClientAttached(m.ClientInfo(ClientId(name), "admin"))
            yield m.ReleaseRequested(offer(ClientId(name)))
        self.said.set()
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_combiner_is_not_believed_about_who_is_a_member_nor_about_names() -> None:
    talker, released = Talker(), list[ClientId]()
    members = {"ann": "Ann", "bob": ""}
    hooks = Hooks(nothing, nothing, nothing, lambda _, header: released.append(header.client), nothing,
                  known_as=lambda client, _: members.get(client))  # fmt: skip
    one = Peer(CombinerName("a"), "a:1", 1, lambda *_: talker, 0.01, hooks)
    watching = asyncio.create_task(one.run())
    await talker.said.wait()
    assert one.station.clients == {"ann", "bob"}
    assert [(info.client, info.name) for info in one.view.clients] == [("ann", "Ann"), ("bob", "")]
    assert released == ["bob"]
    await one.close()
    watching.cancel()
    await asyncio.wait([watching])


async def test_without_identity_clients_are_called_what_they_say() -> None:
    talker = Talker()
    hooks = Hooks(nothing, nothing, nothing, nothing, nothing)
    one = Peer(CombinerName("a"), "a:1", 1, lambda *_: talker, 0.01, hooks)
    watching = asyncio.create_task(one.run())
    await talker.said.wait()
    assert {info.name for info in one.view.clients} == {"admin"}
    assert len(one.view.clients) == 4
    await one.close()
    watching.cancel()
    await asyncio.wait([watching])
