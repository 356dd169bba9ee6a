"""Runs ``fedn …`` so that one exact instant of it goes wrong: ``python trip.py '<trip>' <arguments>``.

A trip wraps one function of the product; nothing in the product knows of it. It touches a marker file
right before it acts, and never acts again while that file is there: a restarted process runs on. A call
that is late or made twice has another file once that is done.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Trip:
    """At the ``nth`` call of ``target`` (``module:name`` or ``module:Class.name``), ``how`` happens.

    ``how``: kill, stop (SIGKILL, SIGSTOP to itself), cut (every TCP connection of this process breaks),
    mark (only the marker), twice (the call is made twice), delay=<seconds> (later calls may overtake it).
    ``when``: before or after the call. A call that answers with a stream has its items as its ends: after
    the ``nth`` item. ``given`` counts only calls with an argument of a class of this name.
    """

    target: str
    how: str = "kill"
    when: str = "before"
    nth: int = 1
    given: str = ""
    marker: str = ""

    def as_argument(self) -> str:
        return json.dumps(asdict(self))


class Armed:
    """A trip in the process that it is for."""

    def __init__(self, trip: Trip) -> None:
        self.trip = trip
        self.seen = 0
        self.lock = threading.Lock()

    def due(self, when: str, arguments: tuple[Any, ...]) -> bool:
        """Whether this is the instant; if so the marker is there, and it is the only one."""
        wanted = self.trip.given
        if when != self.trip.when or (wanted and all(type(a).__name__ != wanted for a in arguments)):
            return False
        with self.lock:
            self.seen += 1
            marker = Path(self.trip.marker)
            if self.seen != self.trip.nth or marker.exists():
                return False
            marker.touch()
            return True

    def act(self) -> None:
        match self.trip.how:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "cut":
                cut_connections()
            case "mark":
                pass

    def done(self) -> None:
        """What comes late or twice has come."""
        done(Path(self.trip.marker)).touch()

    @property
    def delay(self) -> float:
        return float(self.trip.how.partition("=")[2] or 0)

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):
            return self._coroutine(function)
        if "AsyncIterator" in str(function.__annotations__.get("return")):
            return self._stream(function)
        return self._plain(function)

    def _plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def late(*arguments: Any, **named: Any) -> None:
            function(*arguments, **named)
            self.done()

        def call(*arguments: Any, **named: Any) -> Any:
            if self.due("before", arguments):
                self.act()
                if self.delay:
                    asyncio.get_running_loop().call_later(self.delay, late, *arguments)
                    return None
                if self.trip.how == "twice":
                    late(*arguments, **named)
            result = function(*arguments, **named)
            if self.due("after", arguments):
                self.act()
            return result

        return call

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **named: Any) -> Any:
            if due := self.due("before", arguments):
                self.act()
                await asyncio.sleep(self.delay)
                if self.trip.how == "twice":
                    await function(*arguments, **named)
            result = await function(*arguments, **named)
            if due:
                self.done()
            if self.due("after", arguments):
                self.act()
            return result

        return call

    def _stream(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
            beside = None
            if self.due("before", arguments):
                self.act()
                await asyncio.sleep(self.delay)
                if self.trip.how == "twice":
                    beside = asyncio.create_task(drained(function(*arguments, **named)))
                    beside.add_done_callback(lambda _: self.done())
                else:
                    self.done()
            async for item in function(*arguments, **named):
                yield item
                if self.due("after", arguments):
                    self.act()
            if beside:
                await beside

        return call


def done(marker: Path) -> Path:
    """The file that is there when what came late or twice has come."""
    return marker.with_name(f"{marker.name}-done")


async def drained(stream: AsyncIterator[Any]) -> None:
    async for _ in stream:
        pass


def cut_connections() -> None:
    """Break every TCP connection of this process, as a network would: both ends see it end."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        with suppress(OSError):
            if str(entry.readlink()).startswith("socket:"):
                with socket.socket(fileno=os.dup(int(entry.name))) as same:
                    if same.family in (socket.AF_INET, socket.AF_INET6) and same.getpeername():
                        same.shutdown(socket.SHUT_RDWR)


def arm(trip: Trip) -> None:
    """Put the wrapped function in the place of the real one."""
    module, _, path = trip.target.partition(":")
    *outer, name = path.split(".")
    owner: Any = import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, Armed(trip).wrapped(getattr(owner, name)))


if __name__ == "__main__":
    from fedn.cli import main

    arm(Trip(**json.loads(sys.argv[1])))
    sys.argv[1:] = sys.argv[2:]
    main()
