"""Links between tiers that are in one process: direct calls instead of sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fedn.combiner.driver import Combiner
from fedn.domain import messages as m
from fedn.domain.errors import LinkBroken
from fedn.domain.ids import ClientId
from fedn.reducer.federation import Reducer


class DirectCombiner:
    """Implements ports.CombinerLink and ports.ClientLink by calling a `Combiner` directly.

    ``find`` gives the combiner at the other end, or None while there is none: then LinkBroken is raised.
    """

    def __init__(self, find: Callable[[], Combiner | None]) -> None:
        self._find = find

    def __getattr__(self, name: str) -> Any:
        if name in {"watch", "run_round", "run_validation", "fetch_part", "fetch_model"}:
            return lambda request: self._stream(lambda combiner: getattr(combiner, name)(request))
        if name in {"ack", "abort", "release", "admit", "settle", "drain"}:
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
        return combiner

    async def _call(self, ask: Callable[[Combiner], Any]) -> Any:
        return await ask(self._combiner())

    async def _stream(self, ask: Callable[[Combiner], AsyncIterator[Any]]) -> AsyncIterator[Any]:
        items = ask(self._combiner())
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()  # type: ignore[attr-defined]


class DirectReducer:
    """Implements ports.ReducerLink by calling whichever `Reducer` there is now."""

    def __init__(self, find: Callable[[], Reducer]) -> None:
        self._find = find

    async def register(self, registration: m.Registration) -> Sequence[str]:
        return await self._find().register(registration)

    async def assign(self, client: ClientId, prefer: str, avoid: str) -> m.Assignment:
        return await self._find().assign(client, prefer, avoid)

    def fetch_model(self, request: m.FetchRequest) -> AsyncIterator[Any]:
        return self._find().fetch_model(request)

    async def close(self) -> None:
        """Nothing to close."""
