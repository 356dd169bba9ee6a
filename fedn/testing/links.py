"""A direct link to a combiner in the same process, which can be cut like a cable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from fedn.combiner.driver import Combiner
from fedn.domain.errors import LinkBroken


class Severable:
    """Implements ports.CombinerLink and ports.ClientLink by calling a `Combiner` directly.

    ``find`` gives the combiner at the other end, or None while there is none. After `sever` what was
    under way raises LinkBroken on both sides; later calls look for the combiner anew.
    """

    def __init__(self, find: Callable[[], Combiner | None], made: Callable[[Severable], None]) -> None:
        self._find = find
        self._made = made
        self._cut = asyncio.Event()

    def sever(self) -> None:
        self._cut.set()
        self._cut = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        if name in {"watch", "run_round", "run_validation", "fetch_part", "fetch_model"}:
            return lambda request: self._stream(lambda combiner: getattr(combiner, name)(request))
        if name in {"ack", "abort", "release", "admit", "settle"}:
            return lambda command: self._call(lambda combiner: getattr(combiner, name)(command))
        raise AttributeError(name)

    def attach(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        return self._stream(lambda combiner: combiner.attach(messages))

    async def submit(self, grant: str, offset: int, chunks: AsyncIterator[Any]) -> None:
        await self._call(lambda combiner: combiner.submit(grant, offset, chunks))

    async def close(self) -> None:
        """Nothing to close."""

    def _combiner(self) -> Combiner:
        combiner = self._find()
        if combiner is None:
            raise LinkBroken("no combiner there")
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
