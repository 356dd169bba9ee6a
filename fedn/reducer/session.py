"""What a session at the reducer can be in, what happens to it, and what is to be done about it.

The vocabulary of `machine.py`: it takes events and returns commands; `driver.py` makes the one and
carries out the other. What concerns an open round alone is in `round.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation
from fedn.domain.part import PartHeader
from fedn.domain.round import Head, MergedPart
from fedn.domain.update import Absence, UpdateHeader
from fedn.reducer import legs as lg
from fedn.reducer.legs import PartKey, Round
from fedn.reducer.network import Network

# --- phases ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not enough clients to begin the next round."""

    reason: str


@dataclass(frozen=True, slots=True)
class Planning:
    """The selector is choosing among the clients that are here.

    ``again``: the round was open before, and all its updates are asked for once more.
    """

    again: Round | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """``reason`` says what an open round waits for beyond its clients; usually ''."""

    round: Round
    reason: str = ""
    choosing: bool = False


@dataclass(frozen=True, slots=True)
class Committing:
    round: Round


@dataclass(frozen=True, slots=True)
class Finishing:
    """All rounds are committed; the last validations are awaited."""


@dataclass(frozen=True, slots=True)
class Paused:
    """No round is open, and none begins before somebody asks for it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """``outcome`` is 'finished', 'failed' or 'cancelled'."""

    outcome: str
    reason: str = ""


Phase = Waiting | Planning | Running | Committing | Paused | Finishing | Ended

# --- events ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NetworkChanged:
    network: Network


@dataclass(frozen=True, slots=True)
class CombinerLost:
    combiner: CombinerName
    incarnation: Incarnation
    now: float


@dataclass(frozen=True, slots=True)
class ClientsSelected:
    clients: tuple[ClientId, ...]


@dataclass(frozen=True, slots=True)
class PartSealed:
    round: int
    key: PartKey
    header: PartHeader
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class PartFetched:
    round: int
    key: PartKey


@dataclass(frozen=True, slots=True)
class PartAborted:
    round: int
    key: PartKey
    now: float


@dataclass(frozen=True, slots=True)
class ReleaseRequested:
    combiner: CombinerName
    header: UpdateHeader


@dataclass(frozen=True, slots=True)
class ReleaseAnswered:
    round: int
    client: ClientId
    folded: bool


@dataclass(frozen=True, slots=True)
class AdmitAnswered:
    round: int
    key: PartKey
    client: ClientId
    admitted: bool


@dataclass(frozen=True, slots=True)
class RoundCommitted:
    head: Head


@dataclass(frozen=True, slots=True)
class CommitFailed:
    reason: str


@dataclass(frozen=True, slots=True)
class FaultFound:
    """Something of ours broke that owed an answer. A commit that is under way has its own end."""

    reason: str


@dataclass(frozen=True, slots=True)
class ValidationEnded:
    """``value``: the clients' mean of the session's metric (`scores.metric_of`), if they reported it."""

    round: int
    value: float | None = None


@dataclass(frozen=True, slots=True)
class StopAsked:
    reason: str


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """The open round is still committed; then the session rests."""

    reason: str


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    pass


@dataclass(frozen=True, slots=True)
class Tick:
    now: float


Event = (
    NetworkChanged | CombinerLost | ClientsSelected | PartSealed | PartFetched | PartAborted
    | ReleaseRequested | ReleaseAnswered | AdmitAnswered | RoundCommitted | CommitFailed | FaultFound
    | ValidationEnded | StopAsked | PauseAsked | ResumeAsked | Tick
)  # fmt: skip

# --- commands (besides those of round.py) ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SelectClients:
    """Choose at most ``limit`` (0: all) of ``clients``; answer ClientsSelected.

    Begins round ``round`` or goes on with it.
    """

    round: int
    clients: tuple[ClientId, ...]
    limit: int = 0


@dataclass(frozen=True, slots=True)
class CommitRound:
    """Blob first, record second; answer RoundCommitted or CommitFailed."""

    round: int
    parts: tuple[MergedPart, ...]
    refused: tuple[Absence, ...]
    lost: tuple[Absence, ...]


@dataclass(frozen=True, slots=True)
class AckRound:
    """The round is durable: ``combiner`` may forget it and settle its clients."""

    combiner: CombinerName
    round: int
    counted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SettleFromRecord:
    """An update of a round that is over: look up whether it counted, and say so."""

    combiner: CombinerName
    header: UpdateHeader


@dataclass(frozen=True, slots=True)
class AckFromRecord:
    """A combiner still holds a round that is over: tell it which of its parts counted."""

    combiner: CombinerName
    incarnation: Incarnation
    round: int


@dataclass(frozen=True, slots=True)
class Validate:
    round: int
    model: Digest
    model_size: int


@dataclass(frozen=True, slots=True)
class SkipValidation:
    """The clients can't keep up: this round's model is not evaluated."""

    round: int


@dataclass(frozen=True, slots=True)
class Announce:
    """The phase changed in a way worth telling."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class DropSums:
    """Forget the sums of the open round."""


Command = (
    lg.Command | SelectClients | CommitRound | AckRound | SettleFromRecord | AckFromRecord | Validate
    | SkipValidation | Announce | DropSums
)  # fmt: skip
