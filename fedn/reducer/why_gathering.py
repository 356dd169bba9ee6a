"""Gathers what was recorded of a session or a round, for `why.explain`. Blocking, as the stores are.

From the stores: session, records, metrics, events. From the running reducer: `Front.round_progress`,
`Front.network` and `Front.ready`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median
from typing import Any

from fedn.domain.errors import FednError, NotFound, StoreUnavailable
from fedn.domain.ids import Digest, SessionId
from fedn.domain.update import TRAIN_SECONDS, Absence
from fedn.ports import SessionInfo, StateStore
from fedn.reducer.front import Front
from fedn.reducer.metrics import TIMING, whole_rounds
from fedn.reducer.network import NetworkView
from fedn.reducer.sentences import events_of, gravity, sentence
from fedn.reducer.why_facts import Committed, Facts, Standing, Station, Told

ROUNDS_COMPARED = 50
"""The newest ones that another round is compared with."""
TOLD_SHOWN = 5
ROWS = 2000
LOOKED_THROUGH = 100
"""Events; the newest ones."""
BESIDE = "validating"
"""The phase of a round that runs beside the next one, so that it does not count in how long it took."""
WRONG = ("warning", "error")


def gathered(front: Front, session: SessionId, number: int | None, now: float) -> Facts:
    """The facts of the present round, or how the session ended; or, by ``number``, of a committed round.

    Raises:
        NotFound: there is no such session, or the round is neither committed nor the next one.
    """
    try:
        info = front.state.session(session)
        if number is not None and 1 <= number <= info.head.round:
            facts = _committed(front, info, number, now)
        elif number in (None, info.head.round + 1):
            facts = _present(front, info, now)
        else:
            raise NotFound(_no_round(info, number), session=session, round=number)
        return replace(facts, name=info.name, names=front.network().unmistakable)
    except StoreUnavailable as error:
        return Facts(session, now, store=error.message)


def _no_round(info: SessionInfo, number: int | None) -> str:
    if number == 0:
        return "round 0 is the seed model, which nobody trained here"
    return f"session {info.session} has no round {number}; its last is {info.head.round}"


# --- the present -----------------------------------------------------------------------------------


def _present(front: Front, info: SessionInfo, now: float) -> Facts:
    plan, following = info.plan, info.head.round + 1
    progress = _progress(front, info.session)
    round_ = progress.get("round", min(following, plan.rounds) if info.state == "finished" else following)
    facts = Facts(
        session=info.session, now=now, ready=front.ready(), state=info.state,
        ended=info.reason, head=info.head.round, round=round_, rounds=plan.rounds,
        min_clients=plan.min_clients, deadline=plan.round_deadline, package=plan.package,
        package_there=_package_there(front, plan.package), phase=progress.get("state", ""),
        waits=progress.get("waits", ""), hindrances=progress.get("hindrances", {}),
        expected=progress.get("expected", 0),
        received=progress.get("received", 0), standings=_standings(progress.get("clients", {})),
        opened_at=progress.get("opened_at", 0.0),
        stragglers=tuple(progress.get("stragglers", {}).get("clients", ())),
        refused=progress.get("refused", {}), lost=progress.get("lost", {}),
        unfit={str(client): why for client, why in (front.unfit(info.session) or {}).items()},
        failed=progress.get("failed", {}).get("clients", {}),
        stations=_stations(front.network()), told=_told(front, info.session, round_),
    )  # fmt: skip
    return replace(facts, usually=_usually(front.state, info)) if facts.phase == "running" else facts


def _progress(front: Front, session: SessionId) -> Mapping[str, Any]:
    try:
        return front.round_progress(session)
    except NotFound:
        return {}


def _package_there(front: Front, package: str) -> bool:
    """Only where it is certain that it is not there."""
    try:
        return not package or front.models.size(Digest(package)) > 0
    except NotFound:
        return False
    except FednError:
        return True


def _standings(clients: Mapping[str, Mapping[str, Any]]) -> tuple[Standing, ...]:
    return tuple(
        Standing(client, str(at.get("state", "")), str(at.get("combiner", "")), float(at.get("since", 0.0)))
        for client, at in clients.items()
    )


def _stations(view: NetworkView) -> tuple[Station, ...]:
    return tuple(
        Station(
            one.combiner, one.live, tuple(info.client for info in one.clients), one.seen_at,
            bool(one.drained_at), tuple(info.client for info in one.had),
        )
        for one in view.combiners
    )  # fmt: skip


def _told(front: Front, session: SessionId, number: int) -> tuple[Told, ...]:
    """What went wrong of late, in this round or of no round."""
    names = front.network().unmistakable
    rows = front.state.events(session=session, names=events_of(WRONG), newest=True, limit=LOOKED_THROUGH)
    wrong = [row for row in rows if row.round in (number, -1) and gravity(row.event, row.fields) in WRONG]
    return tuple(
        Told(row.number, row.at, row.event, sentence(row.event, row.fields, names))
        for row in wrong[-TOLD_SHOWN:]
    )


def _usually(state: StateStore, info: SessionInfo) -> float:
    """How long the session's last rounds took, in the median; 0 where there are none."""
    spent = _spent(state, info.session)
    took = [sum(seconds.values()) for seconds in spent.values()]
    return median(took or _between(state, info.session, info.head.round).values() or [0.0])


# --- the past --------------------------------------------------------------------------------------


def _committed(front: Front, info: SessionInfo, number: int, now: float) -> Facts:
    state = front.state
    record = state.record(info.session, number).record
    spent = _spent(state, info.session, number)
    between = _between(state, info.session, number)
    seconds = spent.get(number, {})
    others = [of_round for other, of_round in spent.items() if other != number]
    took, compared = sum(seconds.values()), [sum(of_round.values()) for of_round in others]
    if not seconds:
        took, compared = between.pop(number, 0.0), list(between.values())
    done = Committed(
        len(record.contributors), _reasons(record.refused), _reasons(record.lost), took, seconds,
        _by_client(state, info.session, number), len(compared), median(compared or [0.0]), _medians(others),
    )  # fmt: skip
    return Facts(
        info.session, now, state=info.state, head=info.head.round, round=number, rounds=info.plan.rounds,
        min_clients=info.plan.min_clients, deadline=info.plan.round_deadline, committed=done,
        told=_told(front, info.session, number),
    )  # fmt: skip


def _reasons(absences: Iterable[Absence]) -> dict[str, str]:
    return {one.client: one.reason for one in absences}


def _spent(state: StateStore, session: SessionId, number: int | None = None) -> dict[int, dict[str, float]]:
    """Seconds by phase of the last rounds, and of round ``number``, as their commits were told."""
    names = ("round_committed",)
    rows = list(state.events(session=session, names=names, newest=True, limit=ROUNDS_COMPARED))
    if number is not None:
        rows += state.events(session=session, round=number, names=names, newest=True, limit=1)
    return {row.round: found for row in rows if (found := _numbers(row.fields.get("seconds")))}


def _numbers(seconds: object) -> dict[str, float]:
    if not isinstance(seconds, Mapping):
        return {}
    found = {str(phase): float(value) for phase, value in seconds.items() if isinstance(value, int | float)}
    return {phase: value for phase, value in found.items() if phase != BESIDE}


def _between(state: StateStore, session: SessionId, number: int) -> dict[int, float]:
    """How long after the one before it each round near ``number`` was committed: all that records know."""
    first = max(-1, number - ROUNDS_COMPARED // 2 - 2)
    records = [item.record for item in state.records(session, after=first, limit=ROUNDS_COMPARED)]
    return {
        later.round: max(0.0, later.committed_at - earlier.committed_at)
        for earlier, later in pairwise(records)
    }


def _by_client(state: StateStore, session: SessionId, number: int) -> dict[str, Mapping[str, float]]:
    """Seconds by client and phase; of rounds that nobody timed, what the clients say of their trainings."""
    rows = [row for row in whole_rounds(state, session, number - 1, ROWS)[0] if row.round == number]
    if timed := {str(row.client): row.metrics for row in rows if row.kind == TIMING}:
        return timed
    trained = (row for row in rows if row.kind == "train" and TRAIN_SECONDS in row.metrics)
    return {str(row.client): {"training": row.metrics[TRAIN_SECONDS]} for row in trained}


def _medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    by_phase: dict[str, list[float]] = defaultdict(list)
    for seconds in rounds:
        for phase, value in seconds.items():
            by_phase[phase].append(value)
    return {phase: median(values) for phase, values in by_phase.items()}
