"""What a program can be told of: updates and new versions of the model; and the thread that tells it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from fedn.aggregation.dtypes import Array

_log = logging.getLogger("fedn.sdk")
MOST = 1000
"""Events that wait for slow callbacks; of more, the oldest are dropped."""


@dataclass(frozen=True, slots=True)
class Update:
    """What has become of one client's training in a round.

    ``state`` is 'made' (trained, and about to be offered), then 'counted' (it is in the committed record) or
    'not_counted'; or 'refused' (made, but never to be taken), or 'failed' (there is none). ``reason`` is a
    sentence. ``examples`` and ``metrics`` are known of those that were made.
    """

    session: str
    round: int
    client: str
    state: str
    examples: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """A global model: committed in ``round`` of ``session`` (0: the seed), known by its sha256."""

    session: str
    round: int
    digest: str
    _read: Callable[[], dict[str, Array]] = field(repr=False, compare=False)

    def tensors(self) -> dict[str, Array]:
        """Its weights by name; bfloat16 as float32. Raises what reading or downloading them does."""
        return self._read()


OnUpdate = TypeVar("OnUpdate", bound=Callable[[Update], Any])
OnVersion = TypeVar("OnVersion", bound=Callable[[Version], Any])


class Callbacks:
    """Whom to tell. What a callback raises goes to the log, and keeps nobody else from being told."""

    def __init__(self) -> None:
        self._on_update: list[Callable[[Update], Any]] = []
        self._on_version: list[Callable[[Version], Any]] = []

    def on_update(self, function: OnUpdate) -> OnUpdate:
        self._on_update.append(function)
        return function

    def on_new_version(self, function: OnVersion) -> OnVersion:
        self._on_version.append(function)
        return function

    def wants(self, kind: type[Update | Version]) -> bool:
        """Whether anybody wants to hear of these."""
        return bool(self._on_update if kind is Update else self._on_version)

    def tell(self, event: Update | Version) -> None:
        """Call everybody who wants to hear of it, here and now."""
        wanted: list[Callable[[Any], Any]] = (
            [*self._on_update] if isinstance(event, Update) else [*self._on_version]
        )
        for function in wanted:
            try:
                function(event)
            except Exception:
                _log.exception("a callback of %s failed", type(event).__name__)


class Teller:
    """Tells in a thread of its own, in order, so that a slow callback holds up nobody.

    A slow one may miss things: versions that a newer one of the session has replaced, and updates of which
    more than `MOST` wait.
    """

    def __init__(self, callbacks: Callbacks) -> None:
        self._callbacks = callbacks
        self._waiting: dict[object, Update | Version] = {}
        self._numbers = count()
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="callbacks", daemon=True)
        self._thread.start()

    def tell(self, event: Update | Version) -> None:
        """Have it told soon. From any thread."""
        with self._changed:
            key = next(self._numbers) if isinstance(event, Update) else event.session
            self._waiting.pop(key, None)
            while len(self._waiting) >= MOST:
                self._waiting.pop(next(iter(self._waiting)))
            self._waiting[key] = event
            self._changed.notify()

    def close(self) -> None:
        """Tell what waits, then end. A callback may call this, too."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                event = self._waiting.pop(next(iter(self._waiting)))
            self._callbacks.tell(event)
