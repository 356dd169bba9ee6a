"""A direct link to a combiner in the same process, which can be cut like a cable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from fedn.combiner.driver import Combiner
from fedn.domain.errors import LinkBroken
from fedn.sdk.links import DirectCombiner


class Severable(DirectCombiner):
    """After `sever` what was under way raises LinkBroken on both sides; later calls look for the combiner."""

    def __init__(self, find: Callable[[], Combiner | None], made: Callable[[Severable], None]) -> None:
        """``made`` is told of this link whenever it is used, so that somebody can cut it."""
        super().__init__(find)
        self._made = made
        self._cut = asyncio.Event()

    def sever(self) -> None:
        self._cut.set()
        self._cut = asyncio.Event()

    def _combiner(self) -> Combiner:
        combiner = super()._combiner()
        self._made(self)
        return combiner

    async def _call(self, ask: Callable[[Combiner], Any]) -> Any:
        combiner, cut = self._combiner(), self._cut
        return await _unless(cut, ask(combiner))

    async def _stream(self, ask: Callable[[Combiner], AsyncIterator[Any]]) -> AsyncIterator[Any]:
        items, cut = ask(self._combiner()), self._cut
        try:
            while (item := await _unless(cut, anext(items, None))) is not None:
                yield item
        finally:
            await items.aclose()  # type: ignore[attr-defined]


async def _unless(cut: asyncio.Event, work: Any) -> Any:
    """The result of ``work``, or LinkBroken as soon as the cable is cut."""
    doing, cutting = asyncio.ensure_future(work), asyncio.create_task(cut.wait())
    try:
        await asyncio.wait([doing, cutting], return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise LinkBroken("the link was cut")
        return doing.result()
    finally:
        for task in (doing, cutting):
            task.cancel()
        await asyncio.gather(doing, cutting, return_exceptions=True)
