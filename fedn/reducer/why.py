"""Why a session or a round is slow, waits, rests, or has ended as it did. Pure.

`explain` looks at the causes in order: what keeps everything, then what keeps this session, then its open
round. Committed rounds and sessions that have ended are those of `why_past.py`; `rest_why.py` gathers the
facts, and `fedn why` asks it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from statistics import median

from fedn.domain.round import OVER
from fedn.reducer.why_answer import answer, clients, combiners
from fedn.reducer.why_facts import Cause, Explanation, Facts, Link, Standing
from fedn.reducer.why_past import committed, ended
from fedn.reducer.why_words import because, counted, named, short, span

PENDING = ("waiting", "training", "uploading")
"""States of a client that something is still to come from."""
DOING = {
    "waiting": "has not begun to train",
    "training": "is training",
    "uploading": "is uploading its update",
}
NEAR = 0.2
"""The part of a deadline that is left when it is called near."""
OF_NOBODY = frozenset({"reducer", "network", "check", "home", "metric"})
"""Sources of hindrances that are no combiners."""
PACKAGELESS = "this client runs packages, and the session has none"
"""As clients say it (`client/packages.py`)."""
WITH_A_PACKAGE = (
    "stop the session, and start another with a package: `fedn session start --package`, or on the page that "
    "starts sessions; `fedn package list` shows those there are"
)
FULL = ("no room", "disk is full", "no space", "disk full", "quota")


def explain(facts: Facts) -> Explanation:
    """The cause that comes first; every state of a session has one."""
    if facts.store:
        return _unkept(facts, facts.store, f"Nothing is known of session {facts.session} just now")
    if facts.committed:
        return committed(facts, facts.committed)
    if facts.state in OVER:
        return ended(facts)
    return _everybody(facts) or _paused(facts) or _by_phase(facts)


def _by_phase(facts: Facts) -> Explanation:
    match facts.phase:
        case "running":
            return _hindered(facts) or _below_quorum(facts) or _under_way(facts)
        case "committing":
            return answer(
                facts, Cause.REDUCING,
                f"{_which(facts)} has its updates ({facts.received} of {facts.expected}), and their mean is "
                "being computed and stored",
            )  # fmt: skip
        case "finishing":
            return _validating(facts)
        case "ended":
            return answer(facts, Cause.REDUCING, f"Session {facts.called} ends; that is being stored")
        case _:
            return _hindered(facts) or _not_begun(facts)


def _which(facts: Facts) -> str:
    return f"Round {facts.round} of {facts.rounds:,}"


# --- what keeps everything -------------------------------------------------------------------------


def _everybody(facts: Facts) -> Explanation | None:
    if reason := facts.hindrances.get("reducer"):
        return _unkept(facts, reason, f"{_which(facts)} waits")
    if "starting" in (facts.ready, facts.waits) or (not facts.ready and not facts.phase):
        return answer(
            facts, Cause.STARTING,
            f"Session {facts.called} does not run yet: the reducer has just started and looks for the "
            "combiners that it knows from before.",
        )  # fmt: skip
    if facts.ready:
        return answer(facts, Cause.ANOTHER_REDUCER,
                      f"This reducer does not run sessions any more: {facts.ready}.")  # fmt: skip
    return None


def _unkept(facts: Facts, reason: str, begun: str) -> Explanation:
    """A store of the reducer that is full or out of reach, in its own words."""
    cause, why = Cause.STORE_UNREACHABLE, "a store of the reducer does not do its work"
    if _full(reason):
        cause, why = Cause.STORE_FULL, "a store of the reducer has no room"
    kept = "It is tried again and again; clients and combiners keep what is trained meanwhile"
    return answer(facts, cause, f"{begun}, because {why}: {short(reason)}", kept)


def _full(reason: str) -> bool:
    return any(word in reason.lower() for word in FULL)


def _paused(facts: Facts) -> Explanation | None:
    if facts.state != "paused" and facts.phase != "paused":
        return None
    if facts.phase == "running":
        rest = f"Its open round {facts.round} is still committed: it has {_updates(facts)}"
        if facts.waits and facts.received < facts.min_clients:
            rest += ", and asks nobody else for the rest while the session is paused"
    else:
        done = f"{counted(facts.head, 'round')} of {facts.rounds:,} are committed"
        rest = f"{done}, and no other begins until then"
    why = f" ({facts.waits})" if facts.waits and facts.phase == "paused" else ""
    return answer(facts, Cause.PAUSED, f"Session {facts.called} rests until somebody resumes it{why}", rest)


def _updates(facts: Facts) -> str:
    return f"{facts.received} of {counted(facts.expected, 'update')}"


# --- combiners -------------------------------------------------------------------------------------


def _hindered(facts: Facts) -> Explanation | None:
    """No combiner, or one that is away or says that it can't."""
    if not facts.live:
        away = [one.combiner for one in facts.stations]
        known = f"{named(away)} can't be reached" if away else "none has ever registered"
        return answer(
            facts, Cause.NO_COMBINER, f"{_which(facts)} waits because no combiner is connected: {known}",
            "Clients keep what they have trained until then", links=combiners(*away),
        )  # fmt: skip
    for source, reason in facts.hindrances.items():
        if source not in OF_NOBODY:
            return _at_combiner(facts, source, reason)
    away = [one.combiner for one in facts.standings if _open(facts, one) and _gone(facts, one.combiner)]
    return _moved(facts, away[0], "") if away else None


def _open(facts: Facts, one: Standing) -> bool:
    """Whether something is to come of it; who is only lost with its combiner may come back elsewhere."""
    return one.state in PENDING or (one.state == "lost" and one.client not in facts.lost)


def _gone(facts: Facts, combiner: str) -> bool:
    return bool(combiner) and bool(facts.stations) and combiner not in facts.live


def _at_combiner(facts: Facts, combiner: str, reason: str) -> Explanation:
    if reason.startswith(f"combiner {combiner} is out of reach") or _gone(facts, combiner):
        return _moved(facts, combiner, reason)
    cause = Cause.STORE_FULL if _full(reason) else Cause.COMBINER_FAULT
    said = short(reason.removeprefix(f"combiner {combiner}: "))
    return answer(facts, cause, f"{_which(facts)} waits for {combiner}, which says: {said}",
                  "It is asked again every few seconds", links=combiners(combiner))  # fmt: skip


def _moved(facts: Facts, combiner: str, reason: str) -> Explanation:
    """A combiner out of reach: since when, and where its clients are now."""
    station = next((one for one in facts.stations if one.combiner == combiner), None)
    seen = f", last seen {span(facts.now - station.seen_at)} ago," if station and station.seen_at else ""
    why = f" ({short(reason.partition('(')[2].removesuffix(')'))})" if "(" in reason else ""
    its = {one.client for one in facts.standings if one.combiner == combiner and _open(facts, one)}
    its |= set(station.had if station and not station.live else ())
    here = its & facts.attached
    parts = [f"{_which(facts)} waits because {combiner}{seen} is out of reach{why}"]
    if here:
        parts.append(f"{counted(len(here), 'client')} of it moved to another combiner: {named(here)}")
    if rest := its - here:
        parts.append(f"{counted(len(rest), 'client')} of it did not come back yet: {named(rest)}")
    parts.append("What clients have trained counts once they are attached again")
    return answer(facts, Cause.COMBINER_AWAY, *parts, links=combiners(combiner) + clients(*sorted(its)))


# --- before a round --------------------------------------------------------------------------------


def _not_begun(facts: Facts) -> Explanation:
    """Who could take part, and why the others can't."""
    able = facts.attached - facts.unfit.keys()
    unfit = {client: reason for client, reason in facts.unfit.items() if client in facts.attached}
    need = facts.min_clients
    if facts.package and not facts.package_there and (unfit or len(able) < need):
        return _no_package(facts)
    begun = f"{_which(facts)} has not begun"
    if len(able) >= need:
        return _ready_to_begin(facts, begun)
    missing = f"it needs {counted(need, 'client')} (min_clients), and {len(able)} can take part"
    parts = [f"{begun}: {missing}" + (f" ({named(able)})" if able else "")]
    if unfit:
        parts.append(
            f"{counted(len(unfit), 'client')} {_is(unfit)} attached and can't take part: {because(unfit)}"
        )
    elif not facts.attached:
        parts.append(f"Nobody is attached to {named(facts.live)}")
    if drained := [one.combiner for one in facts.stations if one.live and one.drains]:
        parts.append(f"No client is sent to {named(drained)}, which {_is(drained)} being drained")
    cause = Cause.UNFIT_CLIENTS if len(able) + len(unfit) >= need else Cause.TOO_FEW_CLIENTS
    found = answer(facts, cause, *parts, links=clients(*sorted(unfit)))
    packageless = not facts.package and any(PACKAGELESS in reason for reason in unfit.values())
    return replace(found, remedy=WITH_A_PACKAGE) if packageless and cause is Cause.UNFIT_CLIENTS else found


def _is(some: Collection[str]) -> str:
    return "is" if len(some) == 1 else "are"


def _ready_to_begin(facts: Facts, begun: str) -> Explanation:
    """Enough are there; something else keeps it, or it begins just now."""
    if home := facts.hindrances.get("home"):
        return answer(facts, Cause.CLIENTS_ELSEWHERE, f"{begun}: {short(home)}")
    why = "clients are checking whether their data and code go with the model"
    if facts.waits == "" or facts.phase == "planning":
        why = "its clients are being chosen"
    return answer(facts, Cause.CHECKING, f"{begun}: {why}. {counted(len(facts.attached), 'client')} attached")


def _no_package(facts: Facts) -> Explanation:
    return answer(
        facts, Cause.PACKAGE_MISSING,
        f"Session {facts.called} can't go on: its compute package {facts.package[:12]} is not in the "
        "model store",
        because(facts.unfit) if facts.unfit else "", links=(Link("package", facts.package),),
    )  # fmt: skip


# --- an open round ---------------------------------------------------------------------------------


def _below_quorum(facts: Facts) -> Explanation | None:
    """It was judged once, and too few updates counted: why the others did not."""
    if not facts.waits:
        return None
    failed = {one: why for one, why in facts.refused.items() if why.startswith("training failed")}
    refused = {one: why for one, why in facts.refused.items() if one not in failed}
    if facts.package and not facts.package_there and failed:
        return _no_package(facts)
    counts = ((len(refused), Cause.REFUSED_UPDATES), (len(failed), Cause.FAILED_TRAININGS),
              (len(facts.lost), Cause.LOST_CLIENTS))  # fmt: skip
    most, cause = max(counts, key=lambda count: count[0])
    parts = [f"{_which(facts)} has {facts.received} of the {facts.min_clients} updates that it needs "
             "(min_clients) and waits for more clients"]  # fmt: skip
    if refused:
        parts.append(f"{counted(len(refused), 'update')} refused: {because(refused)}")
    if failed:
        parts.append(f"{counted(len(failed), 'training')} failed and will be asked again: {because(failed)}")
    if facts.lost:
        parts.append(f"{counted(len(facts.lost), 'client')} lost: {because(facts.lost)}")
    if pending := _pending(facts):
        parts.append(_who_is_missing(facts, pending))
    named_here = clients(*sorted({**facts.refused, **facts.lost}))
    return answer(facts, cause if most else Cause.TOO_FEW_CLIENTS, *parts, links=named_here)


def _pending(facts: Facts) -> list[Standing]:
    """Those that something is still to come from, the one that is at it longest first."""
    return sorted((one for one in facts.standings if one.state in PENDING), key=lambda one: one.since)


def _under_way(facts: Facts) -> Explanation:
    """All is well, but for who takes longer than the others."""
    pending, opened = _pending(facts), _opened(facts)
    open_for = facts.now - opened if opened else 0.0
    took = sorted(
        one.since - opened for one in facts.standings if one.state == "folded" and one.since and opened
    )
    parts = [f"{_which(facts)} has {_updates(facts)}" + (f" after {span(open_for)}" if opened else "")]
    if pending:
        parts.append(_who_is_missing(facts, pending))
    if took:
        parts.append(f"The others took {span(median(took))}" + (" in the median" if len(took) > 1 else ""))
    elif facts.usually:
        parts.append(f"The session's rounds took {span(facts.usually)} in the median")
    if facts.refused or facts.lost:
        parts.append("Not counted: " + because({**facts.lost, **facts.refused}))
    left = opened + facts.deadline - facts.now if opened and facts.deadline else None
    parts.append(_deadline(facts, left))
    if pending and facts.stragglers:
        cause = Cause.STRAGGLER
    elif pending and left is not None and left < NEAR * facts.deadline:
        cause = Cause.DEADLINE_NEAR
    else:
        cause = Cause.TRAINING if pending or facts.received < facts.expected else Cause.REDUCING
    return answer(facts, cause, *parts, links=clients(*(one.client for one in pending)))


def _opened(facts: Facts) -> float:
    """When the round was opened; as far as that is forgotten, the first thing that is known of it."""
    return facts.opened_at or min((one.since for one in facts.standings if one.since), default=0.0)


def _who_is_missing(facts: Facts, pending: list[Standing]) -> str:
    """Each by name with what it does and since when, of many the first ones."""
    if len(pending) > 3:
        states = [(state, sum(one.state == state for one in pending)) for state in PENDING]
        said = ", ".join(f"{number} {state}" for state, number in states if number)
        return f"It waits for {len(pending)} clients ({said}): {named([one.client for one in pending])}"
    said = "; ".join(
        f"{one.client} {DOING[one.state]}"
        + (f", for {span(facts.now - one.since)} now" if one.since else "")
        + (f" (at {one.combiner})" if one.combiner else "")
        for one in pending
    )
    return f"It waits for {counted(len(pending), 'client')}: {said}"


def _deadline(facts: Facts, left: float | None) -> str:
    if left is None:
        return ""
    when = f"in {span(left)} at the latest" if left > 0 else "at any moment"
    goes_on = facts.received >= facts.min_clients
    then = "it is committed with what is in" if goes_on else "it looks for other clients"
    return f"Its deadline ({span(facts.deadline)}) comes {when}: then {then}"


def _validating(facts: Facts) -> Explanation:
    parts = [f"All {facts.rounds:,} rounds are committed; the session ends once clients have evaluated the "
             "last model (validation_deadline at the latest)"]  # fmt: skip
    if facts.failed:
        parts.append(f"{counted(len(facts.failed), 'client')} failed at that: {because(facts.failed)}")
    return answer(facts, Cause.VALIDATING, *parts, links=clients(*sorted(facts.failed)))


__all__ = ["Cause", "Explanation", "Facts", "explain"]
