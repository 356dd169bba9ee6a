"""What happens to a part of a round at a combiner, and what is to be done about it.

The vocabulary of `machine.py`: it takes events and returns commands; `driver.py` makes the one and
carries out the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedn.domain.errors import Refused
from fedn.domain.ids import ClientId, Digest
from fedn.domain.update import UpdateHeader

# --- events ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientArrived:
    client: ClientId


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """``why`` is empty when its stream ended by itself."""

    client: ClientId
    now: float
    why: str = ""


@dataclass(frozen=True, slots=True)
class ClientAdmitted:
    client: ClientId
    attached: bool
    now: float


@dataclass(frozen=True, slots=True)
class ClientReleased:
    client: ClientId


@dataclass(frozen=True, slots=True)
class OfferMade:
    header: UpdateHeader


@dataclass(frozen=True, slots=True)
class UpdateVerified:
    """All bytes are here, their digest, layout and numbers are right."""

    client: ClientId
    digest: Digest


@dataclass(frozen=True, slots=True)
class UpdateRejected:
    """The bytes are not what was offered, or not usable."""

    client: ClientId
    digest: Digest
    refused: Refused


@dataclass(frozen=True, slots=True)
class UpdateFolded:
    client: ClientId
    digest: Digest


@dataclass(frozen=True, slots=True)
class TrainingFailed:
    client: ClientId
    reason: str


@dataclass(frozen=True, slots=True)
class SumHashed:
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class RoundAcked:
    """``elsewhere``: clients that a later part of the round here lists; that one tells them the end."""

    counted: bool
    elsewhere: frozenset[ClientId] = frozenset()


@dataclass(frozen=True, slots=True)
class AbortAsked:
    reason: str
    reoffer: bool


@dataclass(frozen=True, slots=True)
class Tick:
    now: float


Event = (
    ClientArrived | ClientLeft | ClientAdmitted | ClientReleased | OfferMade | UpdateVerified | UpdateRejected
    | UpdateFolded | TrainingFailed | SumHashed | RoundAcked | AbortAsked | Tick
)  # fmt: skip

# --- commands --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendTask:
    client: ClientId


@dataclass(frozen=True, slots=True)
class CancelTask:
    client: ClientId
    reason: str


@dataclass(frozen=True, slots=True)
class GrantUpload:
    """Open (or find) the staging place and tell the client to send."""

    header: UpdateHeader


@dataclass(frozen=True, slots=True)
class DropUpload:
    client: ClientId


@dataclass(frozen=True, slots=True)
class RefuseUpdate:
    header: UpdateHeader
    refused: Refused


@dataclass(frozen=True, slots=True)
class FoldUpdate:
    """Add the staged, verified bytes to the sum with weight ``header.examples``."""

    header: UpdateHeader


@dataclass(frozen=True, slots=True)
class SendReceipt:
    header: UpdateHeader


@dataclass(frozen=True, slots=True)
class RequestRelease:
    """This client is not listed: the reducer must say where it counts."""

    header: UpdateHeader


@dataclass(frozen=True, slots=True)
class AnswerRelease:
    client: ClientId
    folded: bool


@dataclass(frozen=True, slots=True)
class HashSum:
    """Hash the sum; answer with SumHashed."""


@dataclass(frozen=True, slots=True)
class AnnounceSeal:
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class AnnounceAbort:
    reason: str


@dataclass(frozen=True, slots=True)
class SettleClient:
    client: ClientId
    counted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class AskReoffer:
    client: ClientId


Command = (
    SendTask | CancelTask | GrantUpload | DropUpload | RefuseUpdate | FoldUpdate | SendReceipt
    | RequestRelease | AnswerRelease | HashSum | AnnounceSeal | AnnounceAbort | SettleClient | AskReoffer
)  # fmt: skip
