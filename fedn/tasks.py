"""What a tier has under way beside what it waits for; all of it ends with its owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")
Failed: TypeAlias = Callable[[BaseException], None]
"""Told of what a task raised."""


class Tasks:
    """An owner's tasks. For one event loop."""

    def __init__(self, failed: Failed | None = None) -> None:
        """Without ``failed``, asyncio itself says in the log what a task raised that nobody waited for."""
        self._failed = failed
        self._open: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T], failed: Failed | None = None) -> asyncio.Task[T]:
        """Run ``work`` beside the caller; ``failed`` is told of a fault in it instead of the usual one."""
        task = asyncio.create_task(work)
        self._open.add(task)
        task.add_done_callback(partial(self._ended, failed or self._failed))
        return task

    def _ended(self, failed: Failed | None, task: asyncio.Task[Any]) -> None:
        self._open.discard(task)
        if failed and not task.cancelled() and (error := task.exception()):
            failed(error)

    async def settle(self) -> None:
        """Let all of it come to its end by itself, and what it starts meanwhile too."""
        while self._open:
            await asyncio.wait(self._open)

    def cancel(self) -> None:
        for task in self._open:
            task.cancel()

    async def close(self) -> None:
        """Cut all of it off, and wait until it has ended."""
        self.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
