"""The user's code in a thread of its own that never keeps the process from ending.

Training may take hours and can't be interrupted from outside; Ctrl-C must work all the same. What was
trained but not yet in the journal is then trained again, as after a crash.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from fedn.domain.errors import InvalidInput, StoreUnavailable

T = TypeVar("T")
_log = logging.getLogger("fedn.client")


async def in_own_thread(work: Callable[[], T]) -> T:
    """The result of ``work``, run in a daemon thread. Raises what it raises, but only ever an Exception."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = _harmless(raised)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=run, name="training", daemon=True).start()
    return await done


async def reporting(work: Callable[[], T]) -> T:
    """As `in_own_thread`, for a report. That it found no room is final: nobody waits until there is some."""
    try:
        return await in_own_thread(work)
    except StoreUnavailable as error:
        _log.error("no room for a report: %s", error.message)
        raise InvalidInput("report", "found no room on this client's disk", "see its log") from None


def _harmless(error: BaseException) -> Exception:
    """What would end whoever waits, or never reach it, as a RuntimeError that says what it was."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    told = RuntimeError(traceback.format_exception_only(error)[0].strip())
    told.__cause__ = error
    return told
