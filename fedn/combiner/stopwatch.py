"""Where a part's time goes, client by client, by the combiner's own clock.

The machine knows no clock: `driver.py` and `uploads.py` say here when something happens. What comes of it is
told to the reducer with every folded update, and while the part is open as stages. No decision hangs on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedn.combiner.ledger import Entry, Standing
from fedn.domain.ids import ClientId
from fedn.domain.messages import ClientStage
from fedn.domain.update import TRAIN_SECONDS, UpdateHeader

_STAGES = {
    Standing.GRANTED: "uploading",
    Standing.FOLDING: "uploading",
    Standing.FOLDED: "folded",
    Standing.REFUSED: "refused",
    Standing.FAILED: "failed",
    Standing.LOST: "lost",
}


@dataclass(slots=True)
class _Marks:
    """When things happened to one client; None for what has not, or is not known."""

    listed: float
    asked: float | None = None
    offered: float | None = None
    let_in: float | None = None
    trained_here: bool = True


class Stopwatch:
    """One part's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: dict[ClientId, _Marks] = {}
        self._told: dict[ClientId, tuple[str, float]] = {}

    # --- what happens --------------------------------------------------------------------------------

    def listed(self, client: ClientId, trained: bool = False) -> None:
        """It may take part from now on; ``trained``: it has offered an update of this round before."""
        if trained or client not in self._marks:
            self._marks[client] = _Marks(self._clock(), trained_here=not trained)

    def asked(self, client: ClientId) -> None:
        """Its task is sent. A second time, after a broken link, changes nothing: it may be at work."""
        marks = self._of(client)
        if marks.asked is None:
            marks.asked = self._clock()

    def failed(self, client: ClientId) -> None:
        """Its training came to nothing; the next one is another."""
        if (marks := self._marks.get(client)) and marks.offered is None:
            del self._marks[client]

    def offered(self, header: UpdateHeader) -> None:
        """It offers. What took longer, by its own clock, than since its task was sent was begun before."""
        marks = self._marks.get(header.client)
        if marks is None or marks.offered is not None:
            return
        marks.offered = now = self._clock()
        if marks.asked is None or header.metrics.get(TRAIN_SECONDS, 0.0) > now - marks.asked:
            marks.trained_here = False

    def let_in(self, client: ClientId) -> None:
        """There is a place for its bytes."""
        marks = self._of(client)
        if marks.let_in is None:
            marks.let_in = self._clock()

    def folded(self, client: ClientId) -> Mapping[str, float]:
        """Its seconds by `fedn.domain.messages.LAPS`, as far as they are known. They tell its stage, too."""
        marks, now = self._of(client), self._clock()
        self._told[client] = "folded", now
        ends = {
            "waiting": (marks.listed, marks.asked),
            "training": (marks.asked if marks.trained_here else None, marks.offered),
            "queued": (marks.offered, marks.let_in),
            "uploading": (marks.let_in, now),
        }
        return {
            lap: end - begin for lap, (begin, end) in ends.items() if begin is not None and end is not None
        }

    # --- stages --------------------------------------------------------------------------------------

    def changes(self, entries: Mapping[ClientId, Entry]) -> tuple[ClientStage, ...]:
        """The clients that stand elsewhere than when this was last asked."""
        changed = []
        for client, entry in entries.items():
            stage = self._stage(client, entry)
            if stage and self._told.get(client, ("", 0.0))[0] != stage:
                self._told[client] = stage, self._since(client, stage)
                changed.append(client)
        return self._stages(changed)

    def told(self) -> tuple[ClientStage, ...]:
        """All that `changes` has ever said, as it is by now."""
        return self._stages(list(self._told))

    def _stages(self, clients: list[ClientId]) -> tuple[ClientStage, ...]:
        now = self._clock()
        told = ((client, *self._told[client]) for client in clients)
        return tuple(ClientStage(client, stage, now - since) for client, stage, since in told)

    def _stage(self, client: ClientId, entry: Entry) -> str:
        """'' of a client that has moved to another combiner."""
        if entry.standing is Standing.WAITING:
            here = entry.away_since is None and self._of(client).asked is not None
            return "training" if here else "waiting"
        return _STAGES.get(entry.standing, "")

    def _since(self, client: ClientId, stage: str) -> float:
        """When a stage began; of those without a mark now, which is a moment late."""
        marks = self._of(client)
        begun = {"training": marks.asked, "uploading": marks.offered}.get(stage)
        return self._clock() if begun is None else begun

    def _of(self, client: ClientId) -> _Marks:
        if client not in self._marks:
            self._marks[client] = _Marks(self._clock())
        return self._marks[client]
