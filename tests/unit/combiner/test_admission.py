"""Places for work: in order, bounded, and of each client only a share."""

from __future__ import annotations

import asyncio

import pytest

from fedn.combiner.admission import Places
from fedn.domain.errors import Busy
from fedn.domain.gauges import Gauges


class Hall:
    """Places, and who has been let in, in order."""

    def __init__(self, limit: int, waiting: int, each: int, asked: int) -> None:
        self.gauges = Gauges()
        self.places = Places(self.gauges, "uploads", limit, waiting, each, asked)
        self.inside: list[str] = []
        self._leave: dict[asyncio.Task[None], asyncio.Event] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, who: str) -> asyncio.Task[None]:
        leave = asyncio.Event()

        async def stay() -> None:
            async with self.places.taken(who):
                self.inside.append(who)
                await leave.wait()

        task = asyncio.create_task(stay())
        self._leave[task] = leave
        self.tasks.append(task)
        await self.settle()
        return task

    async def leave(self, task: asyncio.Task[None]) -> None:
        self._leave[task].set()
        await task
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    def levels(self) -> list[int]:
        return [gauge.value for gauge in self.gauges.read()]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.settle()


async def test_one_client_takes_its_share_and_others_come_in() -> None:
    hall = Hall(limit=4, waiting=10, each=2, asked=8)
    first, *_ = [await hall.come("ann") for _ in range(5)]
    assert hall.inside == ["ann", "ann"]
    assert hall.levels() == [2, 3]
    await hall.come("bob")
    await hall.come("cat")
    assert hall.inside == ["ann", "ann", "bob", "cat"]
    await hall.leave(first)
    assert hall.inside[4:] == ["ann"]
    await hall.close()
    assert hall.levels() == [0, 0]


async def test_one_client_asks_for_so_many_at_once_and_no_more() -> None:
    hall = Hall(limit=4, waiting=10, each=2, asked=3)
    tasks = [await hall.come("ann") for _ in range(3)]
    with pytest.raises(Busy, match="ann has asked for 3 uploads at once; the most is 3"):
        await (await hall.come("ann"))
    await hall.leave(tasks[0])
    await hall.come("ann")  # and again as soon as one is done
    assert hall.inside == ["ann"] * 3
    await hall.close()


async def test_whoever_gives_up_waiting_leaves_its_place_to_the_next() -> None:
    hall = Hall(limit=1, waiting=10, each=1, asked=3)
    bob = await hall.come("bob")
    gone = [await hall.come("ann"), await hall.come("ann")]
    cat = await hall.come("cat")
    for task in gone:
        task.cancel()
    await hall.leave(bob)
    assert hall.inside == ["bob", "cat"]
    await hall.leave(cat)
    await hall.come("ann")
    assert hall.inside == ["bob", "cat", "ann"]
    await hall.close()
    assert hall.places._shares == {}


async def test_who_is_not_known_shares_with_nobody() -> None:
    hall = Hall(limit=3, waiting=0, each=1, asked=1)
    for _ in range(3):
        await hall.come("")
    assert hall.inside == [""] * 3
    with pytest.raises(Busy, match="uploads_waiting"):
        await (await hall.come(""))
    await hall.close()
