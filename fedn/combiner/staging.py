"""The data lane of one part: bytes are staged, checked, and only then added to the sum.

Blocking and ignorant of clients and rounds; `driver.py` calls it, off the event loop where it is
slow. The sum is the only memory that grows with the model (one float64 per averaged element); what
is staged lies in unlinked temporary files.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from fedn.aggregation.blocks import check_finite
from fedn.aggregation.faults import blamed
from fedn.aggregation.mean import AGGREGATOR, empty_sum
from fedn.domain.errors import InvalidModel, RefusalCode, Refused, StoreUnavailable
from fedn.domain.ids import ClientId, Digest, digest_of
from fedn.domain.model import INLINE_BYTES, Layout, layout_of
from fedn.domain.update import UpdateHeader
from fedn.ports import Aggregator, Buffer, Vector
from fedn.wire.spool import Spool

log = logging.getLogger("fedn.combiner")


class Upload:
    """One granted update on its way in. Takes room only from its first byte on.

    Whoever writes or reads its bytes holds ``lock``.
    """

    def __init__(self, grant: str, header: UpdateHeader, directory: Path) -> None:
        self.grant = grant
        self.header = header
        self.lock = asyncio.Lock()
        self._directory = directory
        self._spool: Spool | None = None
        self._hindered = False

    @property
    def offset(self) -> int:
        """How many bytes are staged."""
        return self._spool.offset if self._spool else 0

    @property
    def spool(self) -> Spool:
        """Where the bytes are."""
        if self._spool is None:
            self._spool = Spool(self._directory, self.header.size)
        return self._spool

    def write(self, chunk: Buffer) -> None:
        """Stage the next bytes. Raises StoreUnavailable if the disk is full; what is staged stays."""
        try:
            self.spool.write(chunk)
        except StoreUnavailable as error:
            if not self._hindered:
                log.warning(
                    "an update waits for room: %s", error.message, extra={"client": self.header.client}
                )
            self._hindered = True
            raise

    def close(self) -> None:
        if self._spool:
            self._spool.close()

    @property
    def small(self) -> bool:
        """Handing so little to another thread would cost more than the work."""
        return self.header.size <= INLINE_BYTES


class PartSum:
    """Σ examples·x of one part, and the uploads that may still join it."""

    def __init__(self, layout: Layout, aggregator: Aggregator) -> None:
        self.layout = layout
        self.uploads: dict[ClientId, Upload] = {}
        self._aggregator = aggregator
        self._total: Vector | None = None

    def verify(self, upload: Upload) -> Refused | None:
        """Check digest, layout and finiteness of a complete upload. Changes nothing."""
        if upload.spool.digest() != upload.header.digest:
            return Refused(RefusalCode.DIGEST_MISMATCH, "the bytes that arrived are not the ones offered")
        with upload.spool.map() as file:
            try:
                layout = layout_of(file)
            except InvalidModel as error:
                return Refused(RefusalCode.WRONG_LAYOUT, error.message)
            if problem := self.layout.difference(layout):
                return Refused(RefusalCode.WRONG_LAYOUT, problem)
            if name := check_finite(file[layout.data_start :], layout):
                return Refused(RefusalCode.NOT_FINITE, f"tensor {name!r} holds NaN or infinity")
        return None

    def fold(self, upload: Upload) -> None:
        """Add a verified upload. Not safe to call twice at once."""
        if self._total is None:
            self._total = empty_sum(self._aggregator, self.layout)
        with upload.spool.map() as file, blamed(AGGREGATOR, self._aggregator):
            start = len(file) - self.layout.data_bytes
            self._aggregator.accumulate(self._total, file[start:], self.layout, upload.header.examples)

    def bytes(self) -> memoryview:
        """The sum as the bytes of a part; empty when nothing was folded."""
        return memoryview(b"") if self._total is None else self._total.data.cast("B")

    def hash(self) -> tuple[Digest, int]:
        """(digest, size) of the part's bytes."""
        data = self.bytes()
        return digest_of(data), len(data)

    def close(self) -> None:
        self._total = None
