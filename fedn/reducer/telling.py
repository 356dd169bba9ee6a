"""What people are told of a session: what it does just now, and that its phase has changed. Pure."""

from __future__ import annotations

from typing import Any, assert_never

from fedn.domain.ids import SessionId
from fedn.domain.plan import Plan
from fedn.domain.round import Head
from fedn.reducer import legs as lg
from fedn.reducer import machine as mc
from fedn.reducer.network import Network
from fedn.reducer.scores import metric_of

STARTING = mc.Waiting("starting")


def phase_of(state: mc.State | None) -> mc.Phase:
    """A session that has no machine yet is starting."""
    return state.phase if state else STARTING


def open_round(state: mc.State | None) -> lg.Round | None:
    """The round that is open or being committed, if one is."""
    phase = phase_of(state)
    return phase.round if isinstance(phase, mc.Running | mc.Committing) else None


def expected(state: mc.State | None) -> int:
    """How many clients the open round lists."""
    round_ = open_round(state)
    return len(round_.place) if round_ else 0


def progress(state: mc.State | None, reason: str, received: int) -> dict[str, Any]:
    """State, reason, best round so far; of an open round its number, expected and ``received`` updates."""
    shown: dict[str, Any] = {"state": type(phase_of(state)).__name__.lower(), "reason": reason}
    if round_ := open_round(state):
        shown |= {"round": round_.number, "expected": expected(state), "received": received}
        shown |= {"refused": {**round_.failed, **round_.refused}, "lost": dict(round_.lost)}
    if state and (best := state.scores.best):
        shown["best"] = {"metric": metric_of(state.plan), "round": best.round, "value": best.value}
    return shown


def begun(session: SessionId, number: int, network: Network) -> bool:
    """Whether a round was opened before, by an earlier life of the reducer: combiners hold parts of it."""
    held = (part for station in network.values() for part in station.held)
    return any((part.session, part.round) == (session, number) for part in held)


def announcement(phase: mc.Phase, plan: Plan, head: Head) -> tuple[str, dict[str, Any]] | None:
    """The event, with its fields, for a phase that was entered; None where there is nothing to tell."""
    match phase:
        case mc.Running(round_, "", False):
            listed = sum(len(leg.clients) for leg in round_.legs.values())
            return "round_opened", {"round": round_.number, "rounds": plan.rounds, "expected": listed}
        case mc.Running(round_, reason):
            return "waiting", {"round": round_.number, "reason": reason}
        case mc.Waiting(reason) | mc.Paused(reason):
            return "waiting", {"round": head.round + 1, "reason": reason}
        case mc.Ended() | mc.Planning() | mc.Committing() | mc.Finishing():
            return None
        case _:
            assert_never(phase)
