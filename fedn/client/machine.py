"""What a client does with its tasks: one slot for work, any number of updates held until settled.

    Queued ──▶ Working ──▶ Offering ──▶ Uploading ──▶ Holding ──▶ (settled) gone
                  (train)      ▲             │            │
                               └── the link broke, or the sum that held it is gone

A validation goes Queued ──▶ Working ──▶ gone. Pure: `step` takes state and event (`events`) and returns the
next state and the commands for `driver.py`. A round whose update is in the journal is never trained again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from fedn.client.events import (
    Attached,
    CameBack,
    Command,
    Detached,
    DoTask,
    Event,
    ForgetUpdate,
    Holding,
    HurryWork,
    Key,
    ModelEvaluated,
    ModelGone,
    Offering,
    Queued,
    ReceiptArrived,
    ReofferAsked,
    SendFailure,
    SendOffer,
    SendReport,
    SendUpload,
    State,
    StopWork,
    TaskDropped,
    TaskReceived,
    TaskState,
    UpdateEnded,
    UpdateKept,
    UploadBroke,
    UploadGranted,
    Uploading,
    WentAway,
    WorkFailed,
    WorkGivenUp,
    Working,
    key_for,
    key_of,
)
from fedn.domain.errors import InvalidTransition
from fedn.domain.ids import Digest
from fedn.domain.messages import Task, TaskKind
from fedn.domain.update import UpdateHeader

MAX_QUEUED = 64

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
            wanted = state.tasks.get(key)
            if isinstance(wanted, Queued) and wanted.task.model != model:
                return state, ()  # of another model, which nobody waits for any more
            known = wanted is not None
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
        case WentAway(reason):
            return _turned_away(replace(state, away=reason))
        case WorkGivenUp():
            return _given_up(state)
        case CameBack():
            return replace(state, away=""), ()
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
    if state.away:
        return state, (SendFailure(key, state.away),)
    state = _supersede(state, key)
    if sum(isinstance(t, Queued) for t in state.tasks.values()) >= MAX_QUEUED:
        return state, (SendFailure(key, f"{MAX_QUEUED} tasks are waiting here already"),)
    return _hurried(state.put(key, Queued(task)), ())


def _again(state: State, task: Task, header: UpdateHeader) -> Outcome:
    """The task of a held update: offer it; only another base model makes it worthless."""
    if header.base_model == task.model:
        return _offer(state, header)  # also if it is being uploaded: the part that granted that may be closed
    if state.away:
        key = key_of(task)
        return state.without(key), (ForgetUpdate(header), SendFailure(key, state.away))
    return _hurried(state.put(key_of(task), Queued(task)), (ForgetUpdate(header),))


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
    match state.tasks.get(key):
        case Queued():
            return state.without(key), ()
        case Working(task) if key.kind is not TaskKind.TRAIN:
            return _hurried(state.without(key), (StopWork(task),))
        case _:
            return state, ()


def _hurried(state: State, commands: tuple[Command, ...]) -> Outcome:
    """What was dropped keeps the slot until it has ended, which may be long if nothing waits for it."""
    dropped = state.slot is not None and not isinstance(state.tasks.get(state.slot), Working)
    waits = any(isinstance(task, Queued) for task in state.tasks.values())
    return state, (*commands, HurryWork()) if dropped and waits else commands


def _kept(state: State, header: UpdateHeader) -> Outcome:
    key = key_for(header)
    at_work, wanted = state.slot == key, state.tasks.get(key)
    state = _free(state, key)
    if at_work and not (isinstance(wanted, Queued | Working) and wanted.task.model == header.base_model):
        return state, (ForgetUpdate(header),)  # its round was settled while it was training
    return _offer(state, header)


def _failed(state: State, key: Key, reason: str, final: bool) -> Outcome:
    """A broken link is tried again while this is attached; otherwise the next attach brings the task.

    A task that waits was dropped while it was at work, and has been asked for anew: what failed was stopped.
    """
    match state.tasks.get(key):
        case Working() if final or state.away:
            return state.without(key), (SendFailure(key, reason if final else state.away),)
        case Working(task) if state.attached:
            return state.put(key, Queued(task)), ()
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
    stop = (StopWork(task.task),) if isinstance(task, Working) else ()
    return state.without(key), (ForgetUpdate(header),) if header else stop


def _turned_away(state: State) -> Outcome:
    """What is at work may still end, and what is held be settled; what waits is not begun."""
    waiting = [key for key, task in state.tasks.items() if isinstance(task, Queued)]
    for key in waiting:
        state = state.without(key)
    return state, tuple(SendFailure(key, state.away) for key in waiting)


def _given_up(state: State) -> Outcome:
    commands: tuple[Command, ...] = ()
    for key, task in state.tasks.items():
        if isinstance(task, Working):
            state = state.without(key)
            commands += (SendFailure(key, state.away), StopWork(task.task))
    return state, commands


def _free(state: State, key: Key) -> State:
    return replace(state, slot=None) if state.slot == key else state


def _fill_slot(state: State) -> Outcome:
    """Checks before training before the rest, newer rounds first; nothing starts without a link, or away."""
    if state.slot is not None or not state.attached or state.away:
        return state, ()
    queued = [key for key, task in state.tasks.items() if isinstance(task, Queued)]
    if not queued:
        return state, ()
    key = max(queued, key=lambda k: (k.kind is TaskKind.CHECK, k.kind is TaskKind.TRAIN, k.round))
    task = state.tasks[key]
    if not isinstance(task, Queued):
        raise InvalidTransition("a task left the queue while it was chosen", story=[state])
    return replace(state, slot=key).put(key, Working(task.task)), (DoTask(task.task),)
