"""What a client does with its tasks: one slot for work, any number of updates held until settled.

    Queued ──▶ Working ──▶ Offering ──▶ Uploading ──▶ Holding ──▶ (settled) gone
                  (train)      ▲             │            │
                               └── the link broke, or the sum that held it is gone

A validation goes Queued ──▶ Working ──▶ gone. Pure: `step` takes state and event and returns the next
state and the commands for `driver.py`. A round whose update is in the journal is never trained again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, assert_never

from fedn.domain.errors import InvalidTransition
from fedn.domain.ids import Digest, SessionId
from fedn.domain.messages import Task, TaskKind
from fedn.domain.update import UpdateHeader

MAX_QUEUED = 64
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
    copy, or comes from a combiner that was out of reach: nobody trains for it again.
    """

    attached: bool = False
    slot: Key | None = None
    tasks: Mapping[Key, TaskState] = field(default_factory=dict)
    over: Mapping[SessionId, int] = field(default_factory=dict)

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


Event = (
    Attached | Detached | TaskReceived | TaskDropped | UpdateKept | ModelEvaluated | WorkFailed | ModelGone
    | UploadGranted | UploadBroke | ReceiptArrived | UpdateEnded | ReofferAsked
)  # fmt: skip

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


Command = DoTask | SendOffer | SendUpload | ForgetUpdate | SendReport | SendFailure
Outcome = tuple[State, tuple[Command, ...]]

# --- transitions -----------------------------------------------------------------------------------


def step(state: State, event: Event) -> Outcome:
    """One decision; afterwards the slot is filled if there is work."""
    state, commands = _dispatch(state, event)
    state, started = _fill_slot(state)
    return state, commands + started


def _dispatch(state: State, event: Event) -> Outcome:
    match event:
        case Attached():
            return _attached(replace(state, attached=True))
        case Detached():
            return replace(state, attached=False), ()
        case TaskReceived(task):
            return _received(state, task)
        case TaskDropped(key):
            return _dropped(state, key)
        case UpdateKept(header):
            return _kept(state, header)
        case ModelEvaluated(key, model, examples, metrics):
            state = _free(state, key)
            known = key in state.tasks
            report = (SendReport(key, model, examples, metrics),) if known else ()
            return state.without(key), report
        case WorkFailed(key, reason, final):
            return _failed(_free(state, key), key, reason, final)
        case ModelGone(key):
            return _free(state, key).without(key), ()
        case UploadGranted(session, round_, digest, grant, offset):
            return _granted(state, Key(session, round_, TaskKind.TRAIN), digest, grant, offset)
        case UploadBroke(header, grant):
            return _broke(state, header, grant)
        case ReceiptArrived(session, round_, digest):
            return _receipt(state, Key(session, round_, TaskKind.TRAIN), digest)
        case UpdateEnded(session, round_, digest):
            return _ended(state, Key(session, round_, TaskKind.TRAIN), digest)
        case ReofferAsked(session, round_):
            key = Key(session, round_, TaskKind.TRAIN)
            held = held_header(state.tasks.get(key))
            return _offer(state, held) if held else (state, ())
        case _:
            assert_never(event)


def held_header(task: TaskState | None) -> UpdateHeader | None:
    """The header of an update that is in the journal in this state."""
    match task:
        case Offering(header) | Uploading(header) | Holding(header):
            return header
        case _:
            return None


def _attached(state: State) -> Outcome:
    """Everything not settled is offered, wherever this is: servers may have lost it, or moved on."""
    commands: tuple[Command, ...] = ()
    for task in list(state.tasks.values()):
        if header := held_header(task):
            state, more = _offer(state, header)
            commands += more
    return state, commands


def _offer(state: State, header: UpdateHeader, attempt: int = 0) -> Outcome:
    offers = (SendOffer(header, attempt),) if state.attached else ()
    return state.put(key_for(header), Offering(header, attempt)), offers


def _received(state: State, task: Task) -> Outcome:
    key = key_of(task)
    known = state.tasks.get(key)
    if header := held_header(known):
        return _again(state, task, header)
    if isinstance(known, Queued | Working):
        return state, ()
    if key.kind is TaskKind.TRAIN and key.round <= state.over.get(key.session, 0):
        return state, (SendFailure(key, f"round {key.round} is over for this client"),)
    state = _supersede(state, key)
    if sum(isinstance(t, Queued) for t in state.tasks.values()) >= MAX_QUEUED:
        return state, (SendFailure(key, f"{MAX_QUEUED} tasks are waiting here already"),)
    return state.put(key, Queued(task)), ()


def _again(state: State, task: Task, header: UpdateHeader) -> Outcome:
    """The task of a held update: offer it; only another base model makes it worthless."""
    if header.base_model == task.model:
        return _offer(state, header)  # also if it is being uploaded: the part that granted that may be closed
    return state.put(key_of(task), Queued(task)), (ForgetUpdate(header),)


def _supersede(state: State, key: Key) -> State:
    """A newer training task of a session shows that its older rounds are over."""
    if key.kind is not TaskKind.TRAIN:
        return state
    state = state.past(key.session, key.round - 1)
    for other, task in list(state.tasks.items()):
        older = other.session == key.session and other.kind is key.kind and other.round < key.round
        if older and isinstance(task, Queued):
            state = state.without(other)
    return state


def _dropped(state: State, key: Key) -> Outcome:
    """A training under way is finished and offered all the same: the round may yet ask for it elsewhere."""
    task = state.tasks.get(key)
    if isinstance(task, Queued) or (isinstance(task, Working) and key.kind is not TaskKind.TRAIN):
        return state.without(key), ()
    return state, ()


def _kept(state: State, header: UpdateHeader) -> Outcome:
    key = key_for(header)
    at_work, wanted = state.slot == key, state.tasks.get(key)
    state = _free(state, key)
    if at_work and not (isinstance(wanted, Queued | Working) and wanted.task.model == header.base_model):
        return state, (ForgetUpdate(header),)  # its round was settled while it was training
    return _offer(state, header)


def _failed(state: State, key: Key, reason: str, final: bool) -> Outcome:
    """A broken link is tried again while this is attached; otherwise the next attach brings the task."""
    match state.tasks.get(key):
        case Queued() | Working() if final:
            return state.without(key), (SendFailure(key, reason),)
        case Working(task) if state.attached:
            return state.put(key, Queued(task)), ()
        case Queued():
            return state, ()
        case Working():
            return state.without(key), ()
        case _:
            return state, ()


def _granted(state: State, key: Key, digest: Digest, grant: str, offset: int) -> Outcome:
    match state.tasks.get(key):
        case Offering(header, attempt) if header.digest == digest:
            return state.put(key, Uploading(header, grant, attempt)), (SendUpload(header, grant, offset),)
        case Holding(header) if header.digest == digest:
            return state.put(key, Uploading(header, grant)), (SendUpload(header, grant, offset),)
        case _:
            return state, ()


def _broke(state: State, header: UpdateHeader, grant: str) -> Outcome:
    match state.tasks.get(key_for(header)):
        case Uploading(_, current, attempt) if current == grant:
            return _offer(state, header, attempt + 1)
        case _:
            return state, ()


def _receipt(state: State, key: Key, digest: Digest) -> Outcome:
    header = held_header(state.tasks.get(key))
    if header is None or header.digest != digest:
        return state, ()
    return state.put(key, Holding(header)), ()


def _ended(state: State, key: Key, digest: str) -> Outcome:
    task = state.tasks.get(key)
    header = held_header(task)
    if digest and (header is None or digest != header.digest):
        return state, ()
    state = state.past(key.session, key.round)
    return state.without(key), (ForgetUpdate(header),) if header else ()


def _free(state: State, key: Key) -> State:
    return replace(state, slot=None) if state.slot == key else state


def _fill_slot(state: State) -> Outcome:
    """Training before validation, newer rounds first; nothing starts without a link to fetch by."""
    if state.slot is not None or not state.attached:
        return state, ()
    queued = [key for key, task in state.tasks.items() if isinstance(task, Queued)]
    if not queued:
        return state, ()
    key = max(queued, key=lambda k: (k.kind is TaskKind.TRAIN, k.round))
    task = state.tasks[key]
    if not isinstance(task, Queued):
        raise InvalidTransition("a task left the queue while it was chosen", story=[state])
    return replace(state, slot=key).put(key, Working(task.task)), (DoTask(task.task),)
