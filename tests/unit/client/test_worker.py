"""What a thread of the user's ends with reaches whoever waits for it, and ends nothing else."""

from __future__ import annotations

import asyncio

import pytest

from fedn.client.worker import in_own_thread
from fedn.domain.errors import LinkBroken


async def test_a_result_comes_back() -> None:
    assert await in_own_thread(lambda: 7) == 7


async def test_an_error_comes_back_as_it_is() -> None:
    error = LinkBroken("gone")

    def work() -> None:
        raise error

    with pytest.raises(LinkBroken) as caught:
        await in_own_thread(work)
    assert caught.value is error


class Unprintable(BaseException):
    """Not even its own reason can be told."""

    def __str__(self) -> str:
        raise self


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError("stop"), "CancelledError: stop"),
        (GeneratorExit("x"), "GeneratorExit: x"),
        (StopIteration(5), "StopIteration: 5"),
        (Unprintable(), "Unprintable: <exception str() failed>"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
async def test_what_would_end_the_loop_or_its_task_comes_back_as_an_error(
    error: BaseException, reason: str
) -> None:
    def work() -> None:
        raise error

    with pytest.raises(RuntimeError) as caught:
        async with asyncio.timeout(5):
            await in_own_thread(work)
    assert str(caught.value).endswith(reason)
    assert caught.value.__cause__ is error
