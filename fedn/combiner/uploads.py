"""Uploads on their way into parts: grants, the bounded number in flight, staging without overlap.

`driver.py` asks for grants and is told when all bytes of one are here; `staging.py` holds them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from fedn.combiner.admission import Places
from fedn.combiner.limits import Limits
from fedn.combiner.members import check_is
from fedn.combiner.runs import RoundRun
from fedn.combiner.staging import Upload
from fedn.domain.errors import Conflict, LinkBroken, NotFound
from fedn.domain.gauges import Gauges
from fedn.domain.identity import Principal
from fedn.domain.ids import ClientId
from fedn.domain.update import UpdateHeader
from fedn.ports import Buffer

T = TypeVar("T")
Complete = Callable[[RoundRun, Upload], Awaitable[None]]


class Uploads:
    """Every granted upload, by its grant. A place is held only while bytes come in."""

    def __init__(
        self, directory: Path, limits: Limits, gauges: Gauges, heard: Callable[[ClientId, int], None]
    ) -> None:
        """``heard`` is told whose bytes have come, and how many."""
        self._directory = directory
        self._idle = limits.upload_idle
        self._places = Places(gauges, "uploads", limits.uploads_in_flight, limits.uploads_waiting,
                              limits.uploads_in_flight // 2, limits.calls_each)  # fmt: skip
        self._heard = heard
        self._granted: dict[str, tuple[RoundRun, Upload]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def grant(self, run: RoundRun, header: UpdateHeader) -> Upload:
        """The upload of this update; the same one until it is dropped."""
        upload = run.sum.uploads.get(header.client)
        if upload is None:
            upload = Upload(secrets.token_hex(8), header, self._directory)
            run.sum.uploads[header.client] = upload
            self._granted[upload.grant] = (run, upload)
        return upload

    def drop(self, run: RoundRun, client: ClientId) -> None:
        """Forget an upload. Its bytes are given back once nobody writes or reads them any more."""
        upload = run.sum.uploads.pop(client, None)
        if upload is None:
            return
        self._granted.pop(upload.grant, None)
        if not upload.lock.locked():
            upload.close()
            return
        task = asyncio.create_task(_closed(upload))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def current(self, run: RoundRun, upload: Upload) -> bool:
        """Whether this upload may still count: it was not dropped, nor granted anew."""
        return run.sum.uploads.get(upload.header.client) is upload

    def check(self, run: RoundRun, upload: Upload) -> None:
        """Raises NotFound when this upload can't count any more."""
        if not self.current(run, upload):
            raise NotFound("the grant is over; offer the update again")

    async def receive(
        self, grant: str, offset: int, chunks: AsyncIterator[Buffer], complete: Complete, who: Principal
    ) -> None:
        """Take bytes from ``offset`` on; ``complete`` is called, still in its place, when all are here.

        Raises:
            NotFound: the grant is not (or no more) valid; offer again.
            Forbidden: the grant is another client's.
            Conflict: another stream is sending it, or the offset is not where the staged bytes end.
            LinkBroken: no byte came for too long.
            Busy: too many uploads wait already.
        """
        if grant not in self._granted:
            raise NotFound("no such grant; offer the update again")
        run, upload = self._granted[grant]
        check_is(who, upload.header.client)
        if upload.lock.locked():
            raise Conflict("another stream is sending this update; offer again")
        async with upload.lock, self._places.taken(upload.header.client):
            run.watch.let_in(upload.header.client)
            if offset != upload.offset:
                raise Conflict(f"{upload.offset} bytes are staged, not {offset}; offer again")
            while chunk := await self._next(chunks):
                self._heard(upload.header.client, len(chunk))
                self.check(run, upload)
                await off_loop(upload, partial(upload.write, chunk))
            self.check(run, upload)
            if upload.offset == upload.header.size:
                await complete(run, upload)

    async def _next(self, chunks: AsyncIterator[Buffer]) -> Buffer:
        """The next bytes; empty at the end. Empty chunks do not count as progress."""
        try:
            async with asyncio.timeout(self._idle):
                async for chunk in chunks:
                    if len(chunk):
                        return chunk
        except TimeoutError:
            raise LinkBroken(f"nothing arrived for {self._idle:g} s") from None
        return b""


async def _closed(upload: Upload) -> None:
    async with upload.lock:
        upload.close()


async def off_loop(upload: Upload, work: Callable[[], T]) -> T:
    """Run blocking work: here if it is tiny, else in a worker thread.

    A cancelled call waits for its thread, which would otherwise go on writing beside the next one.
    """
    if upload.small:
        return work()
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
