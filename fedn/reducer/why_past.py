"""Why a committed round took as long as it did, and why a session ended. Pure; `why.py` asks here."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from fedn.domain.messages import LAPS
from fedn.reducer.why_answer import answer, clients
from fedn.reducer.why_facts import Cause, Committed, Explanation, Facts, Link
from fedn.reducer.why_words import because, counted, listed, span

SLOW = 1.5
"""So many times as long as in the median of the others is called slow."""
ORDER = ("clients", *LAPS, "reducing", "committing")
"""Phases and laps as they come."""
CAUSES = {
    "waiting": Cause.SLOW_WAITING, "training": Cause.SLOW_TRAINING, "queued": Cause.SLOW_UPLOADING,
    "uploading": Cause.SLOW_UPLOADING, "reducing": Cause.SLOW_REDUCING, "committing": Cause.SLOW_REDUCING,
}  # fmt: skip

# --- ended -----------------------------------------------------------------------------------------


def ended(facts: Facts) -> Explanation:
    """How a session came to its end."""
    rounds = f"{facts.head} of {counted(facts.rounds, 'round')} committed"
    before = f"Round {facts.round} was never committed" if facts.round > facts.head else ""
    reason = facts.ended
    match facts.state:
        case "finished" if facts.head < facts.rounds:
            return answer(facts, Cause.STOPPED_EARLY, before, f"Session {facts.called} ended early, with "
                          f"{rounds}: {reason}")  # fmt: skip
        case "finished":
            return answer(
                facts, Cause.FINISHED, f"Session {facts.called} has finished, with {rounds}", reason
            )
        case "cancelled":
            why = f": {reason}" if reason else ""
            return answer(
                facts, Cause.CANCELLED, before, f"Session {facts.called} was stopped, with {rounds}{why}"
            )
        case _:
            return _failed(facts, before, rounds)


def _failed(facts: Facts, before: str, rounds: str) -> Explanation:
    cause, parts = Cause.FAILED, [before]
    links: tuple[Link, ...] = ()
    parts.append(f"Session {facts.called} failed, with {rounds}: {facts.ended or 'no reason was recorded'}")
    if facts.package and not facts.package_there and facts.package[:12] in facts.ended:
        cause = Cause.PACKAGE_MISSING
        links = (Link("package", facts.package),)
        parts.append(f"Its compute package {facts.package[:12]} is not in the model store")
    if facts.unfit:
        parts.append(f"{counted(len(facts.unfit), 'client')} could not take part: {because(facts.unfit)}")
    return answer(facts, cause, *parts, links=links)


# --- committed -------------------------------------------------------------------------------------


def committed(facts: Facts, done: Committed) -> Explanation:
    """Where the time of a committed round went, beside the session's other rounds."""
    counts = f"{counted(done.contributors, 'update')} went into it"
    begun = f"Round {facts.round} of {facts.rounds:,} is committed; {counts}"
    parts = [begun + (f". It took {span(done.took)}" if done.took else "") + _beside(done)]
    if spent := _spent(done.seconds):
        parts.append(f"Of that went: {spent}")
    phase = _slow(done)
    if phase in done.usual:
        usual = span(done.usual[phase])
        parts.append(f"What took longer is {phase}: {span(done.seconds[phase])}, usually {usual}")
    slowest, apart, others = _slowest(done)
    if slowest:
        times = _spent(done.clients[slowest])
        parts.append(f"The slowest client was {slowest} ({times})" + _of_others(done, others))
    cause = _cause(done, phase, slowest, apart)
    if done.refused:
        parts.append(f"{counted(len(done.refused), 'client')} did not count: {because(done.refused)}")
    if done.lost:
        parts.append(f"{counted(len(done.lost), 'client')} lost: {because(done.lost)}")
    named = {*([slowest] if slowest else []), *done.refused, *done.lost}
    return answer(facts, cause, *parts, links=(Link("round", str(facts.round)), *clients(*sorted(named))))


def _beside(done: Committed) -> str:
    if not (done.took and done.usually):
        return ""
    return f", and the session's other {counted(done.others, 'round')} {span(done.usually)} in the median"


def _of_others(done: Committed, others: float) -> str:
    return f"; the others took {span(others)} in the median" if others and len(done.clients) > 1 else ""


def _spent(seconds: Mapping[str, float]) -> str:
    """Phases with their times, in the order in which they come; those that nobody knows here, too."""
    known = [phase for phase in ORDER if phase in seconds]
    rest = sorted(seconds.keys() - set(ORDER))
    return listed([f"{phase} {span(seconds[phase])}" for phase in (*known, *rest)])


def _slow(done: Committed) -> str:
    """The phase by which it took longer than usual, '?' where phases are not known; '' if it did not."""
    if not (done.took and done.usually) or done.took <= SLOW * done.usually:
        return ""
    more = {phase: took - done.usual.get(phase, 0.0) for phase, took in done.seconds.items()}
    return max(more, key=lambda one: more[one], default="?")


def _slowest(done: Committed) -> tuple[str, bool, float]:
    """The client that took longest, whether it is far behind the others, and how long those took."""
    if not done.clients:
        return "", False, 0.0
    total = {client: sum(laps.values()) for client, laps in done.clients.items()}
    slowest = max(sorted(total), key=lambda client: total[client])
    rest = [seconds for client, seconds in total.items() if client != slowest]
    others = median(rest) if rest else 0.0
    return slowest, bool(rest) and total[slowest] > SLOW * others, others


def _cause(done: Committed, phase: str, slowest: str, apart: bool) -> Cause:
    """Of a round that was slow in what clients do, the slowest one's longest lap: all waited for that."""
    if not phase:
        return Cause.AS_USUAL
    if phase not in ("clients", "?") or not slowest:
        return CAUSES.get(phase, Cause.SLOW_ROUND)
    laps = done.clients[slowest]
    return Cause.STRAGGLER if apart else CAUSES.get(max(laps, key=lambda lap: laps[lap]), Cause.SLOW_ROUND)
