"""What happens to a client's tasks, and what is to be done about it.

The vocabulary of `machine.py`: it takes events and returns commands; `driver.py` makes the one and
carries out the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, assert_never

from fedn.domain import messages as m
from fedn.domain.ids import Digest, SessionId
from fedn.domain.messages import Task, TaskKind
from fedn.domain.update import UpdateHeader

MAX_SESSIONS = 256
"""Sessions of which it is remembered how far they are over."""


class Key(NamedTuple):
    """What a task is known by."""

    session: SessionId
    round: int
    kind: TaskKind


def key_of(task: Task) -> Key:
    return Key(task.session, task.round, task.kind)


def key_for(header: UpdateHeader) -> Key:
    return Key(header.session, header.round, TaskKind.TRAIN)


@dataclass(frozen=True, slots=True)
class Queued:
    task: Task


@dataclass(frozen=True, slots=True)
class Working:
    task: Task


@dataclass(frozen=True, slots=True)
class Offering:
    """The update is in the journal and is, or will be on the next attach, on offer."""

    header: UpdateHeader
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Uploading:
    header: UpdateHeader
    grant: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Holding:
    """A receipt came; the copy is kept until the round is settled."""

    header: UpdateHeader


TaskState = Queued | Working | Offering | Uploading | Holding


@dataclass(frozen=True, slots=True)
class State:
    """All tasks. ``slot`` is the one at work, even if it was dropped meanwhile.

    ``over``: up to which round each session is over for this client. A task of such a round is a late
    copy, or comes from a combiner that was out of reach: nobody trains for it again. ``away``: why its
    owner wants it to take nothing new; '' if it may.
    """

    attached: bool = False
    slot: Key | None = None
    tasks: Mapping[Key, TaskState] = field(default_factory=dict)
    over: Mapping[SessionId, int] = field(default_factory=dict)
    away: str = ""

    @property
    def under_way(self) -> bool:
        """Whether anything is queued, at work, or not settled: a combiner is to hear from this client."""
        return bool(self.tasks)

    def put(self, key: Key, task: TaskState) -> State:
        return replace(self, tasks={**self.tasks, key: task})

    def without(self, key: Key) -> State:
        return replace(self, tasks={k: task for k, task in self.tasks.items() if k != key})

    def past(self, session: SessionId, round_: int) -> State:
        """``round_`` is over; of too many sessions the ones heard of least recently are forgotten."""
        if round_ <= self.over.get(session, 0):
            return self
        others = [(s, r) for s, r in self.over.items() if s != session]
        return replace(self, over=dict([*others[1 - MAX_SESSIONS :], (session, round_)]))


# --- events ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attached:
    pass


@dataclass(frozen=True, slots=True)
class Detached:
    pass


@dataclass(frozen=True, slots=True)
class TaskReceived:
    task: Task


@dataclass(frozen=True, slots=True)
class TaskDropped:
    """The combiner does not wait for it any more."""

    key: Key


@dataclass(frozen=True, slots=True)
class UpdateKept:
    """Training is done and its update is safely in the journal (or was found there at the start)."""

    header: UpdateHeader


@dataclass(frozen=True, slots=True)
class ModelEvaluated:
    key: Key
    model: Digest
    examples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """``final``: it would fail again. Otherwise the link broke while the model was fetched."""

    key: Key
    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class ModelGone:
    """The combiner does not have the model (any more); if it wants the task done, it will say so again."""

    key: Key


@dataclass(frozen=True, slots=True)
class UploadGranted:
    session: SessionId
    round: int
    digest: Digest
    grant: str
    offset: int


@dataclass(frozen=True, slots=True)
class UploadBroke:
    header: UpdateHeader
    grant: str


@dataclass(frozen=True, slots=True)
class ReceiptArrived:
    session: SessionId
    round: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class UpdateEnded:
    """Refused for good, or settled: the copy may go. ``digest`` is empty when settled."""

    session: SessionId
    round: int
    digest: str


@dataclass(frozen=True, slots=True)
class ReofferAsked:
    session: SessionId
    round: int


@dataclass(frozen=True, slots=True)
class WentAway:
    """Its owner wants this client away: from now on it takes nothing new, and says the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class WorkGivenUp:
    """It is away, and what is still at work is not waited for."""


@dataclass(frozen=True, slots=True)
class CameBack:
    """It takes tasks again."""


Event = (
    Attached | Detached | TaskReceived | TaskDropped | UpdateKept | ModelEvaluated | WorkFailed | ModelGone
    | UploadGranted | UploadBroke | ReceiptArrived | UpdateEnded | ReofferAsked
    | WentAway | WorkGivenUp | CameBack
)  # fmt: skip


def event_of(message: m.CombinerMessage) -> Event | None:
    """What a combiner's word means here; None for one that means nothing to the machine."""
    match message:
        case m.Task():
            return TaskReceived(message)
        case m.TaskCancelled(session, round_, kind):
            return TaskDropped(Key(session, round_, kind))
        case m.Granted(session, round_, digest, grant, offset):
            return UploadGranted(session, round_, digest, grant, offset)
        case m.UpdateRefused(session, round_, digest):
            return UpdateEnded(session, round_, digest)
        case m.Receipt(session, round_, _, digest):
            return ReceiptArrived(session, round_, digest)
        case m.Settled(session, round_):
            return UpdateEnded(session, round_, "")
        case m.Reoffer(session, round_):
            return ReofferAsked(session, round_)
        case m.Welcome():
            return None  # only ever first
        case _:
            assert_never(message)


# --- commands --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DoTask:
    """Fetch the model and do the work; answer UpdateKept, ModelEvaluated or WorkFailed."""

    task: Task


@dataclass(frozen=True, slots=True)
class SendOffer:
    """``attempt`` > 0 after a broken upload: wait a little longer each time."""

    header: UpdateHeader
    attempt: int


@dataclass(frozen=True, slots=True)
class SendUpload:
    header: UpdateHeader
    grant: str
    offset: int


@dataclass(frozen=True, slots=True)
class ForgetUpdate:
    header: UpdateHeader


@dataclass(frozen=True, slots=True)
class SendReport:
    key: Key
    model: Digest
    examples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SendFailure:
    key: Key
    reason: str


@dataclass(frozen=True, slots=True)
class StopWork:
    """Nobody waits for what is being done: it may be ended. However it ends is answered as ever."""

    task: Task


@dataclass(frozen=True, slots=True)
class HurryWork:
    """A task waits for the slot, in which something goes on that nobody waits for."""


Command = DoTask | SendOffer | SendUpload | ForgetUpdate | SendReport | SendFailure | StopWork | HurryWork
