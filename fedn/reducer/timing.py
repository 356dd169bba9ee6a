"""Where a round's time goes: its phases by the reducer's own clock, and where each of its clients stands.

`driver.py` says here when something happens, and what combiners have noted; people are told. No decision
hangs on it. How long each client took its combiner has measured (`fedn.combiner.stopwatch`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from fedn.domain.ids import ClientId, CombinerName, SessionId
from fedn.domain.messages import LAPS, STAGES, ClientStage
from fedn.domain.part import PartHeader
from fedn.domain.update import Absence, Contributor
from fedn.ports import EventRow, StateStore
from fedn.reducer.legs import Round

CLIENTS, REDUCING, COMMITTING, VALIDATING = "clients", "reducing", "committing", "validating"
"""A round's phases: opened until all parts are sealed; until they are fetched and merged; until model and
record are stored. Those add up. The fourth runs beside the next round: until the model is validated.
"""
COMMITTED, VALIDATED = "round_committed", "round_validated"
"""The events that tell of them, each in its field ``seconds``."""
TELL_SECONDS = 0.5
"""Clients' changes of stage within this time are told as one event."""
MOST_TOLD = 200
"""Clients in one event; of more it says only that there are more, and all are to be asked for."""
AT_WORK = frozenset({"waiting", "training", "uploading"})
STRAGGLING, STRAGGLING_LEAST = 3.0, 5.0
"""A round straggles after so many times the median of updates that are in; never within so many seconds."""
STRAGGLERS_SHOWN = 20


def sound_laps(seconds: Mapping[str, float]) -> dict[str, float]:
    """Of a client's seconds those with a known name and a sound value: believe no combiner."""
    return {lap: seconds[lap] for lap in LAPS if 0 <= seconds.get(lap, -1) < math.inf}


class Stand(NamedTuple):
    """Where a client stands, as its combiner last said; ``since`` is Unix time."""

    combiner: CombinerName
    state: str
    since: float


class RoundTimes:
    """One round's. Its clients' stages are told as events ``client_progress``."""

    def __init__(self, number: int, tell: Callable[..., None]) -> None:
        self.number = number
        self.adopted = False
        """Begun in an earlier life of the reducer: nobody knows when."""
        self._tell = tell
        self._opened_at = time.time()
        self._lap_began: float | None = None
        self._seconds: dict[str, float] = {}
        self._stands: dict[ClientId, Stand] = {}
        self._moved: set[ClientId] = set()
        self._telling: asyncio.TimerHandle | None = None
        self._closed = False

    # --- phases --------------------------------------------------------------------------------------

    def opened(self, combiner: CombinerName, clients: Iterable[ClientId]) -> None:
        """A part is asked for; with the first one the round begins."""
        if self._lap_began is None:
            self._lap_began, self._opened_at = time.monotonic(), time.time()
        for client in clients:
            self._note(client, Stand(combiner, "waiting", time.time()))

    def lap(self, phase: str) -> None:
        """What has passed since the last lap was of this phase."""
        now = time.monotonic()
        if self._lap_began is not None:
            self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._lap_began
        self._lap_began = now

    @property
    def seconds(self) -> dict[str, float]:
        """By phase, as far as they are known."""
        unknown = {CLIENTS} if self.adopted else frozenset[str]()
        return {phase: value for phase, value in self._seconds.items() if phase not in unknown}

    # --- clients -------------------------------------------------------------------------------------

    def noted(self, combiner: CombinerName, stages: Iterable[ClientStage]) -> None:
        """What a combiner says of clients."""
        now = time.time()
        for client, stage, seconds in ((one.client, one.stage, one.seconds) for one in stages):
            if stage in STAGES and 0 <= seconds < math.inf:
                self._note(client, Stand(combiner, stage, now - seconds))

    def sealed(self, header: PartHeader) -> None:
        """A part is complete: what it says of its clients is the last word, and its time was theirs."""
        self.lap(CLIENTS)
        ends: dict[str, Iterable[Contributor | Absence]] = {
            "folded": header.contributors, "refused": header.refused, "lost": header.lost,
            "failed": header.failed,
        }  # fmt: skip
        for stage, ones in ends.items():
            for one in ones:
                if self._stage_at(header.combiner, one.client) != stage:
                    self._note(one.client, Stand(header.combiner, stage, time.time()))

    def _stage_at(self, combiner: CombinerName, client: ClientId) -> str:
        stand = self._stands.get(client)
        return stand.state if stand and stand.combiner == combiner else ""

    def _note(self, client: ClientId, stand: Stand) -> None:
        self._stands[client] = stand
        self._moved.add(client)
        if self._telling is None and not self._closed:
            self._telling = asyncio.get_running_loop().call_later(TELL_SECONDS, self._tell_moved)

    def _tell_moved(self) -> None:
        self._telling, moved = None, sorted(self._moved)
        self._moved.clear()
        more = len(moved) > MOST_TOLD
        clients = {} if more else {client: self._stands[client]._asdict() for client in moved}
        self._tell("client_progress", round=self.number, clients=clients, more=more)

    def close(self) -> None:
        """The round is over: tell nothing more."""
        self._closed = True
        if self._telling:
            self._telling.cancel()

    # --- for whoever asks ----------------------------------------------------------------------------

    def shown(self, round_: Round) -> dict[str, Any]:
        """When the round was opened, where each client that it lists stands, and who keeps all waiting."""
        clients = {client: self._stand(round_, client, at) for client, at in round_.place.items()}
        shown: dict[str, Any] = {
            "opened_at": self._opened_at,
            "clients": {client: stand._asdict() for client, stand in clients.items()},
        }
        if late := stragglers(clients, self._opened_at, time.time()):
            shown["stragglers"] = late
        return shown

    def _stand(self, round_: Round, client: ClientId, at: CombinerName) -> Stand:
        """What another combiner said, before the client moved, does not hold any more."""
        stand = self._stands.get(client)
        if stand is None or stand.combiner != at:
            stand = Stand(at, "waiting", self._opened_at)
        return stand._replace(state="lost") if client in round_.orphans else stand


def stragglers(clients: Mapping[ClientId, Stand], opened_at: float, now: float) -> dict[str, Any]:
    """Who is still at work when most could long be done; {} while nobody keeps the others waiting."""
    took = [stand.since - opened_at for stand in clients.values() if stand.state == "folded"]
    late = sorted(client for client, stand in clients.items() if stand.state in AT_WORK)
    if not took or not late:
        return {}
    usual, so_far = max(0.0, median(took)), now - opened_at
    if so_far <= max(STRAGGLING * usual, STRAGGLING_LEAST):
        return {}
    return {
        "seconds": so_far,
        "median": usual,
        "clients": late[:STRAGGLERS_SHOWN],
        "more": max(0, len(late) - STRAGGLERS_SHOWN),
    }


# --- as they are stored ------------------------------------------------------------------------------


def stored_seconds(
    state: StateStore, session: SessionId, rounds: Collection[int]
) -> dict[int, dict[str, float]]:
    """The phases of these rounds, as far as the events that tell of them are kept. Blocking."""
    known: dict[int, dict[str, float]] = {number: {} for number in rounds}
    first, before = min(rounds, default=0), None
    while known and (rows := _newest(state, session, before)):
        for row in rows:
            if row.round in known:
                known[row.round] |= row.fields.get("seconds", {})
        if any(row.event == COMMITTED and row.round <= first for row in rows):
            break  # what is older tells of older rounds
        before = rows[0].number
    return known


def _newest(state: StateStore, session: SessionId, before: int | None) -> Sequence[EventRow]:
    return state.events(session=session, names=(COMMITTED, VALIDATED), newest=True, before=before)
