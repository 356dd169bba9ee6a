"""The way in: what the web server's threads ask of the reducer, and the only place where they cross.

Reads go straight to the stores. Commands go through a bounded inbox to the event loop that owns the
reducer, and wait there for their answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from threading import BoundedSemaphore
from typing import Any, TypeVar

from fedn.domain.errors import Busy, InvalidModel, NotFound, Unavailable
from fedn.domain.identity import Member, Role
from fedn.domain.ids import ClientId, CombinerName, Digest, SessionId, check_digest
from fedn.domain.messages import Assignment, Registration
from fedn.domain.plan import Plan
from fedn.ports import Buffer, ModelInfo, ModelStore, Observed, SessionInfo, StateStore
from fedn.reducer.events import EventHub
from fedn.reducer.federation import Reducer
from fedn.reducer.inquiries import Inquiry, Question
from fedn.reducer.inspecting import check_seed
from fedn.reducer.network import NetworkView
from fedn.stores.retention import told_if_pruned
from fedn.stores.trail import TrailReport, verify_trail

T = TypeVar("T")

ANSWER_SECONDS = 30.0
"""How long a command may take before its caller is told to try again."""


class ReducerService:
    """Thread-safe. Implements `fedn.reducer.front.Front`."""

    def __init__(
        self,
        reducer: Reducer,
        loop: asyncio.AbstractEventLoop,
        hub: EventHub,
        max_model_bytes: int,
        queue: int,
    ) -> None:
        self.state: StateStore = reducer.state
        self.models: ModelStore = reducer.models
        self.hub = hub
        self._reducer = reducer
        self._loop = loop
        self._max_model_bytes = max_model_bytes
        self._inbox = BoundedSemaphore(queue)
        self._asked: set[object] = set()
        self._commands = reducer.gauges.add("commands", queue, lambda: len(self._asked))
        self._streams = reducer.gauges.add("event_streams", hub.streams, lambda: hub.streams_open)

    def network(self) -> NetworkView:
        return replace(self._reducer.view, gauges=self._reducer.gauges.read())

    def ready(self) -> str:
        """'' once the reducer has its term; else why not."""
        if self._reducer.deposed.is_set():
            return "another reducer has taken over"
        return "" if self._reducer.view.term else "starting"

    def register(self, registration: Registration) -> None:
        self._command(self._reducer.register(registration))

    def drain(self, combiner: CombinerName) -> None:
        self._command(self._reducer.drain(combiner))

    def undrain(self, combiner: CombinerName) -> None:
        self._command(self._reducer.undrain(combiner))

    def put_out(self, member: Member) -> None:
        """A member was revoked; a combiner is dropped at once. Waits for nothing."""
        if member.role is Role.COMBINER:
            self._tell(self._reducer.put_out, CombinerName(member.member))

    def redial(self) -> None:
        """The reducer's certificate has changed. Waits for nothing."""
        self._tell(self._reducer.redial)

    def assign(self, client: ClientId, prefer: str, avoid: str) -> Assignment:
        return self._command(self._reducer.assign(client, prefer, avoid))

    def seed_model(self, chunks: Iterable[Buffer], name: str, size: int) -> ModelInfo:
        """Store a seed model after checking that it is a finite, well-formed safetensors file.

        Raises InvalidModel; then nothing is kept.
        """
        if size > self._max_model_bytes:
            raise InvalidModel("model", f"is {size} bytes; the limit is {self._max_model_bytes}",
                               "raise max_model_bytes of the reducer")  # fmt: skip
        incoming = _Incoming(chunks, self.models)
        digest, size = self.models.put(incoming)
        try:
            self._check_model(digest)
        except InvalidModel:
            if not incoming.known:
                self.models.delete(digest)
            raise
        info = ModelInfo(digest, size, name[:200] or f"seed {digest[:8]}", "seed", time.time())
        self.state.add_model(info)
        self.hub.observe(Observed("model_seeded", {"model": digest, "name": info.name, "size": size}))
        return info

    def _check_model(self, digest: Digest) -> None:
        with self.models.map(digest) as file:
            check_seed(file)

    def start_session(self, name: str, model: str, plan: Plan) -> SessionInfo:
        """Start a session on the model with this digest, or the newest seed model if it is ''."""
        digest = check_digest("model", model) if model else _newest_seed(self.state)
        with told_if_pruned(self.state, digest):
            size = self.models.size(digest)
        return self._command(self._reducer.start_session(name, digest, size, plan))

    def stop_session(self, session: SessionId) -> SessionInfo:
        self.state.session(session)
        return self._command(self._reducer.stop_session(session))

    def pause_session(self, session: SessionId) -> SessionInfo:
        self.state.session(session)
        return self._command(self._reducer.pause_session(session))

    def resume_session(self, session: SessionId) -> SessionInfo:
        self.state.session(session)
        return self._command(self._reducer.resume_session(session))

    def ask_clients(self, session: SessionId, question: Question) -> Inquiry:
        return self._command(self._reducer.ask_clients(session, question))

    def inquiries(self, session: SessionId) -> Sequence[Inquiry]:
        return self._command(self._read(lambda: self._reducer.inquiries.of(session)))

    def inquiry(self, session: SessionId, inquiry: str) -> Inquiry:
        return self._command(self._read(lambda: self._reducer.inquiries.one(session, inquiry)))

    @staticmethod
    async def _read(what: Callable[[], T]) -> T:
        """Something that only the event loop may look at."""
        return what()

    def round_progress(self, session: SessionId) -> Mapping[str, Any]:
        return self._reducer.progress(session)

    def unfit(self, session: SessionId) -> Mapping[ClientId, str] | None:
        return self._reducer.unfit(session)

    def verify_trail(self, session: SessionId) -> TrailReport:
        return verify_trail(self.state, self.models, session)

    def _tell(self, what: Callable[..., None], *about: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it whatever this is about
            self._loop.call_soon_threadsafe(what, *about)

    def _command(self, work: Coroutine[Any, Any, T]) -> T:
        if not self._inbox.acquire(blocking=False):
            work.close()
            raise Busy("the reducer's command queue is full (command_queue); try again")
        asked = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._asked.add(asked)
        self._commands.note(len(self._asked))
        try:
            return asked.result(ANSWER_SECONDS)
        except FutureTimeout:
            asked.cancel()
            raise Unavailable(f"no answer within {ANSWER_SECONDS:g} s; try again") from None
        finally:
            self._asked.discard(asked)
            self._inbox.release()


def _newest_seed(state: StateStore) -> Digest:
    """The seed model that was added last. Raises NotFound."""
    seeds = [info for info in state.models() if info.origin == "seed"]
    if not seeds:
        raise NotFound("there is no seed model yet; add one with `fedn model seed FILE`")
    return seeds[0].digest


class _Incoming:
    """A model's chunks. ``known``, once all have come: whether the store had that model before."""

    def __init__(self, chunks: Iterable[Buffer], models: ModelStore) -> None:
        self.known = False
        self._chunks = chunks
        self._models = models

    def __iter__(self) -> Iterator[Buffer]:
        seen = sha256()
        for chunk in self._chunks:
            seen.update(chunk)
            yield chunk
        with suppress(NotFound):
            self._models.size(Digest(seen.hexdigest()))
            self.known = True
