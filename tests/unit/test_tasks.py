"""What a tier has under way: who hears of its faults, and that none of it outlives its owner."""

from __future__ import annotations

import asyncio

from fedn.tasks import Tasks


async def broken() -> None:
    raise ValueError("broken")


async def test_a_fault_is_told_to_the_owner_or_to_who_was_named_for_it() -> None:
    owner, other = list[str](), list[str]()
    tasks = Tasks(lambda error: owner.append(str(error)))
    tasks.start(broken())
    tasks.start(broken(), lambda error: other.append(str(error)))
    await tasks.settle()
    assert (owner, other) == (["broken"], ["broken"])


async def test_what_is_cut_off_has_ended_and_is_no_fault() -> None:
    faults, ended = list[object](), asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda _, told: faults.append(told))

    async def for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # it takes its time to leave
            ended.set()

    tasks = Tasks(faults.append)
    tasks.start(for_ever())
    await asyncio.sleep(0)
    await tasks.close()
    assert ended.is_set()
    assert faults == []


async def test_it_settles_only_when_what_was_started_meanwhile_is_over_too() -> None:
    story = list[str]()
    tasks = Tasks()

    async def second() -> None:
        for _ in range(9):
            await asyncio.sleep(0)
        story.append("second")

    async def first() -> None:
        story.append("first")
        tasks.start(second())

    tasks.start(first())
    await tasks.settle()
    assert story == ["first", "second"]
