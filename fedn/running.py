"""How every tier's process runs: one event loop until SIGINT or SIGTERM, then an orderly end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOP_WITH_STDIN = "FEDN_STOP_WITH_STDIN"
"""Environment: stop when standard input closes, as the sandbox's processes do when it dies."""


def run_until_signalled(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run ``serve(stop)``; ``stop`` is set by the first signal, and serve is to return then."""
    asyncio.run(_until_signalled(serve))


async def _until_signalled(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop.set)
    if os.environ.get(STOP_WITH_STDIN):
        _stop_with_stdin(loop, stop)
    try:
        await serve(stop)
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


def _stop_with_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set ``stop`` at the end of standard input; what is written there is ignored."""

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            stop.set()

    loop.add_reader(sys.stdin.fileno(), read)


async def first_of(stop: asyncio.Event, *works: Coroutine[Any, Any, None]) -> None:
    """Run ``works`` until ``stop`` is set or one of them ends; raises what that one raised."""
    tasks = [asyncio.create_task(work) for work in works]
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in [stopping, *tasks]:
            task.cancel()
        await asyncio.gather(stopping, *tasks, return_exceptions=True)
