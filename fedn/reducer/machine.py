"""One session at the reducer: waits for clients, runs rounds one after the other, ends.

    Waiting ⇄ Planning ──▶ Running ──▶ Committing ──▶ (next round, or) Finishing ──▶ Ended
                              └─ too few updates: waits for more clients, inside the round

Pure: `start` and `step` take state and event and return the next state and the commands for
`driver.py`. What goes on inside a round is `round.py`'s. A committed round is never open again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from fedn.domain.errors import InvalidTransition
from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, SessionId
from fedn.domain.part import PartHeader
from fedn.domain.plan import Plan
from fedn.domain.round import Head, MergedPart
from fedn.domain.update import Absence, UpdateHeader
from fedn.reducer import round as rd
from fedn.reducer.network import Network, attached, of_session
from fedn.reducer.round import PartKey, Round

MAX_VALIDATIONS = 8
"""Validations of one session that may be under way at once; more are skipped, never waited for."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not enough clients to begin the next round."""

    reason: str


@dataclass(frozen=True, slots=True)
class Planning:
    """The selector is choosing among the clients that are here."""


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
class Ended:
    """``outcome`` is 'finished', 'failed' or 'cancelled'."""

    outcome: str
    reason: str = ""


Phase = Waiting | Planning | Running | Committing | Finishing | Ended


@dataclass(frozen=True, slots=True)
class State:
    session: SessionId
    plan: Plan
    head: Head
    network: Network
    orphan_grace: float
    phase: Phase = Waiting("starting")
    validating: frozenset[int] = frozenset()
    stopping: bool = False
    asked: Mapping[ClientId, ReleaseRequested] = field(default_factory=dict)
    """Release requests that came while no round was open; answered as soon as it is clear."""


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
class ValidationEnded:
    round: int


@dataclass(frozen=True, slots=True)
class StopAsked:
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    now: float


Event = (
    NetworkChanged | CombinerLost | ClientsSelected | PartSealed | PartFetched | PartAborted
    | ReleaseRequested | ReleaseAnswered | AdmitAnswered | RoundCommitted | CommitFailed | ValidationEnded
    | StopAsked | Tick
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
class Announce:
    """The phase changed in a way worth telling."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class DropSums:
    """Forget the sums of the open round."""


Command = (
    rd.Command | SelectClients | CommitRound | AckRound | SettleFromRecord | AckFromRecord | Validate
    | Announce | DropSums
)  # fmt: skip
Outcome = tuple[State, tuple[Command, ...]]

# --- transitions -----------------------------------------------------------------------------------


def start(session: SessionId, plan: Plan, head: Head, network: Network, orphan_grace: float) -> Outcome:
    """Begin, or go on from the last committed round after a restart."""
    state = State(session, plan, head, of_session(network, session), orphan_grace)
    state, commands = _greet(state, state.network)
    state, more = _plan_next(state)
    return state, commands + more


def step(state: State, event: Event) -> Outcome:
    """One decision. Events of rounds that are not open (any more) change nothing but are answered."""
    match event:
        case NetworkChanged(network):
            return _network(state, network)
        case ClientsSelected(clients):
            return _selected(state, clients)
        case ReleaseRequested():
            return _release(state, event)
        case RoundCommitted(head):
            return _committed(state, head)
        case CommitFailed(reason):
            return (state, ()) if isinstance(state.phase, Ended) else _end(state, "failed", reason)
        case ValidationEnded(round_):
            return _finish(replace(state, validating=state.validating - {round_}))
        case StopAsked(reason):
            return _stop(state, reason)
        case _:
            return _in_round(state, event)


def next_wake(state: State) -> float | None:
    """When the next Tick is due; None if none is."""
    if isinstance(state.phase, Running) and state.phase.round.orphans:
        return min(state.phase.round.orphans.values()) + state.orphan_grace
    return None


RoundBound = CombinerLost | PartSealed | PartFetched | PartAborted | ReleaseAnswered | AdmitAnswered | Tick


def _in_round(state: State, event: RoundBound) -> Outcome:
    """Events that only concern the round that is open."""
    if not isinstance(state.phase, Running):
        return state, ()
    round_, network = state.phase.round, state.network
    commands: tuple[Command, ...] = ()
    match event:
        case CombinerLost(combiner, incarnation, now):
            round_ = rd.combiner_lost(round_, combiner, incarnation, now)
            round_, commands = rd.network_changed(round_, network)
        case PartSealed(number, key, header, now) if number == round_.number:
            round_, commands = rd.part_sealed(round_, key, header, now)
            round_, moved = rd.network_changed(round_, network)
            commands += moved
        case PartFetched(number, key) if number == round_.number:
            round_, commands = rd.part_fetched(round_, key, network)
        case PartAborted(number, key, now) if number == round_.number:
            round_ = rd.part_aborted(round_, key, now)
            round_, commands = rd.network_changed(round_, network)
        case ReleaseAnswered(number, client, folded) if number == round_.number:
            round_, commands = rd.release_answered(round_, client, folded, network)
        case AdmitAnswered(number, key, client, admitted) if number == round_.number:
            round_, commands = rd.admit_answered(round_, key, client, admitted)
        case Tick(now):
            round_ = rd.tick(round_, now, state.orphan_grace)
        case PartSealed() | PartFetched() | PartAborted() | ReleaseAnswered() | AdmitAnswered():
            return state, ()
        case _:
            assert_never(event)
    return _judge(replace(state, phase=replace(state.phase, round=round_)), commands)


def _network(state: State, network: Network) -> Outcome:
    network = of_session(network, state.session)
    known = {name: (s.incarnation, s.held) for name, s in state.network.items()}
    fresh = {name: s for name, s in network.items() if known.get(name) != (s.incarnation, s.held)}
    state = replace(state, network=network)
    state, commands = _greet(state, fresh)
    match state.phase:
        case Waiting():
            state, more = _plan_next(state)
            return state, commands + more
        case Running() as phase:
            round_, changes = rd.network_changed(phase.round, network)
            return _judge(replace(state, phase=replace(phase, round=round_)), commands + changes)
        case _:
            return state, commands


def _greet(state: State, fresh: Network) -> Outcome:
    """Combiners that came up may still hold rounds that are over."""
    ended = isinstance(state.phase, Ended)
    commands: tuple[Command, ...] = ()
    for name, station in fresh.items():
        for number in sorted({held.round for held in station.held}):
            if number <= state.head.round or ended:
                commands += (AckFromRecord(name, station.incarnation, number),)
    return state, commands


def _plan_next(state: State) -> Outcome:
    if state.head.round >= state.plan.rounds:
        return _finish(replace(state, phase=Finishing()))
    here = tuple(sorted(attached(state.network)))
    if len(here) < state.plan.min_clients:
        reason = f"waiting for clients: {len(here)} of {state.plan.min_clients} are attached"
        return _announced(state, Waiting(reason))
    return replace(state, phase=Planning()), (
        SelectClients(state.head.round + 1, here, state.plan.max_clients),
    )


def _selected(state: State, clients: tuple[ClientId, ...]) -> Outcome:
    match state.phase:
        case Planning():
            round_, commands = rd.open_round(
                state.head.round + 1, state.head.model, state.network, clients, not state.plan.max_clients
            )
            state, told = _announced(state, Running(round_))
            state, more = _answer_asked(state, told + commands)
            return _judge(state, more)
        case Running(round_, reason, True):
            state = replace(state, phase=Running(round_, reason))
            if not clients:
                return state, ()  # chosen among again when the network changes
            round_, commands = rd.extend(round_, state.network, clients)
            return _judge(replace(state, phase=Running(round_, reason)), commands)
        case _:
            return state, ()


def _judge(state: State, commands: tuple[Command, ...]) -> Outcome:
    """When nothing is under way: commit if the quorum is there, else look for more clients."""
    if not isinstance(state.phase, Running) or not state.phase.round.settled or state.phase.choosing:
        return state, commands
    round_ = state.phase.round
    have, need = len(round_.accepted), state.plan.min_clients
    if have >= need:
        refused, lost = round_.absences
        commit = CommitRound(round_.number, round_.merged, refused, lost)
        return replace(state, phase=Committing(round_)), (*commands, commit)
    free = rd.candidates(round_, state.network)
    reason = f"{have} of {need} updates; waiting for more clients" + _why(round_)
    state, told = _announced(state, Running(round_, reason, choosing=bool(free)))
    if free:
        most = state.plan.max_clients
        told += (
            SelectClients(round_.number, tuple(sorted(free)), max(most - have, need - have) if most else 0),
        )
    return state, commands + told


def _why(round_: Round) -> str:
    """The first refusal or loss in words, so that a person sees what to mend."""
    absences = [*round_.refused.items(), *round_.lost.items()]
    return f" ({absences[0][0]}: {absences[0][1]})" if absences else ""


def _release(state: State, asked: ReleaseRequested) -> Outcome:
    combiner, header = asked.combiner, asked.header
    if header.round <= state.head.round or isinstance(state.phase, Ended):
        return state, (SettleFromRecord(combiner, header),)
    if isinstance(state.phase, Running) and header.round == state.phase.round.number:
        round_, commands = rd.release_requested(state.phase.round, header, combiner, state.network)
        return _judge(replace(state, phase=replace(state.phase, round=round_)), commands)
    return replace(state, asked={**state.asked, header.client: asked}), ()


def _answer_asked(state: State, commands: tuple[Command, ...]) -> Outcome:
    """A round opened or ended: what was asked meanwhile can be answered now."""
    waiting, state = state.asked, replace(state, asked={})
    for asked in waiting.values():
        state, more = _release(state, asked)
        commands += more
    return state, commands


def _committed(state: State, head: Head) -> Outcome:
    if not isinstance(state.phase, Committing):
        raise InvalidTransition("a commit ended that was not under way", story=[state.phase, head])
    round_ = state.phase.round
    state = replace(state, head=head, phase=Planning())
    commands: tuple[Command, ...] = _acks(round_, state.network) + _settle_moved(round_, state.network)
    if state.plan.validate and len(state.validating) < MAX_VALIDATIONS and attached(state.network):
        state = replace(state, validating=state.validating | {head.round})
        commands += (Validate(head.round, head.model, head.model_size),)
    state, more = _end(state, "cancelled", "stopped") if state.stopping else _plan_next(state)
    return _answer_asked(state, (*commands, DropSums(), *more))


def _acks(round_: Round, network: Network) -> tuple[Command, ...]:
    """To every combiner that had a leg, as the process that it is now: an earlier one's parts are gone."""
    counted: dict[CombinerName, list[int]] = {}
    for key, leg in round_.legs.items():
        station = network.get(key.combiner)
        if station is not None and station.incarnation != key.incarnation:
            continue
        numbers = counted.setdefault(key.combiner, [])
        if leg.phase is rd.Phase.MERGED:
            numbers.append(key.part)
    for name, station in network.items():
        if any(held.round == round_.number for held in station.held):
            counted.setdefault(name, [])  # it came up with parts while the round was being committed
    return tuple(AckRound(name, round_.number, tuple(numbers)) for name, numbers in counted.items())


def _settle_moved(round_: Round, network: Network) -> tuple[Command, ...]:
    """Contributors that are attached elsewhere by now hear of it there."""
    where = attached(network)
    moved: list[Command] = []
    for part in round_.merged:
        for contributor in part.contributors:
            here = where.get(contributor.client)
            if here is not None and (here, network[here].incarnation) != (part.combiner, part.incarnation):
                moved.append(rd.Settle(here, contributor.client, round_.number, True, ""))
    return tuple(moved)


def _stop(state: State, reason: str) -> Outcome:
    match state.phase:
        case Ended():
            return state, ()
        case Committing():
            return replace(state, stopping=True), ()
        case _:
            return _end(state, "cancelled", reason)


def _end(state: State, outcome: str, reason: str) -> Outcome:
    commands: tuple[Command, ...] = ()
    if isinstance(state.phase, Running | Committing):
        for key, leg in state.phase.round.legs.items():
            if leg.phase is not rd.Phase.VOID:
                commands += (rd.AbortPart(key, f"the session is {outcome}", reoffer=False),)
        commands += (DropSums(),)
    state, told = _announced(state, Ended(outcome, reason))
    return _answer_asked(state, commands + told)


def _finish(state: State) -> Outcome:
    if isinstance(state.phase, Finishing) and not state.validating:
        return _announced(state, Ended("finished"))
    return state, ()


def _announced(state: State, phase: Phase) -> Outcome:
    """Enter a phase; tell it unless it is the same as before."""
    same = state.phase == phase
    return replace(state, phase=phase), () if same else (Announce(phase),)
