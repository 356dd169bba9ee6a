"""What every explanation has in common: what was recorded, what can be done, and what it names. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from fedn.reducer.why_facts import Cause, Explanation, Facts, Link
from fedn.reducer.why_words import by_name, paragraph, short, span

EVIDENCE_MOST = 30
LINKS_MOST = 20

_ANEW = "then start another session on its last model: `fedn session start --model`"
REMEDIES: Mapping[Cause, str] = {
    Cause.ANOTHER_REDUCER: "ask the reducer that leads; this one has nothing to say any more",
    Cause.STARTING: "wait: it goes on once the combiners known from before are here or given up",
    Cause.STORE_FULL: "make room on that disk, and it goes on; `fedn store stats` shows what takes room, "
    "`fedn trail prune` removes old models",
    Cause.STORE_UNREACHABLE: "bring the store back, and it goes on; nothing is lost",
    Cause.NO_COMBINER: "start one with `fedn combiner start`, or see in its log why it can't register",
    Cause.COMBINER_AWAY: "see whether its process and machine are up; its clients move if there is another",
    Cause.COMBINER_FAULT: "mend what the combiner says; it is asked again by itself",
    Cause.PAUSED: "`fedn session resume` goes on with it",
    Cause.TOO_FEW_CLIENTS: "start more with `fedn client start`, or a session with a smaller min_clients",
    Cause.UNFIT_CLIENTS: "mend that at those clients and start them again, or start others; "
    "`fedn run check` tries a package with their data beforehand",
    Cause.CLIENTS_ELSEWHERE: "attach the clients to one combiner, or use an aggregator whose parts merge",
    Cause.CHECKING: "wait; those that do not answer are not waited for longer than half a minute",
    Cause.PACKAGE_MISSING: "upload it again with `fedn package upload`; if the session has failed, "
    "start it anew",
    Cause.REFUSED_UPDATES: "mend the app or package at those clients and start them again, or start others",
    Cause.FAILED_TRAININGS: "mend what their trainings say; each is asked again after a pause",
    Cause.LOST_CLIENTS: "start those clients again, or start others; the round goes on with whoever comes",
    Cause.STRAGGLER: "look at that client's machine; a lower round_deadline goes on without who hangs",
    Cause.DEADLINE_NEAR: "if these trainings are to count, give the next session a longer round_deadline",
    Cause.SLOW_WAITING: "see what the clients did before: other sessions, their owner's hours, an install",
    Cause.SLOW_UPLOADING: "look at the way from these clients to their combiners",
    Cause.SLOW_REDUCING: "look at the disks and processors of combiners and reducer, and at the stores",
    Cause.SLOW_TRAINING: "look at what else these machines do, or have fewer local steps in a round",
    Cause.CANCELLED: f"if it was not meant, {_ANEW}",
    Cause.FAILED: f"mend that, {_ANEW}",
}
"""What a person can do about it; nothing, for the causes that are not here."""


def answer(facts: Facts, cause: Cause, *parts: str, links: tuple[Link, ...] = ()) -> Explanation:
    """One paragraph of ``parts``, with the evidence and the remedy that go with it."""
    evidence = tuple(by_name(line, facts.names) for line in islice(_evidence(facts), EVIDENCE_MOST))
    told = tuple(Link("event", str(one.number)) for one in facts.told if one.number)
    return Explanation(
        cause,
        by_name(paragraph(parts), facts.names),
        evidence,
        REMEDIES.get(cause, ""),
        (*links, *told)[:LINKS_MOST],
    )


def clients(*names: str) -> tuple[Link, ...]:
    return tuple(Link("client", name) for name in names)


def combiners(*names: str) -> tuple[Link, ...]:
    return tuple(Link("combiner", name) for name in names)


def _evidence(facts: Facts) -> Iterator[str]:
    """Reasons word by word, as they were recorded; long ones are cut."""
    if reason := facts.store or facts.ended or facts.waits:
        yield f"reason: {short(reason)}"
    for source, reason in facts.hindrances.items():
        yield f"{source}: {short(reason)}"
    done = facts.committed
    if done:
        yield from _absences(done.refused, done.lost)
        yield from (
            f"{client}: " + ", ".join(f"{phase} {span(seconds)}" for phase, seconds in phases.items())
            for client, phases in sorted(done.clients.items(), key=lambda item: -sum(item[1].values()))[:5]
        )
    else:
        for one in sorted(facts.standings, key=lambda one: (one.state == "folded", one.since)):
            since = f" since {span(facts.now - one.since)}" if one.since else ""
            yield f"{one.client}: {one.state}{f' at {one.combiner}' if one.combiner else ''}{since}"
        yield from _absences(facts.refused, facts.lost)
        yield from (f"{client}: can't take part: {short(reason)}" for client, reason in facts.unfit.items())
        yield from (
            f"{client}: validation failed: {short(reason)}" for client, reason in facts.failed.items()
        )
    for told in facts.told:
        yield f"event {told.number}, {span(facts.now - told.at)} ago: {short(told.text)}"


def _absences(refused: Mapping[str, str], lost: Mapping[str, str]) -> Iterator[str]:
    yield from (f"{client}: not taken: {short(reason)}" for client, reason in refused.items())
    yield from (f"{client}: lost: {short(reason)}" for client, reason in lost.items())
