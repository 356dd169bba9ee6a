"""Models fetched by digest and kept for a while, at a combiner or a client.

One download serves everybody who asks meanwhile; a broken one goes on where it stopped, also when its
next bytes come from somebody else. Small models stay in memory, the others in a file-backed store.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from fedn.domain.errors import Busy, Damaged, LinkBroken, Unavailable
from fedn.domain.ids import Digest
from fedn.domain.messages import FetchRequest
from fedn.domain.model import INLINE_BYTES
from fedn.ports import Buffer, ModelStore
from fedn.stores.files import FileModels
from fedn.stores.memory import MemoryModels

Fetch = Callable[[FetchRequest], AsyncIterator[Buffer]]

PARTIAL = 2
"""Broken downloads whose bytes are kept."""
_TRIES = 6


class Incoming(Protocol):
    """A blob on its way in; see `fedn.stores.files.FileIncoming`."""

    @property
    def offset(self) -> int: ...

    def write(self, chunk: Buffer) -> None: ...

    def publish(self, expected: Digest) -> object: ...

    def drop(self) -> None: ...


class CacheStore(ModelStore, Protocol):
    """A model store whose blobs may come in several goes."""

    def incoming(self) -> Incoming: ...


class ModelCache:
    """The ``keep`` most recently used models of each size class, and those in use however many."""

    def __init__(self, large: CacheStore, keep: int, in_memory: int = INLINE_BYTES) -> None:
        """Models of at most ``in_memory`` bytes do not go to the ``large`` store."""
        self._stores: dict[bool, CacheStore] = {True: MemoryModels(), False: large}
        self._in_memory = in_memory
        self._keep = keep
        for leftover in list(large.digests()):
            large.delete(leftover)  # not durable, so not to be trusted after a crash
        self._recent: dict[Digest, bool] = {}
        self._downloads: dict[Digest, asyncio.Task[None]] = {}
        self._partial: dict[Digest, Incoming] = {}
        self._pins: Counter[Digest] = Counter()

    @asynccontextmanager
    async def using(
        self, digest: Digest, size: int, fetch: Fetch, inline: bytes = b""
    ) -> AsyncIterator[None]:
        """Have the model here, and keep it here inside the block. Raises what `ensure` does.

        A model that came along ``inline`` is checked and taken instead of fetched.
        """
        self.pin(digest)
        try:
            if inline and digest not in self._recent:
                self._stores[True].put([inline], digest)
                self._noted(digest, small=True)
            await self.ensure(digest, size, fetch)
            yield
        finally:
            self.unpin(digest)

    def pin(self, digest: Digest) -> None:
        """Keep this model, from now or from when it comes, until as many calls of `unpin`."""
        self._pins[digest] += 1

    def unpin(self, digest: Digest) -> None:
        self._pins[digest] -= 1
        if self._pins[digest] <= 0:
            del self._pins[digest]

    async def ensure(self, digest: Digest, size: int, fetch: Fetch) -> None:
        """Have the model here. Raises LinkBroken, NotFound, Damaged, StoreUnavailable (no room).

        What came of it is kept for the next call, which goes on from there with its own ``fetch``.
        """
        if digest in self._recent:
            self._recent[digest] = self._recent.pop(digest)
            return
        task = self._downloads.get(digest)
        if task is None:
            task = asyncio.create_task(self._download(digest, size, fetch))
            self._downloads[digest] = task
            task.add_done_callback(lambda _: self._downloads.pop(digest, None))
        await asyncio.shield(task)

    def read(self, digest: Digest, offset: int) -> Iterator[Buffer]:
        """Raises NotFound when the model is not here (any more)."""
        return self._store(digest).read(digest, offset)

    def map(self, digest: Digest) -> AbstractContextManager[memoryview]:
        return self._store(digest).map(digest)

    def _store(self, digest: Digest) -> ModelStore:
        return self._stores[self._recent.get(digest, True)]

    async def _download(self, digest: Digest, size: int, fetch: Fetch) -> None:
        small = size <= self._in_memory
        incoming = self._partial.pop(digest, None) or self._stores[small].incoming()
        try:
            async with aclosing(resumed(fetch, digest, incoming.offset, size)) as chunks:
                async for chunk in chunks:
                    await _off_loop(size, partial(incoming.write, chunk))
            await _off_loop(size, partial(incoming.publish, digest))
        except Unavailable:
            self._put_aside(digest, incoming)
            raise
        except BaseException:
            incoming.drop()
            raise
        self._noted(digest, small)

    def _put_aside(self, digest: Digest, incoming: Incoming) -> None:
        self._partial[digest] = incoming
        while len(self._partial) > PARTIAL:
            self._partial.pop(next(iter(self._partial))).drop()

    def _noted(self, digest: Digest, small: bool) -> None:
        """It is here; the least recently used of its size class that nobody uses goes."""
        self._recent[digest] = small
        kept = [known for known, is_small in self._recent.items() if is_small is small]
        free = [known for known in kept if known not in self._pins]
        for old in free[: max(0, len(kept) - self._keep)]:
            del self._recent[old]
            self._stores[small].delete(old)

    async def close(self) -> None:
        for task in self._downloads.values():
            task.cancel()
        await asyncio.gather(*self._downloads.values(), return_exceptions=True)
        for incoming in self._partial.values():
            incoming.drop()


def file_cache(directory: Path, keep: int, in_memory: int = INLINE_BYTES) -> ModelCache:
    """A cache whose large models are files in ``directory``, which it alone uses."""
    return ModelCache(FileModels(directory, durable=False), keep, in_memory)


async def resumed(fetch: Fetch, digest: Digest, offset: int, size: int) -> AsyncGenerator[Buffer, None]:
    """The blob's bytes from ``offset`` on, from as many calls as it takes.

    Raises LinkBroken after six tries without a byte, Damaged if there are not exactly ``size`` bytes.
    """
    tries = 0
    while offset < size:
        try:
            async for chunk in fetch(FetchRequest(digest, offset)):
                offset, tries = offset + len(chunk), 0
                if offset > size:
                    break
                yield chunk
            if offset != size:
                raise Damaged(f"model {digest[:12]} has not the {size} bytes announced")
        except (LinkBroken, Busy) as error:
            tries += 1
            if tries == _TRIES:
                raise LinkBroken(error.message) from None
            await asyncio.sleep(random.uniform(0.5, 1) * 0.05 * 2**tries)


async def _off_loop(size: int, work: Callable[[], object]) -> None:
    """Work on a model of this size, in a thread if it is large; a cancelled caller waits for its thread."""
    if size <= INLINE_BYTES:
        work()
        return
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
