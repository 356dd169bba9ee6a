"""What comes in for one round: updates that are told of, and parts on their way into the sum.

`driver.py` begins an `Intake` with each round and drops it with the round: what comes late is never taken
for the next round's. Parts come from a `Peer`; the mean goes to the `Committer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from fedn.aggregation.mean import PartMerger
from fedn.domain.errors import Damaged
from fedn.domain.ids import ClientId, CombinerName, SessionId
from fedn.domain.messages import FetchRequest, UpdateReceived
from fedn.domain.part import PartHeader
from fedn.domain.round import MergedPart
from fedn.domain.update import finite_metrics
from fedn.ports import CombinerLink, MetricRow, Vector
from fedn.reducer.books import Hindrances
from fedn.reducer.legs import PartKey
from fedn.reducer.merging import Part, check_part
from fedn.reducer.metrics import TIMING
from fedn.reducer.peers import Peer
from fedn.reducer.timing import RoundTimes, sound_laps

PARTS_IN_FLIGHT = 2
"""Large parts that are fetched at once; each takes eight bytes of memory per averaged element."""


class Intake:
    """One round's. ``followers`` are the tasks that follow its parts, ``metrics`` those of training,
    ``timing`` and ``times`` where its clients' time went, and where its own goes.
    """

    def __init__(
        self,
        session: SessionId,
        number: int,
        merger: PartMerger,
        hindrances: Hindrances,
        times: RoundTimes,
    ) -> None:
        self.number = number
        self.times = times
        self.metrics: list[MetricRow] = []
        self.timing: list[MetricRow] = []
        self.received: set[ClientId] = set()
        self.followers: dict[PartKey, asyncio.Task[None]] = {}
        self._session = session
        self._merger = merger
        self._hindrances = hindrances
        self._opened: dict[PartKey, asyncio.Event] = {}
        self._fetching = asyncio.Semaphore(PARTS_IN_FLIGHT)
        self._fetched: dict[PartKey, tuple[Vector, int]] = {}
        self._adding = asyncio.Lock()
        self._added: set[PartKey] = set()
        self._empty: set[PartKey] = set()
        self._fault: Exception | None = None

    def receive(self, update: UpdateReceived) -> bool:
        """Whether this update is new: a stream that is called again repeats all that it said."""
        client, examples = update.client, update.examples
        if client in self.received:
            return False
        self.received.add(client)
        if clean := finite_metrics(update.metrics):
            self.metrics.append(MetricRow(self._session, self.number, "train", client, examples, clean))
        if laps := sound_laps(update.seconds):
            self.timing.append(MetricRow(self._session, self.number, TIMING, client, examples, laps))
        return True

    # --- following -----------------------------------------------------------------------------------

    @contextmanager
    def following(self, key: PartKey) -> Iterator[asyncio.Event]:
        """While a part is followed; the event says that it is open, or that this try was in vain.

        Its combiner hinders nobody any more when none of its parts is followed.
        """
        opened = self._opened[key] = asyncio.Event()
        try:
            yield opened
        finally:
            opened.set()
            del self._opened[key]
            self.followers.pop(key, None)
            self.clear(key.combiner)

    def clear(self, combiner: CombinerName) -> None:
        """Forget why a combiner hinders, unless one of its parts is still awaited."""
        if not any(key.combiner == combiner for key in self.followers):
            self._hindrances.note(combiner, "")

    async def opened_at(self, combiner: CombinerName) -> None:
        """Wait for the parts asked of a combiner: what is said of one must not overtake it."""
        for key, opened in list(self._opened.items()):
            if key.combiner == combiner:
                await opened.wait()

    # --- parts ---------------------------------------------------------------------------------------

    def seal(self, key: PartKey, header: PartHeader, inline: bytes) -> None:
        """Take a part's header, and the bytes that rode along. Raises Damaged."""
        check_part(header, inline, self._session, self.number, key, self._merger.elements)
        if not header.contributors:
            self._empty.add(key)
        if inline:
            part = Part(header)
            part.write(inline)
            self._fetched[key] = part.vector(), header.weight

    async def fetch(self, peer: Peer, key: PartKey, header: PartHeader) -> bool:
        """Have a part's bytes here, resuming after a broken link; False if its process was lost meanwhile.

        Raises NotFound, Damaged.
        """
        if not header.size or key in self._fetched:
            return True
        part = Part(header)

        async def receive(link: CombinerLink) -> bool:
            chunks = link.fetch_part(FetchRequest(header.digest, part.offset))
            await part.receive(self._hindrances.noted(key.combiner, chunks))
            return True

        async with self._fetching:
            if not await peer.call(key.incarnation, receive):
                return False
        self._fetched[key] = part.vector(), header.weight
        return True

    async def add(self, key: PartKey) -> None:
        """Add a part to the sum in a worker thread, after all that were to be added before it."""
        async with self._adding:
            try:
                if key in self._fetched:
                    vector, weight = self._fetched.pop(key)
                    await asyncio.to_thread(self._merger.merge, key.combiner, vector, weight)
            except Exception as error:
                self._fault = error
                raise
            self._added.add(key)

    async def mean(self, parts: Iterable[MergedPart]) -> Vector:
        """The mean of all that was added, which uses it up.

        Raises what kept a part from being added, and Damaged unless exactly ``parts`` were. One that is empty
        may have been given up since.
        """
        async with self._adding:
            if self._fault:
                raise self._fault
            recorded = {PartKey(part.combiner, part.incarnation, part.part) for part in parts}
            if self._added - self._empty != recorded - self._empty:
                raise Damaged("the sum does not hold the parts that are to be recorded")
            return await asyncio.to_thread(self._merger.report)
