"""What is asked of a session when somebody wants to know why, and the form of the answer. Plain values.

`rest_why.py` gathers `Facts` from what the machines have recorded; `why.py` turns them into an `Explanation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Cause(StrEnum):
    """The one word for what it comes to; every answer has one of these."""

    # nobody works, or nothing can be kept
    ANOTHER_REDUCER = "another_reducer"
    STARTING = "starting"
    STORE_FULL = "store_full"
    STORE_UNREACHABLE = "store_unreachable"
    NO_COMBINER = "no_combiner"
    COMBINER_AWAY = "combiner_away"
    COMBINER_FAULT = "combiner_fault"
    PAUSED = "paused"
    # too few take part
    TOO_FEW_CLIENTS = "too_few_clients"
    UNFIT_CLIENTS = "unfit_clients"
    CLIENTS_ELSEWHERE = "clients_elsewhere"
    CHECKING = "checking"
    PACKAGE_MISSING = "package_missing"
    REFUSED_UPDATES = "refused_updates"
    FAILED_TRAININGS = "failed_trainings"
    LOST_CLIENTS = "lost_clients"
    # a round at work
    STRAGGLER = "straggler"
    DEADLINE_NEAR = "deadline_near"
    TRAINING = "training"
    REDUCING = "reducing"
    VALIDATING = "validating"
    # it has ended
    FINISHED = "finished"
    STOPPED_EARLY = "stopped_early"
    CANCELLED = "cancelled"
    FAILED = "failed"
    # a committed round that took longer than the session's others, or did not; `straggler`, too
    SLOW_WAITING = "slow_waiting"
    SLOW_TRAINING = "slow_training"
    SLOW_UPLOADING = "slow_uploading"
    SLOW_REDUCING = "slow_reducing"
    SLOW_ROUND = "slow_round"
    AS_USUAL = "as_usual"


@dataclass(frozen=True, slots=True)
class Station:
    """A combiner that the reducer knows; ``had`` are the clients it had when it went out of reach."""

    combiner: str
    live: bool
    clients: tuple[str, ...] = ()
    seen_at: float = 0.0
    drains: bool = False
    had: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How one listed client stands in the open round, and since when (Unix time; 0: unknown).

    ``state`` is one of `fedn.domain.messages.STAGES`.
    """

    client: str
    state: str
    combiner: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Told:
    """A stored event of the session that says that something went wrong; ``number`` is its address."""

    number: int
    at: float
    event: str
    text: str


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed round, and where its time went: ``seconds`` by phase, ``clients`` by client and lap.

    Phases are those of `timing.py`, laps those of `fedn.domain.messages.LAPS`. ``took`` is how long it took,
    and ``usual`` how long each phase took in the median of ``others`` rounds of the session, with that of
    whole rounds in ``usually``. 0 and empty where that is unknown.
    """

    contributors: int
    refused: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    took: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    clients: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    others: int = 0
    usually: float = 0.0
    usual: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one session, or of one round of it, at ``now``.

    ``store`` is why the state store can't be read: then nothing else is known. ``hindrances`` are what keeps
    the session waiting, by whose it is: 'reducer' (the stores), 'network', 'check', 'home', 'metric', or a
    combiner. ``refused`` also names failed trainings; ``stragglers`` are who keeps all others waiting.
    ``names`` are what clients are called, by their ids, where that tells them apart.
    """

    session: str
    now: float
    name: str = ""
    store: str = ""
    ready: str = ""
    state: str = ""
    ended: str = ""
    head: int = 0
    round: int = 0
    rounds: int = 0
    min_clients: int = 1
    deadline: float = 0.0
    package: str = ""
    package_there: bool = True
    phase: str = ""
    waits: str = ""
    hindrances: Mapping[str, str] = field(default_factory=dict)
    expected: int = 0
    received: int = 0
    opened_at: float = 0.0
    standings: tuple[Standing, ...] = ()
    stragglers: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    lost: Mapping[str, str] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    stations: tuple[Station, ...] = ()
    told: tuple[Told, ...] = ()
    usually: float = 0.0
    names: Mapping[str, str] = field(default_factory=dict)
    committed: Committed | None = None

    @property
    def called(self) -> str:
        """The session as people know it."""
        return self.name or self.session

    @property
    def attached(self) -> frozenset[str]:
        """Every client at a combiner that is live."""
        return frozenset(client for one in self.stations if one.live for client in one.clients)

    @property
    def live(self) -> frozenset[str]:
        return frozenset(one.combiner for one in self.stations if one.live)


@dataclass(frozen=True, slots=True)
class Link:
    """Something that the answer names: ``kind`` is client, combiner, round, package or event."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """``text`` is one paragraph that names the cause, ``evidence`` what was recorded, word by word."""

    cause: Cause
    text: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""
    links: tuple[Link, ...] = ()
