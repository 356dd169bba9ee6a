"""What comes in for open parts: an update's bytes are taken, checked and folded, and sums are hashed.

`driver.py` says when; what comes of it is an event for the part's machine. The bytes are in `staging.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fedn.combiner import events as ev
from fedn.combiner.counts import UpdateCounts
from fedn.combiner.runs import RoundRun
from fedn.combiner.staging import Upload
from fedn.combiner.uploads import Uploads, off_loop
from fedn.domain.model import INLINE_BYTES
from fedn.domain.update import UpdateHeader


class Intake:
    """Slow work goes to worker threads; a fault in it may have left half of something in a sum."""

    def __init__(
        self, uploads: Uploads, counts: UpdateCounts, decide: Callable[[RoundRun, ev.Event], object]
    ) -> None:
        self._uploads = uploads
        self._counts = counts
        self._decide = decide

    async def take(self, run: RoundRun, upload: Upload, inline: bytes) -> None:
        """The bytes of a small update, which came along with its offer."""
        async with upload.lock:
            if upload.offset == 0 and self._uploads.current(run, upload):
                run.watch.let_in(upload.header.client)
                upload.write(inline)
                await self.judge(run, upload)

    async def judge(self, run: RoundRun, upload: Upload) -> None:
        """All bytes are here: check them, and let the machine decide. The caller holds the lock.

        Raises NotFound when the upload was dropped while it was checked.
        """
        header = upload.header
        refused = await off_loop(upload, lambda: run.sum.verify(upload))
        self._uploads.check(run, upload)
        self._counts.received += 1
        if refused:
            self._decide(run, ev.UpdateRejected(header.client, header.digest, refused))
        else:
            self._decide(run, ev.UpdateVerified(header.client, header.digest))

    async def fold(self, run: RoundRun, header: UpdateHeader) -> None:
        """Add an update that was checked to the part's sum."""
        upload = run.sum.uploads.get(header.client)
        if upload is None:
            return  # the round was dropped meanwhile
        async with upload.lock, run.folding:
            await off_loop(upload, lambda: run.sum.fold(upload))
        self._uploads.drop(run, header.client)
        self._counts.folded += 1
        run.receive(header)
        self._decide(run, ev.UpdateFolded(header.client, header.digest))

    async def hash(self, run: RoundRun) -> None:
        """Name a sum that nothing is added to any more."""
        small = len(run.sum.bytes()) <= INLINE_BYTES
        digest, size = run.sum.hash() if small else await asyncio.to_thread(run.sum.hash)
        self._decide(run, ev.SumHashed(digest, size))
