"""What a client's owner allows: which sessions and packages, in which hours, and whether just now at all.

`driver.py` asks here before it takes a task, and waits here while it is to be away. A pause is a file in the
client's folder, which `fedn client pause` writes and this looks at about once a second.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from fedn.domain.errors import Damaged
from fedn.domain.hours import Hours
from fedn.domain.ids import SessionId
from fedn.domain.messages import Task
from fedn.stores.disk import disk_errors, write_durably

LOOK_SECONDS = 0.5
PAUSED = "this client's owner has paused it"
MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Allowed:
    """An owner's settings: patterns of session ids and digests of packages (none for any), and hours."""

    sessions: Sequence[str] = ()
    packages: Sequence[str] = ()
    hours: Hours = field(default_factory=Hours)
    leave_within: float = 300.0

    def objection(self, session: SessionId, package: str = "") -> str:
        """Why nothing is done for a session, or with a package; '' if it is allowed."""
        if self.sessions and not any(fnmatchcase(session, pattern) for pattern in self.sessions):
            return f"this client's owner does not allow session {session} (sessions)"
        if package and self.packages and package not in self.packages:
            return f"this client's owner does not allow package {package[:12]} (allow)"
        return ""


@dataclass(frozen=True, slots=True)
class Pause:
    """A client's pause, as it is kept. ``since`` is Unix time; with ``now`` what is at work is stopped."""

    since: float
    now: bool = False


def read_pause(path: Path) -> Pause | None:
    """The pause in a file; None without one. Raises Damaged, which is to be taken for a pause."""
    try:
        with path.open("rb") as file:
            told = json.loads(file.read(MAX_BYTES))
        return Pause(float(told["since"]), bool(told["now"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise Damaged(f"{path} can't be read; `fedn client resume` removes it") from None


def pause(path: Path, since: float, now: bool) -> None:
    """Pause the client whose pauses are kept there, also across restarts. Raises StoreUnavailable."""
    with disk_errors(path.parent):
        write_durably(path, [json.dumps({"since": since, "now": now}).encode() + b"\n"])


def resume(path: Path) -> None:
    """End a pause; nothing happens without one. Raises StoreUnavailable."""
    with disk_errors(path.parent):
        path.unlink(missing_ok=True)


class Owner:
    """The owner's say over one client. For one event loop.

    ``paused`` is where a pause is kept, if it can be paused; ``clock`` gives the local time.
    """

    def __init__(
        self, allowed: Allowed | None = None, paused: Path | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:  # fmt: skip
        self.allowed = allowed or Allowed()
        self._paused = paused
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._pause: Pause | None = None

    def objection(self, task: Task) -> str:
        """Why a task is not done; '' if it is allowed."""
        return self.allowed.objection(task.session, task.package)

    def away(self) -> str:
        """Why this client is not to take part just now; '' if it is."""
        if self._look():
            return PAUSED
        hours = self.allowed.hours
        return "" if hours.open_at(self._clock()) else f"this client takes part at {hours.text} only"

    async def until(self, away: bool) -> str:
        """Wait until it is to be away, or is not any more; why, if it is."""
        while bool(reason := self.away()) is not away:  # noqa: ASYNC110 — there is no event for a file or clock
            await asyncio.sleep(LOOK_SECONDS)
        return reason

    async def rest(self, rested: asyncio.Event) -> bool:
        """Wait, for as long as the owner allows, until what is under way has ended. False: it may stay."""
        began = asyncio.get_running_loop().time()
        while self.away():
            left = began + self._patience - asyncio.get_running_loop().time()
            if rested.is_set() or left <= 0:
                return True
            with suppress(TimeoutError):
                await asyncio.wait_for(rested.wait(), min(LOOK_SECONDS, left))
        return False

    @property
    def _patience(self) -> float:
        return 0.0 if self._pause is not None and self._pause.now else self.allowed.leave_within

    def _look(self) -> bool:
        """Whether it is paused; the file is read when it has changed."""
        if self._paused is None:
            return False
        try:
            stat = self._paused.stat()
        except OSError:
            self._seen = self._pause = None
            return False
        if (seen := (stat.st_ino, stat.st_mtime_ns)) != self._seen:
            self._seen = seen
            try:
                self._pause = read_pause(self._paused)
            except Damaged:
                self._pause = Pause(0.0)
        return self._pause is not None
