"""Models fetched by digest and kept for a while, at a combiner or a client.

One download serves everybody who asks meanwhile; a broken one goes on where it stopped. Small models
stay in memory, the others in a file-backed store.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

from fedn.domain.errors import LinkBroken
from fedn.domain.ids import Digest
from fedn.domain.messages import FetchRequest
from fedn.domain.model import INLINE_BYTES
from fedn.ports import Buffer, ModelStore
from fedn.stores.files import FileModels
from fedn.stores.memory import MemoryModels

Fetch = Callable[[FetchRequest], AsyncIterator[Buffer]]

_TRIES = 6


class ModelCache:
    """The ``keep`` most recently used models of each size class, and those in use however many."""

    def __init__(self, large: ModelStore, keep: int, in_memory: int = INLINE_BYTES) -> None:
        """Models of at most ``in_memory`` bytes do not go to the ``large`` store."""
        self._stores = {True: MemoryModels(), False: large}
        self._in_memory = in_memory
        self._keep = keep
        for leftover in list(large.digests()):
            large.delete(leftover)  # not durable, so not to be trusted after a crash
        self._recent: dict[Digest, bool] = {}
        self._downloads: dict[Digest, asyncio.Task[None]] = {}
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
        """Have the model here. Raises LinkBroken, NotFound, Damaged."""
        if digest in self._recent:
            self._recent[digest] = self._recent.pop(digest)
            return
        task = self._downloads.get(digest)
        if task is None:
            task = asyncio.create_task(self._download(digest, size <= self._in_memory, fetch))
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

    async def _download(self, digest: Digest, small: bool, fetch: Fetch) -> None:
        store, chunks = self._stores[small], resumed(fetch, digest)
        if small:
            store.put([bytes(chunk) async for chunk in chunks], digest)
        else:
            await _put_stream(store, chunks, digest)
        self._noted(digest, small)

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


def file_cache(directory: Path, keep: int, in_memory: int = INLINE_BYTES) -> ModelCache:
    """A cache whose large models are files in ``directory``, which it alone uses."""
    return ModelCache(FileModels(directory, durable=False), keep, in_memory)


async def resumed(fetch: Fetch, digest: Digest) -> AsyncIterator[Buffer]:
    """The whole blob, from as many calls as it takes; gives up after six without a byte between them."""
    offset, tries = 0, 0
    while True:
        try:
            async for chunk in fetch(FetchRequest(digest, offset)):
                offset, tries = offset + len(chunk), 0
                yield chunk
            return
        except LinkBroken:
            tries += 1
            if tries == _TRIES:
                raise
            await asyncio.sleep(random.uniform(0.5, 1) * 0.05 * 2**tries)


async def _put_stream(store: ModelStore, chunks: AsyncIterator[Buffer], digest: Digest) -> None:
    """Let the store's blocking put() pull an async stream, chunk by chunk, from its own thread."""
    loop = asyncio.get_running_loop()

    async def following() -> Buffer | None:
        return await anext(chunks, None)

    def pull() -> Iterator[Buffer]:
        while (chunk := asyncio.run_coroutine_threadsafe(following(), loop).result()) is not None:
            yield chunk

    await asyncio.to_thread(store.put, pull(), digest)
