"""The environments that a client's packages run in: made while a task waits for them, and ended with it.

`fedn.packages.environment` makes them; here its commands run under a keeper, as all user code does, so that
nothing of them outlives the task or the client.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from fedn.client.process import Process, Spec, Stop
from fedn.client.shelf import Unpacked
from fedn.client.unseen import Unseen
from fedn.domain.errors import InvalidInput, StoreUnavailable, Unavailable
from fedn.domain.messages import Task
from fedn.packages.environment import INSTALL_SECONDS, Environment, environment
from fedn.ports import Observed, Observer

_log = logging.getLogger("fedn.client")


class Installing:
    """Implements `fedn.packages.environment.Installer` for a task: ended when ``stop`` is asked."""

    def __init__(self, stop: Stop, begin: Callable[[], None] | None = None) -> None:
        self._stop = stop
        self._begin = begin

    def check(self) -> None:
        self._stop.check()

    def begin(self) -> None:
        if self._begin is not None:
            self._begin()

    @contextmanager
    def running(self, command: Sequence[str], variables: Mapping[str, str], log: Path) -> Iterator[Process]:
        spec = Spec(tuple(command), dict(variables), str(log.parent), str(log))
        with Process(spec) as process, self._stop.watching(process):
            yield process


class Environments:
    """Those that packages are at work in, held by the package's digest. For one thread at a time."""

    def __init__(self, cache: Path, observer: Observer, unseen: Unseen) -> None:
        self._cache = cache
        self._observer = observer
        self._unseen = unseen
        self._held: dict[str, Environment] = {}

    def python(self, package: Unpacked, task: Task, stop: Stop, until: float) -> Path:
        """The Python of a package that has requirements; its environment stays until `release`.

        Raises:
            InvalidInput: it can't be made here, or not until ``until`` on the clock; ``stop`` was asked.
        """
        requirements = package.manifest.requirements
        begin = partial(self._unseen.install_begun, package.digest, task, len(requirements))
        seconds = min(INSTALL_SECONDS, max(0.0, until - time.monotonic()))
        try:
            made = environment(
                requirements, self._cache, partial(self._say, package), Installing(stop, begin), seconds
            )
        except (InvalidInput, Unavailable) as error:
            stop.check()
            raise _not_here(error) from None
        self._drop(package.digest)
        self._held[package.digest] = made
        return made.python

    def release(self, all_but: Collection[str] = ()) -> None:
        """Those of other packages than these may be removed from now on."""
        for digest in self._held.keys() - set(all_but):
            self._drop(digest)

    def _drop(self, digest: str) -> None:
        if held := self._held.pop(digest, None):
            held.close()

    def _say(self, package: Unpacked, sentence: str) -> None:
        self._observer.observe(Observed("environment", {"package": package.short, "reason": sentence}))


def _not_here(error: InvalidInput | Unavailable) -> InvalidInput:
    """What the network hears; the words are for this client alone: they may name what only it should know."""
    _log.error("%s", error.message)
    if isinstance(error, StoreUnavailable):
        return InvalidInput("package", "its environment found no room on this client's disk", "see its log")
    if isinstance(error, InvalidInput):
        return InvalidInput(str(error.details["field"]), "can't be installed on this client", "see its log")
    return InvalidInput("package", "its environment was not ready in time on this client", "see its log")
