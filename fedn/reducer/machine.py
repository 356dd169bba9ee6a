"""One session at the reducer: waits for clients, runs rounds one after the other, ends.

    Waiting ⇄ Planning ──▶ Running ──▶ Committing ──▶ (next round, or) Finishing ──▶ Ended
       └────⇄ Paused           └─ too few updates: waits for more clients, inside the round

Pure: `start` and `step` take state and event and return the next state and the commands for
`driver.py`; `session.py` has the words. What goes on inside a round is `round.py`'s. A committed round
is never open again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from fedn.domain.errors import InvalidTransition
from fedn.domain.ids import ClientId, CombinerName, SessionId
from fedn.domain.plan import Plan
from fedn.domain.round import Head
from fedn.reducer import legs as lg
from fedn.reducer import round as rd
from fedn.reducer import scores as sc
from fedn.reducer.legs import Round
from fedn.reducer.network import Network, attached, of_session
from fedn.reducer.session import (
    AckFromRecord,
    AckRound,
    AdmitAnswered,
    Announce,
    ClientsSelected,
    CombinerLost,
    Command,
    CommitFailed,
    CommitRound,
    Committing,
    DropSums,
    Ended,
    Event,
    FaultFound,
    Finishing,
    NetworkChanged,
    PartAborted,
    PartFetched,
    PartSealed,
    PauseAsked,
    Paused,
    Phase,
    Planning,
    ReleaseAnswered,
    ReleaseRequested,
    ResumeAsked,
    RoundCommitted,
    Running,
    SelectClients,
    SettleFromRecord,
    SkipValidation,
    StopAsked,
    Tick,
    Validate,
    ValidationEnded,
    Waiting,
)

STARTING = Waiting("starting")
MAX_VALIDATIONS = 8
"""Validations of one session that may be under way at once; more are skipped, never waited for."""


@dataclass(frozen=True, slots=True)
class State:
    session: SessionId
    plan: Plan
    head: Head
    network: Network
    orphan_grace: float
    phase: Phase = STARTING
    validating: frozenset[int] = frozenset()
    ending: Ended | None = None
    """How the session ends with the commit that is under way."""
    pause: str = ""
    """Why the session is to rest between two rounds; '' while it is not to."""
    asked: Mapping[ClientId, ReleaseRequested] = field(default_factory=dict)
    """Release requests that came while no round was open; answered as soon as it is clear."""
    whole: bool = False
    """The aggregator's parts don't merge: a round is of one part, of the clients of one combiner, who alone
    are shown here."""
    scores: sc.Scores = sc.UNSCORED


Outcome = tuple[State, tuple[Command, ...]]

# --- transitions -----------------------------------------------------------------------------------


def start(
    session: SessionId,
    plan: Plan,
    head: Head,
    network: Network,
    orphan_grace: float,
    pause: str = "",
    unvalidated: bool = False,
    *,
    whole: bool = False,
    scores: sc.Scores = sc.UNSCORED,
) -> Outcome:
    """Begin, or go on from the last committed round after a restart.

    ``pause`` is the reason of a session that is to rest; ``unvalidated``: the validation of the last
    round was under way when the reducer died; ``whole``: the aggregator's parts don't merge; ``scores``:
    those of the rounds whose metrics are stored.
    """
    state = State(session, plan, head, of_session(network, session), orphan_grace, pause=pause, whole=whole,
                  scores=scores)  # fmt: skip
    if (reason := sc.worn_out(scores, plan)) and head.round < plan.rounds:
        return _end(state, "finished", reason)
    state, commands = _greet(state, state.network)
    if unvalidated:
        state, validate = _validate(state)
        commands += validate
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
        case ValidationEnded(round_, value):
            return _validated(state, round_, value)
        case FaultFound(reason):
            return _stop(state, Ended("failed", reason))
        case StopAsked(reason):
            return _stop(state, Ended("cancelled", reason))
        case PauseAsked(reason):
            return _pause(replace(state, pause=reason))
        case ResumeAsked():
            return _resume(replace(state, pause=""))
        case _:
            return _in_round(state, event)


def next_wake(state: State) -> float | None:
    """When the next Tick is due; None if none is."""
    if isinstance(state.phase, Running):
        return rd.next_wake(state.phase.round, state.orphan_grace)
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
    if state.pause:
        return _announced(state, Paused(state.pause))
    here = tuple(sorted(attached(state.network)))
    following = state.head.round + 1
    held = {part.round for station in state.network.values() for part in station.held}
    if len(here) < state.plan.min_clients and following not in held:  # what is held may be all it takes
        reason = f"waiting for clients: {len(here)} of {state.plan.min_clients} are ready"
        return _announced(state, Waiting(reason))
    return replace(state, phase=Planning()), (SelectClients(following, here, state.plan.max_clients),)


def _selected(state: State, clients: tuple[ClientId, ...]) -> Outcome:
    match state.phase:
        case Planning(again):
            round_, commands = rd.open_round(
                state.head.round + 1, state.head.model, state.network, clients,
                quorum=state.plan.min_clients, open_to_all=not state.plan.max_clients, again=again,
            )  # fmt: skip
            state, told = _announced(state, Running(round_))
            state, more = _answer_asked(state, told + commands)
            return _judge(state, more)
        case Running(round_, reason, True):
            state = replace(state, phase=Running(round_, reason))
            if state.pause:
                return _judge(state, ())
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
    if state.whole and round_.in_pieces:
        return _begin_again(state, round_, commands)
    if round_.has_quorum:
        refused, lost = round_.absences
        commit = CommitRound(round_.number, round_.merged, refused, lost)
        return replace(state, phase=Committing(round_)), (*commands, commit)
    have, need = len(round_.accepted), round_.quorum
    free = frozenset() if state.pause else rd.candidates(round_, state.network)
    if state.whole and have and have + len(free) >= need:
        return _begin_again(state, round_, commands)
    reason = f"{have} of {need} updates; waiting for more clients" + _why(round_)
    if state.pause:
        reason = f"{state.pause}; the open round has {have} of {need} updates"
    state, told = _announced(state, Running(round_, reason, choosing=bool(free)))
    if free:
        most = state.plan.max_clients
        told += (
            SelectClients(round_.number, tuple(sorted(free)), max(most - have, need - have) if most else 0),
        )
    return state, commands + told


def _begin_again(state: State, round_: Round, commands: tuple[Command, ...]) -> Outcome:
    """Ask for all updates once more, in one part, when another one would not merge with what is there."""
    round_, aborts = rd.begun_again(round_)
    here = tuple(sorted(rd.candidates(round_, state.network)))
    select = SelectClients(round_.number, here, state.plan.max_clients)
    return replace(state, phase=Planning(round_)), (*commands, *aborts, DropSums(), select)


def _why(round_: Round) -> str:
    """The first refusal or loss in words, so that a person sees what to mend."""
    absences = [*round_.failed.items(), *round_.refused.items(), *round_.lost.items()]
    return f" ({absences[0][0]}: {absences[0][1]})" if absences else ""


def _release(state: State, asked: ReleaseRequested) -> Outcome:
    combiner, header = asked.combiner, asked.header
    if header.round <= state.head.round or isinstance(state.phase, Ended):
        return state, (SettleFromRecord(combiner, header),)
    elsewhere = state.whole and attached(state.network).get(header.client) != combiner
    if isinstance(state.phase, Running) and header.round == state.phase.round.number and not elsewhere:
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
    commands: tuple[Command, ...] = _acks(round_, state.network)
    commands += _settle_moved(round_, state.network) + _settle_lost(round_, state.network)
    state, validate = _validate(state)
    commands += validate
    ending = state.ending
    state, more = _end(state, ending.outcome, ending.reason) if ending else _plan_next(state)
    return _answer_asked(state, (*commands, DropSums(), *more))


def _validate(state: State) -> Outcome:
    """Have the newest model evaluated, if anybody is here to do it, and not too far behind."""
    head = state.head
    if not state.plan.validate or not attached(state.network):
        return state, ()
    if len(state.validating) >= MAX_VALIDATIONS:
        return state, (SkipValidation(head.round),)
    state = replace(state, validating=state.validating | {head.round})
    return state, (Validate(head.round, head.model, head.model_size),)


def _validated(state: State, round_: int, value: float | None) -> Outcome:
    """A model that was not better may be one too many: then the open round is dropped, unless its commit is
    under way.
    """
    under_way = state.validating - {round_}
    score = None if value is None else sc.Score(round_, value)
    scores = sc.validated(state.scores, state.plan, score, under_way)
    state = replace(state, validating=under_way, scores=scores)
    if (reason := sc.worn_out(scores, state.plan)) and not isinstance(state.phase, Finishing):
        return _stop(state, Ended("finished", reason))
    return _finish(state)


def _acks(round_: Round, network: Network) -> tuple[Command, ...]:
    """To every combiner that had a leg, as the process that it is now: an earlier one's parts are gone.

    One that is away can come back only as the process that had its last leg, or as one that holds nothing.
    """
    there = {key.combiner: key.incarnation for key in round_.legs}
    there |= {name: station.incarnation for name, station in network.items()}
    counted: dict[CombinerName, list[int]] = {}
    for key, leg in round_.legs.items():
        if key.incarnation != there[key.combiner]:
            continue
        numbers = counted.setdefault(key.combiner, [])
        if leg.phase is lg.Phase.MERGED:
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
                moved.append(lg.Settle(here, contributor.client, round_.number, True, ""))
    return tuple(moved)


def _settle_lost(round_: Round, network: Network) -> tuple[Command, ...]:
    """Lost clients that are here need not wait any longer: nobody will ask for this round again."""
    where = attached(network)
    return tuple(
        lg.Settle(where[gone.client], gone.client, round_.number, False, gone.reason)
        for gone in round_.absences[1]
        if gone.client in where
    )


def _stop(state: State, ending: Ended) -> Outcome:
    """A commit that is under way is waited for: its record may be durable, and is what clients are told."""
    match state.phase:
        case Ended():
            return state, ()
        case Committing():
            return replace(state, ending=state.ending or ending), ()
        case _:
            return _end(state, ending.outcome, ending.reason)


def _pause(state: State) -> Outcome:
    """At once where no round is open; else the open one is committed first."""
    match state.phase:
        case Waiting() | Planning():
            return _announced(state, Paused(state.pause))
        case Running():
            return _judge(state, ())
        case _:
            return state, ()


def _resume(state: State) -> Outcome:
    match state.phase:
        case Paused():
            return _plan_next(state)
        case Running():
            return _judge(state, ())
        case _:
            return state, ()


def _end(state: State, outcome: str, reason: str) -> Outcome:
    commands: tuple[Command, ...] = ()
    if isinstance(state.phase, Running | Committing):
        for key, leg in state.phase.round.legs.items():
            if leg.phase is not lg.Phase.VOID:
                commands += (lg.AbortPart(key, f"the session is {outcome}", reoffer=False),)
        commands += (*_settle_lost(state.phase.round, state.network), DropSums())
        state, told = _announced(state, Ended(outcome, reason))
    else:
        state, told = _announced(state, Ended(outcome, reason))
        state, commands = _greet(state, state.network)  # parts held from before a restart, never adopted
    return _answer_asked(state, commands + told)


def _finish(state: State) -> Outcome:
    if isinstance(state.phase, Finishing) and not state.validating:
        return _announced(state, Ended("finished", sc.never_seen(state.scores, state.plan)))
    return state, ()


def _announced(state: State, phase: Phase) -> Outcome:
    """Enter a phase; tell it unless it is the same as before."""
    same = state.phase == phase
    return replace(state, phase=phase), () if same else (Announce(phase),)


__all__ = [
    "AckFromRecord", "AckRound", "AdmitAnswered", "Announce", "ClientsSelected", "CombinerLost",
    "Command", "CommitFailed", "CommitRound", "Committing", "DropSums", "Ended", "Event", "FaultFound",
    "Finishing", "NetworkChanged", "Outcome", "PartAborted", "PartFetched", "PartSealed", "PauseAsked",
    "Paused", "Phase", "Planning", "ReleaseAnswered", "ReleaseRequested", "ResumeAsked", "RoundCommitted",
    "Running", "SelectClients", "SettleFromRecord", "SkipValidation", "State", "StopAsked", "Tick",
    "Validate", "ValidationEnded", "Waiting", "next_wake", "start", "step",
]  # fmt: skip
