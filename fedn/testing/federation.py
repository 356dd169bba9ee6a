"""A whole federation in one event loop, for tests: links that can be cut, a story that can be waited for.

What the fast tests use, and what an app's author can use to see it train before there is a network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedn.client.driver import Client
from fedn.client.trainer import AppTrainer
from fedn.combiner.limits import Limits as CombinerLimits
from fedn.domain.ids import ClientId
from fedn.ports import Observed
from fedn.reducer.federation import Limits as ReducerLimits
from fedn.sdk.federation import InProcess
from fedn.testing.links import Severable

REDUCER_LIMITS = ReducerLimits(combiner_grace=0.2, client_grace=0.5)
COMBINER_LIMITS = CombinerLimits(client_grace=0.3)
"""Less patience than in production: links in one process break cleanly."""


@dataclass
class Story:
    """An Observer that remembers; `until` waits for an event."""

    events: list[Observed] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def observe(self, observed: Observed) -> None:
        self.events.append(observed)
        self._changed.set()

    def named(self, event: str) -> list[Mapping[str, Any]]:
        return [seen.fields for seen in self.events if seen.event == event]

    async def until(
        self, event: str, count: int = 1, seconds: float = 20.0, **fields: Any
    ) -> Mapping[str, Any]:
        """The ``count``-th event of that name with these fields; TimeoutError if it does not come."""
        async with asyncio.timeout(seconds):
            while True:
                found = [f for f in self.named(event) if fields.items() <= f.items()]
                if len(found) >= count:
                    return found[count - 1]
                self._changed.clear()
                await self._changed.wait()


class Federation(InProcess):
    """One reducer, combiners and clients by name: ``async with Federation(directory) as federation``.

    What happens is in ``story``.
    """

    def __init__(
        self,
        directory: Path,
        reducer_limits: ReducerLimits = REDUCER_LIMITS,
        combiner_limits: CombinerLimits = COMBINER_LIMITS,
    ) -> None:
        self.story = Story()
        self.links: dict[str, list[Severable]] = {}
        super().__init__(directory, self.story, None, reducer_limits, combiner_limits)

    async def stop_reducer(self) -> None:
        """As a crash leaves it: nothing is told, the stores stay."""
        await self.reducer.close()

    async def kill_combiner(self, name: str) -> None:
        """It is gone with everything it held, and its links break."""
        combiner = self.combiners.pop(name)
        self.cut(name)
        await combiner.close()

    def cut(self, name: str) -> None:
        """Break every link to a combiner; new ones can be made while it is in ``combiners``."""
        for link in self.links.pop(name, []):
            link.sever()

    async def add_client(self, name: str, app: Any, combiner: str = "", keep_updates: bool = False) -> Client:
        """Start a client with an app; under an old name it finds its old journal."""
        return await self.run_client(name, AppTrainer(app, ClientId(name)), combiner, keep_updates)

    def _link(self, address: str, name: str) -> Severable:
        return Severable(
            lambda: self.combiners.get(address), lambda link: self.links.setdefault(address, []).append(link)
        )


__all__ = ["Federation", "Story"]
