"""The bytes of granted updates: whoever sends them hears whether they can still count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fedn.aggregation.mean import Mean
from fedn.combiner.limits import Limits
from fedn.combiner.members import ANYBODY
from fedn.combiner.runs import RoundRun
from fedn.combiner.staging import PartSum, Upload
from fedn.combiner.uploads import Uploads
from fedn.domain.errors import NotFound
from fedn.domain.gauges import Gauges
from fedn.domain.identity import Principal
from fedn.domain.ids import ClientId, SessionId, digest_of
from fedn.domain.model import Layout
from fedn.domain.update import UpdateHeader

ANN = ClientId("ann")
BYTES = bytes(100)
ANY = digest_of(b"any")
HEADER = UpdateHeader(SessionId("s"), 1, ANN, ANY, 1, len(BYTES), digest_of(BYTES), ANY)


class Desk:
    """Uploads into one part; ``complete`` remembers what came to its end."""

    def __init__(self, directory: Path) -> None:
        self.uploads = Uploads(directory, Limits(), Gauges(), lambda client, size: None)
        self.run = RoundRun(PartSum(Layout((), 0), Mean()), lambda: None)
        self.complete: list[Upload] = []

    def grant(self) -> str:
        return self.uploads.grant(self.run, HEADER).grant

    def drop(self) -> None:
        self.uploads.drop(self.run, ANN)

    async def send(
        self, grant: str, *chunks: bytes, then_drop: bool = False, who: Principal = ANYBODY
    ) -> None:
        """Submit these chunks; the part closes, if it does, once the last of them was taken."""

        async def stream() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk
            if then_drop:
                self.drop()

        await self.uploads.receive(grant, 0, stream(), self._completed, who)

    async def _completed(self, run: RoundRun, upload: Upload) -> None:
        self.complete.append(upload)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.drop()


async def test_all_bytes_are_here(desk: Desk) -> None:
    await desk.send(desk.grant(), BYTES[:60], BYTES[60:])
    assert [upload.header for upload in desk.complete] == [HEADER]


async def test_whose_part_closes_between_two_chunks_is_to_offer_again(desk: Desk) -> None:
    grant = desk.grant()
    desk.drop()
    with pytest.raises(NotFound, match="offer the update again"):
        await desk.send(grant, BYTES)


async def test_whose_part_closes_behind_the_last_chunk_is_to_offer_again(desk: Desk) -> None:
    with pytest.raises(NotFound, match="offer the update again"):
        await desk.send(desk.grant(), BYTES, then_drop=True)
    assert desk.complete == []


async def test_what_came_of_a_stream_that_ends_too_early_is_kept(desk: Desk) -> None:
    grant = desk.grant()
    await desk.send(grant, BYTES[:60])
    assert desk.complete == []
    assert desk.grant() == grant
    assert desk.run.sum.uploads[ANN].offset == 60


async def test_an_upload_that_is_dropped_while_it_is_used_gives_its_room_back_afterwards(desk: Desk) -> None:
    desk.grant()
    upload = desk.run.sum.uploads[ANN]
    async with upload.lock:
        upload.write(BYTES)
        desk.drop()
        await asyncio.sleep(0)
        with upload.spool.map() as file:
            assert bytes(file) == BYTES
