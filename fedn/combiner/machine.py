"""One part of a round at a combiner: who is granted, folded, refused, failed or lost, and when it seals.

    Open ──(all decided, or time is up)──▶ Closing ──(last fold done, bytes hashed)──▶ Sealed ──▶ gone
      └──────────────┴──────────────────────────────┴─── AbortRound ──▶ Aborted

Pure: `open_part` and `step` take a state and an event and return the next state and the commands
for `driver.py`. Time comes as a number of seconds inside events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import assert_never

from fedn.combiner import events as ev
from fedn.combiner.ledger import EMPTY_HANDED, EXPECTED, PENDING, RETURNING, Counts, Entry, Ledger, Standing
from fedn.domain.errors import InvalidTransition, RefusalCode, Refused
from fedn.domain.ids import ClientId, Digest
from fedn.domain.round import RoundSpec
from fedn.domain.update import MAX_EXAMPLES, UpdateHeader

RECOUNTED = 64
"""Up to so many clients everything is counted anew after every event, beyond only where a state ends."""
UNCOUNTED = "the round was committed without this part"
HEADER_SLACK = 2**20
"""How much longer than the base model an update file may be: room for another safetensors header."""


@dataclass(frozen=True, slots=True)
class Open:
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Closing:
    """No more grants; folds under way are finished, then the sum is hashed."""

    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Sealed:
    ledger: Ledger
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Aborted:
    ledger: Ledger
    reason: str


State = Open | Closing | Sealed | Aborted

Outcome = tuple[State, tuple[ev.Command, ...]]

# --- transitions -----------------------------------------------------------------------------------


def open_part(
    spec: RoundSpec, attached: frozenset[ClientId], now: float, grace: float, max_update_bytes: int
) -> Outcome:
    """Open a part and hand its task to the listed clients that are attached."""
    entries = {c: Entry(away_since=None if c in attached else now) for c in spec.clients}
    away = {c: now for c in entries if c not in attached}
    ledger = Ledger(
        spec, entries, Counts(), now + spec.deadline, grace, max_update_bytes, len(entries), away
    )  # fmt: skip
    tasks = tuple(ev.SendTask(c) for c in spec.clients if c in attached)
    return _settle_if_decided(ledger, tasks)


def step(state: State, event: ev.Event) -> Outcome:
    """One decision. Raises InvalidTransition for a pair that can't happen."""
    after, commands = _dispatch(state, event)
    ledger = after.ledger
    recount = type(after) is not type(state) or len(ledger.entries) <= RECOUNTED
    if not ledger.counts.balanced or (recount and not ledger.adds_up):
        raise InvalidTransition(f"offers do not add up after {event}", story=[state, event, after])
    return after, commands


def _dispatch(state: State, event: ev.Event) -> Outcome:
    match state:
        case Open():
            return _when_open(state, event)
        case Closing():
            return _when_closing(state, event)
        case Sealed():
            return _when_sealed(state, event)
        case Aborted():
            return _when_aborted(state, event)
        case _:
            assert_never(state)


def next_wake(state: State) -> float | None:
    """When the next Tick is due, in seconds of the events' clock; None if none is."""
    if not isinstance(state, Open):
        return None
    ledger = state.ledger
    longest_away = next(iter(ledger.away.values()), ledger.closes_at)
    return min(ledger.closes_at, longest_away + ledger.grace)


def admits(state: State) -> bool:
    """Whether one more client can be listed."""
    return isinstance(state, Open)


def listed(state: State) -> tuple[ClientId, ...]:
    """Whose updates may count here. Who is lost or failed may come back, but only while the part is open."""
    gone = {Standing.RELEASED} if isinstance(state, Open) else {Standing.RELEASED, *RETURNING}
    return tuple(c for c, entry in state.ledger.entries.items() if entry.standing not in gone)


def expected(state: State) -> tuple[ClientId, ...]:
    """Clients that are to train, offer or send, and are attached as far as this part knows."""
    if not isinstance(state, Open):
        return ()
    entries = state.ledger.entries.items()
    return tuple(c for c, entry in entries if entry.standing in EXPECTED and entry.away_since is None)


def _when_open(state: Open, event: ev.Event) -> Outcome:
    ledger = state.ledger
    match event:
        case ev.ClientArrived(client):
            return _arrived(ledger, client)
        case ev.ClientLeft(client, now, why):
            entry = ledger.entries.get(client)
            if entry is None or entry.standing not in EXPECTED:
                return state, ()
            return Open(ledger.put(client, replace(entry, away_since=now, reason=why))), ()
        case ev.ClientAdmitted(client, attached, now):
            return _admitted(ledger, client, attached, now)
        case ev.ClientReleased(client):
            return _released(ledger, client)
        case ev.OfferMade(header):
            return _offered(ledger, header)
        case ev.UpdateVerified(client, digest):
            return _verified(ledger, client, digest)
        case ev.UpdateRejected(client, digest, refused):
            return _rejected(ledger, client, digest, refused)
        case ev.UpdateFolded(client, digest):
            return _settle_if_decided(*_folded(ledger, client, digest))
        case ev.TrainingFailed(client, reason):
            entry = ledger.entries.get(client)
            if entry is None or entry.standing is not Standing.WAITING:
                return state, ()
            failed = Entry(Standing.FAILED, reason=f"training failed: {reason}")
            return _settle_if_decided(ledger.put(client, failed), ())
        case ev.Tick(now):
            return _ticked(ledger, now)
        case ev.AbortAsked(reason, reoffer):
            return _abort(ledger, reason, reoffer)
        case ev.RoundAcked():
            return _abort(ledger, UNCOUNTED, reoffer=True)
        case ev.SumHashed():
            raise _impossible(state, event)
        case _:
            assert_never(event)


def _when_closing(state: Closing, event: ev.Event) -> Outcome:
    ledger = state.ledger
    match event:
        case ev.UpdateFolded(client, digest):
            return _hash_if_folded(*_folded(ledger, client, digest))
        case ev.SumHashed(digest, size):
            return Sealed(ledger, digest, size), (ev.AnnounceSeal(digest, size),)
        case ev.OfferMade(header):
            return state, (_answer_again(ledger, header),)
        case ev.ClientReleased(client):
            return _released(ledger, client, closed=Closing)
        case ev.AbortAsked(reason, reoffer):
            return _abort(ledger, reason, reoffer)
        case ev.ClientArrived() | ev.ClientLeft() | ev.ClientAdmitted() | ev.TrainingFailed() | ev.Tick():
            return state, ()
        case ev.UpdateVerified() | ev.UpdateRejected():
            return state, ()  # the upload was dropped when the part closed
        case ev.RoundAcked():
            return _abort(ledger, UNCOUNTED, reoffer=True)
        case _:
            assert_never(event)


def _when_sealed(state: Sealed, event: ev.Event) -> Outcome:
    ledger = state.ledger
    match event:
        case ev.OfferMade(header):
            return state, (_answer_again(ledger, header),)
        case ev.ClientReleased(client):
            _, answer = _released(ledger, client, closed=Closing)
            return state, answer
        case ev.RoundAcked(counted, elsewhere):
            return state, _settlements(ledger, counted, elsewhere)
        case ev.AbortAsked(reason, reoffer):
            return _abort(ledger, reason, reoffer)
        case ev.UpdateFolded() | ev.SumHashed():
            raise _impossible(state, event)
        case ev.ClientArrived() | ev.ClientLeft() | ev.ClientAdmitted() | ev.TrainingFailed() | ev.Tick():
            return state, ()
        case ev.UpdateVerified() | ev.UpdateRejected():
            return state, ()
        case _:
            assert_never(event)


def _when_aborted(state: Aborted, event: ev.Event) -> Outcome:
    match event:
        case ev.ClientReleased(client):
            return state, (ev.AnswerRelease(client, folded=False),)
        case ev.OfferMade(header):
            return state, (ev.RequestRelease(header),)
        case _:
            return state, ()  # whatever was under way when the round was dropped


def _arrived(ledger: Ledger, client: ClientId) -> Outcome:
    entry = ledger.entries.get(client)
    if entry is None or entry.standing not in EXPECTED | RETURNING:
        return Open(ledger), ()
    standing = Standing.WAITING if entry.standing in RETURNING else entry.standing
    back = replace(entry, standing=standing, reason="", away_since=None)
    return Open(ledger.put(client, back)), (ev.SendTask(client),)


def _admitted(ledger: Ledger, client: ClientId, attached: bool, now: float) -> Outcome:
    entry = ledger.entries.get(client)
    if entry is not None and entry.standing not in {Standing.RELEASED, *RETURNING}:
        return Open(ledger), (ev.SendTask(client),) if attached else ()
    fresh = Entry(away_since=None if attached else now)
    ledger = ledger.list(client, fresh)
    return Open(ledger), (ev.SendTask(client),) if attached else ()


def _released(ledger: Ledger, client: ClientId, closed: type[Closing] | None = None) -> Outcome:
    """Folded (or surely about to be) counts here; anything else gets a tombstone."""
    entry = ledger.entries.get(client, Entry())
    if entry.standing in {Standing.FOLDED, Standing.FOLDING}:
        return (closed or Open)(ledger), (ev.AnswerRelease(client, folded=True),)
    tombstone = Entry(Standing.RELEASED, reason="moved to another combiner")
    known = client in ledger.entries
    ledger = ledger.put(client, tombstone, "discarded") if known else ledger.list(client, tombstone)
    commands: tuple[ev.Command, ...] = (ev.AnswerRelease(client, folded=False),)
    if entry.standing is Standing.GRANTED:
        commands += (ev.DropUpload(client), ev.AskReoffer(client))  # it may be back here
    if closed:
        return closed(ledger), commands
    return _settle_if_decided(ledger, commands)


def _offered(ledger: Ledger, header: UpdateHeader) -> Outcome:
    entry = ledger.entries.get(header.client)
    if entry is None or entry.standing is Standing.RELEASED:
        return Open(ledger), (ev.RequestRelease(header),)
    if entry.header is not None and entry.standing in PENDING | {Standing.FOLDED, Standing.REFUSED}:
        return Open(ledger), (_answer_again(ledger, header),)
    ledger = ledger.offered()
    if refused := _judge(ledger, header):
        ledger = ledger.put(header.client, _refused(header, refused), "refused")
        return _settle_if_decided(ledger, (ev.RefuseUpdate(header, refused),))
    return Open(ledger.put(header.client, Entry(Standing.GRANTED, header))), (ev.GrantUpload(header),)


def _refused(header: UpdateHeader, refused: Refused) -> Entry:
    return Entry(Standing.REFUSED, header, refused.reason, refused.code)


def _judge(ledger: Ledger, header: UpdateHeader) -> Refused | None:
    """What can be seen from the header alone."""
    spec, limit = ledger.spec, min(ledger.max_update_bytes, ledger.spec.model_size + HEADER_SLACK)
    if header.base_model != spec.model:
        return Refused(
            RefusalCode.WRONG_BASE_MODEL,
            f"trained from {header.base_model[:12]}, round {spec.round} starts from {spec.model[:12]}",
        )
    if header.layout != spec.layout:
        return Refused(
            RefusalCode.WRONG_LAYOUT, "its tensors differ from the base model's in name, dtype or shape"
        )
    if not 0 < header.size <= limit:
        return Refused(RefusalCode.TOO_LARGE, f"{header.size} bytes; the limit here is {limit}")
    if not 1 <= header.examples <= MAX_EXAMPLES:
        return Refused(RefusalCode.BAD_WEIGHT, f"{header.examples} examples; 1 to {MAX_EXAMPLES} are allowed")
    return None


def _answer_again(ledger: Ledger, header: UpdateHeader) -> ev.Command:
    """The same update gets the same answer; another one under the same identity is refused."""
    entry = ledger.entries.get(header.client)
    if entry is None or entry.header is None:
        return ev.RequestRelease(header)
    if entry.header.digest != header.digest:
        reason = f"round {header.round} already has another update of this client"
        return ev.RefuseUpdate(header, Refused(RefusalCode.DIGEST_CONFLICT, reason))
    match entry.standing:
        case Standing.FOLDED:
            return ev.SendReceipt(entry.header)
        case Standing.GRANTED | Standing.FOLDING:
            return ev.GrantUpload(entry.header)
        case Standing.REFUSED:
            return ev.RefuseUpdate(header, Refused(entry.code or RefusalCode.NOT_SELECTED, entry.reason))
        case Standing.WAITING | Standing.FAILED | Standing.LOST | Standing.RELEASED:
            return ev.RequestRelease(header)
        case _:
            assert_never(entry.standing)


def _granted(ledger: Ledger, client: ClientId, digest: Digest) -> Entry | None:
    entry = ledger.entries.get(client)
    if entry is None or entry.standing is not Standing.GRANTED or entry.header is None:
        return None
    return entry if entry.header.digest == digest else None


def _verified(ledger: Ledger, client: ClientId, digest: Digest) -> Outcome:
    entry = _granted(ledger, client, digest)
    if entry is None or entry.header is None:
        return Open(ledger), ()  # released or lost while it was being checked
    folding = replace(entry, standing=Standing.FOLDING, reason="", away_since=None)
    return Open(ledger.put(client, folding)), (ev.FoldUpdate(entry.header),)


def _rejected(ledger: Ledger, client: ClientId, digest: Digest, refused: Refused) -> Outcome:
    entry = _granted(ledger, client, digest)
    if entry is None or entry.header is None:
        return Open(ledger), ()
    ledger = ledger.put(client, _refused(entry.header, refused))
    return _settle_if_decided(ledger, (ev.DropUpload(client), ev.RefuseUpdate(entry.header, refused)))


def _folded(ledger: Ledger, client: ClientId, digest: Digest) -> tuple[Ledger, tuple[ev.Command, ...]]:
    entry = ledger.entries.get(client)
    if entry is None or entry.standing is not Standing.FOLDING or entry.header is None:
        raise InvalidTransition(f"{client} was folded without being asked for", story=[entry, digest])
    folded = ledger.put(client, replace(entry, standing=Standing.FOLDED))
    return folded, (ev.SendReceipt(entry.header),)


def _ticked(ledger: Ledger, now: float) -> Outcome:
    commands: tuple[ev.Command, ...] = ()
    for client, since in ledger.away.items():
        if now >= since + ledger.grace:
            entry = ledger.entries[client]
            if entry.standing is Standing.GRANTED:
                commands += (ev.DropUpload(client),)
            reason = f"{entry.reason or 'left'} and did not come back within {ledger.grace:g} s"
            ledger = ledger.put(client, Entry(Standing.LOST, reason=reason))
    if now >= ledger.closes_at:
        return _close(ledger, commands)
    return _settle_if_decided(ledger, commands)


def _settle_if_decided(ledger: Ledger, commands: tuple[ev.Command, ...]) -> Outcome:
    if ledger.undecided:
        return Open(ledger), commands
    return _close(ledger, commands)


def _close(ledger: Ledger, commands: tuple[ev.Command, ...]) -> Outcome:
    """Stop granting: who is not here by now is lost, an unfinished upload is discarded.

    Whose upload that was is asked for it at the ack, not now: an offer now may have the reducer hold a
    round that has its quorum, for one more deadline, and again if the upload is too slow for that.
    """
    for client, entry in ledger.entries.items():
        if entry.standing is Standing.WAITING:
            commands += (ev.CancelTask(client, "the round is closed"),)
            ledger = ledger.put(client, Entry(Standing.LOST, reason="no update by the deadline"))
        elif entry.standing is Standing.GRANTED:
            commands += (ev.DropUpload(client),)
            late = Entry(Standing.LOST, reason="upload not complete by the deadline")
            ledger = ledger.put(client, late, "discarded")
    return _hash_if_folded(ledger, commands)


def _hash_if_folded(ledger: Ledger, commands: tuple[ev.Command, ...]) -> Outcome:
    """Once no fold is under way the sum is final."""
    return Closing(ledger), commands if ledger.counts.pending else (*commands, ev.HashSum())


def _settlements(ledger: Ledger, counted: bool, elsewhere: frozenset[ClientId]) -> tuple[ev.Command, ...]:
    """Tell what this part alone decides. Whoever is lost or released here, or folded into a part that does
    not count, may count elsewhere by now, and may be back here: it offers again and is told from the record.
    """
    commands: tuple[ev.Command, ...] = ()
    for client, entry in ledger.entries.items():
        if client in elsewhere or entry.standing is Standing.FAILED:
            continue  # who failed holds nothing, and may count at another combiner by now
        if entry.standing is Standing.FOLDED and counted:
            commands += (ev.SettleClient(client, True, ""),)
        elif entry.standing is Standing.REFUSED and counted:
            commands += (ev.SettleClient(client, False, entry.reason),)
        else:
            commands += (ev.AskReoffer(client),)
    return commands


def _abort(ledger: Ledger, reason: str, reoffer: bool) -> Outcome:
    commands: tuple[ev.Command, ...] = (ev.AnnounceAbort(reason),)
    for client, entry in ledger.entries.items():
        if entry.standing in PENDING:
            commands += (ev.DropUpload(client),)
            ledger = ledger.put(client, Entry(Standing.LOST, reason=reason), "discarded")
        if not reoffer and entry.standing is not Standing.REFUSED:  # it may be training still: that ends, too
            commands += (ev.SettleClient(client, False, reason),)
        elif entry.standing not in EMPTY_HANDED:
            commands += (ev.AskReoffer(client),)
    return Aborted(ledger, reason), commands


def _impossible(state: State, event: ev.Event) -> InvalidTransition:
    return InvalidTransition(
        f"{type(event).__name__} can't happen when {type(state).__name__}", story=[state, event]
    )
