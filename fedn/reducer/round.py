"""One round at the reducer: legs at combiners, parts, moved clients. Pure; `machine.py` owns it.

A leg is one part asked of one combiner process. A client has at most one place where its update may
count; it moves only when the old place has answered "not folded", or is fenced and can deliver
nothing more. So accepted parts are disjoint; `part_sealed` checks it all the same.

    leg:  RUNNING ──sealed──▶ FETCHING ──fetched──▶ MERGED
             └────────── combiner lost ────┴──▶ FENCED ──it came back, told to drop it──▶ VOID
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import TypeVar

from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation
from fedn.domain.part import PartHeader, overlap
from fedn.domain.update import Absence, UpdateHeader
from fedn.reducer.legs import (
    ACTIVE,
    AbortPart,
    Admit,
    AskRelease,
    Command,
    FetchPart,
    Leg,
    MergePart,
    OpenPart,
    PartKey,
    Phase,
    Round,
    Settle,
)
from fedn.reducer.network import Network, attached

RETRY_SECONDS, RETRY_MOST = 30.0, 3600.0
"""After so long a failed training is asked for again while the round lacks its quorum; each time after twice
as long.
"""
PROMPT_RETRIES = 3
"""So often a client whose training failed is asked as soon as it attaches anew."""

V = TypeVar("V")
Outcome = tuple[Round, tuple[Command, ...]]

# --- opening ---------------------------------------------------------------------------------------


def open_round(
    number: int,
    base_model: Digest,
    network: Network,
    selected: Iterable[ClientId],
    quorum: int,
    open_to_all: bool = True,
    again: Round | None = None,
) -> Outcome:
    """Adopt what combiners hold of this round already, and open parts for the other selected clients.

    ``quorum``: with so many accepted updates nobody is waited for a second time.
    ``open_to_all``: the plan selects every client, so one that was not there yet may still join in.
    ``again``: what `begun_again` left of the round; part numbers go on from there.
    """
    round_ = Round(number, base_model, quorum, open_to_all)
    if again:
        round_ = replace(
            round_,
            legs=again.legs,
            refused=again.refused,
            failed=again.failed,
            failures=again.failures,
            resting=again.resting,
        )
    round_, commands = adopt_held(round_, network)
    round_, more = extend(round_, network, selected)
    return round_, commands + more


def begun_again(round_: Round) -> Outcome:
    """Void every part, so that its clients offer again: they hold what they have trained."""
    commands: tuple[Command, ...] = ()
    for key, leg in round_.legs.items():
        if leg.phase is Phase.MERGED:
            round_ = _void(round_, key, Leg(leg.clients))
            commands += (AbortPart(key, "all updates of the round are asked for in one part", reoffer=True),)
    return round_, commands


def adopt_held(round_: Round, network: Network) -> Outcome:
    """Go on with parts that live combiners hold from before a restart of the reducer."""
    commands: tuple[Command, ...] = ()
    last: dict[tuple[str, ...], int] = {}
    for key in round_.legs:
        last[key[:2]] = max(key.part, last.get(key[:2], -1))
    for name, station in network.items():
        for held in station.held:
            key = PartKey(name, station.incarnation, held.part)
            if held.round != round_.number or held.part <= last.get(key[:2], -1):
                continue  # another round's, or one that was asked for before, and may be void
            if round_.place.keys() & set(held.clients):
                round_ = _void(round_, key, Leg(frozenset()))
                commands += (AbortPart(key, "its clients count elsewhere by now", reoffer=True),)
            else:
                round_, more = _open(round_, key, held.clients)
                commands += more
    return round_, commands


def extend(round_: Round, network: Network, selected: Iterable[ClientId]) -> Outcome:
    """Open the next part at every combiner for the selected clients that have no place yet."""
    round_, commands = _drop_empty(round_)
    wanted = candidates(round_, network) & frozenset(selected)
    for name, station in sorted(network.items()):
        newcomers = station.clients & wanted
        if newcomers:
            lost, failed = _without(round_.lost, newcomers), _without(round_.failed, newcomers)
            key = _next_key(round_, name, station.incarnation)
            round_, more = _open(replace(round_, lost=lost, failed=failed), key, sorted(newcomers))
            commands += more
    return round_, commands


def _drop_empty(round_: Round) -> Outcome:
    """Parts that hold no update go when more are asked for: else they would pile up while clients fail."""
    commands: tuple[Command, ...] = ()
    for key, leg in round_.legs.items():
        if leg.phase is Phase.MERGED and leg.header is not None and not leg.header.contributors:
            round_ = _void(round_, key, leg)
            commands += (AbortPart(key, "it holds no update", reoffer=True),)
    return round_, commands


def candidates(round_: Round, network: Network) -> frozenset[ClientId]:
    """Attached clients that could still be asked: not decided, and nothing of theirs is under way.

    Whose training failed is left in peace for a while (`tick`).

    That a client was listed before does not matter: a part that is over without its update can't
    count it any more, whatever became of it there.
    """
    listed = {c for leg in round_.legs.values() if leg.phase in ACTIVE for c in leg.clients}
    under_way = listed | round_.admissions.keys() | round_.releasing.keys() | round_.orphans.keys()
    here = attached(network).keys() - round_.accepted - round_.refused.keys() - round_.resting.keys()
    return frozenset(here - under_way)


def _open(round_: Round, key: PartKey, clients: Iterable[ClientId]) -> Outcome:
    listed = tuple(clients)
    leg = Leg(frozenset(listed))
    place = {**round_.place, **dict.fromkeys(listed, key.combiner)}
    admissions = _without(round_.admissions, leg.clients)
    round_ = replace(_put(round_, key, leg), place=place, admissions=admissions)
    return round_, (OpenPart(key, listed),)


def _next_key(round_: Round, combiner: CombinerName, incarnation: Incarnation) -> PartKey:
    used = [key.part for key in round_.legs if key[:2] == (combiner, incarnation)]
    return PartKey(combiner, incarnation, max(used, default=-1) + 1)


def _put(round_: Round, key: PartKey, leg: Leg) -> Round:
    return replace(round_, legs={**round_.legs, key: leg})


def _void(round_: Round, key: PartKey, leg: Leg) -> Round:
    """Nothing comes of a part any more. Of such legs a process keeps its last: the numbers go on from it."""
    round_ = _put(round_, key, replace(leg, phase=Phase.VOID))
    last = _next_key(round_, key.combiner, key.incarnation).part - 1

    def kept(other: PartKey, phase: Phase) -> bool:
        return other[:2] != key[:2] or phase is not Phase.VOID or other.part == last

    return replace(round_, legs={k: leg for k, leg in round_.legs.items() if kept(k, leg.phase)})


# --- parts -----------------------------------------------------------------------------------------


def part_sealed(round_: Round, key: PartKey, header: PartHeader, now: float) -> Outcome:
    """A part is complete; fetch it unless its combiner was fenced or it counts somebody twice."""
    leg = round_.legs.get(key)
    if leg is None or leg.phase is not Phase.RUNNING:
        if leg is not None and leg.phase is not Phase.FENCED:
            return round_, ()
        return round_, (AbortPart(key, "this part is not wanted any more", reoffer=True),)
    if twice := overlap(round_.accepted, header):
        reason = f"it counts {sorted(twice)[0]} a second time"
        round_ = _orphan(_void(round_, key, leg), leg.clients, key.combiner, now)
        return round_, (AbortPart(key, reason, reoffer=True),)
    accepted = round_.accepted
    refused = {**round_.refused, **{a.client: a.reason for a in header.refused}}
    lost = {**round_.lost, **{a.client: a.reason for a in header.lost if a.client not in accepted}}
    round_ = _note_failures(round_, [a for a in header.failed if a.client not in accepted], now)
    counted = {c.client for c in header.contributors}  # the answer to an admission may come after the seal
    round_ = replace(
        round_, refused=refused, lost=lost,
        admissions=_without(round_.admissions, counted), releasing=_without(round_.releasing, counted),
    )  # fmt: skip
    round_ = _put(round_, key, Leg(leg.clients, Phase.FETCHING, header))
    if round_.has_quorum:  # who offered again while this part was closing is too late, wherever it is by now
        late = {a.client for a in header.lost if round_.admissions.get(a.client) == key.combiner}
        round_ = replace(
            round_, admissions=_without(round_.admissions, late), releasing=_without(round_.releasing, late)
        )
    return round_, (FetchPart(key, header),)


def part_fetched(round_: Round, key: PartKey, network: Network) -> Outcome:
    """The bytes are here and right: the part is in, unless it was fenced while it travelled."""
    leg = round_.legs.get(key)
    if leg is None or leg.phase is not Phase.FETCHING or leg.header is None:
        return round_, ()
    round_ = _put(round_, key, replace(leg, phase=Phase.MERGED))
    round_ = replace(round_, lost=_without(round_.lost, round_.accepted))
    round_, commands = _open_waiting(round_, key.combiner, network)
    return round_, (MergePart(key), *commands)


def part_aborted(round_: Round, key: PartKey, now: float) -> Round:
    """A combiner dropped a running part by itself: its clients have no place now."""
    leg = round_.legs.get(key)
    if leg is None or leg.phase not in ACTIVE:
        return round_
    return _orphan(_void(round_, key, leg), leg.clients, key.combiner, now)


# --- combiners that go, and come back --------------------------------------------------------------


def combiner_lost(round_: Round, combiner: CombinerName, incarnation: Incarnation, now: float) -> Round:
    """Fence it: this process delivers nothing more of the parts it had. Its clients may come elsewhere."""
    clients: frozenset[ClientId] = frozenset()
    for key, leg in round_.legs.items():
        if key[:2] == (combiner, incarnation) and leg.phase in ACTIVE:
            clients |= leg.clients
            round_ = _put(round_, key, Leg(leg.clients, Phase.FENCED))
    asked = {c for c in round_.releasing if round_.place.get(c) == combiner}  # it will not answer any more
    clients |= asked | {c for c, name in round_.admissions.items() if name == combiner}
    round_ = _orphan(round_, clients, combiner, now)
    kept = {c: n for c, n in round_.releasing.items() if n != combiner and c not in asked}
    return replace(round_, releasing=kept)


def _orphan(round_: Round, clients: frozenset[ClientId], combiner: CombinerName, now: float) -> Round:
    gone = {c for c in clients if round_.place.get(c) == combiner} - round_.accepted - round_.refused.keys()
    return replace(
        round_,
        orphans={**round_.orphans, **dict.fromkeys(sorted(gone), now)},
        admissions=_without(round_.admissions, gone),
        releasing=_without(round_.releasing, gone),
    )


def network_changed(round_: Round, network: Network) -> Outcome:
    """Void the parts of fenced combiners that are back, and take orphans in where they are now."""
    commands: tuple[Command, ...] = ()
    for key, leg in round_.legs.items():
        if leg.phase is Phase.FENCED and _is_here(key, network):
            round_ = _void(round_, key, leg)
            commands += (AbortPart(key, "the combiner was out of reach for too long", reoffer=True),)
    round_, adopted = adopt_held(round_, network)
    commands += adopted
    where = attached(network)
    gone = round_.resting.keys() - where.keys()  # they may come back mended
    round_ = _ask_again(round_, {c for c in gone if round_.failures[c] <= PROMPT_RETRIES})
    here = {client: where[client] for client in round_.orphans if client in where}
    round_, admits = _place(round_, here, network) if here else (round_, ())
    round_, opened = open_waiting(round_, network)  # one part for all that came to the same combiner
    return round_, commands + admits + opened


def _is_here(key: PartKey, network: Network) -> bool:
    """Whether the very process of a part is live."""
    station = network.get(key.combiner)
    return station is not None and station.incarnation == key.incarnation


def tick(round_: Round, now: float, grace: float) -> Round:
    """Orphans that did not come back in time are lost, by name; failed ones may be asked once more."""
    gone = {c: since for c, since in round_.orphans.items() if now >= since + grace}
    reason = f"its combiner went away and it did not come back within {grace:g} s"
    if round_.settled:
        round_ = _ask_again(round_, {c for c, until in round_.resting.items() if now >= until})
    return replace(
        round_,
        orphans=_without(round_.orphans, gone),
        lost={**round_.lost, **dict.fromkeys(gone, reason)},
    )


def next_wake(round_: Round, grace: float) -> float | None:
    """When the next `tick` is due; None if none is."""
    due = [since + grace for since in round_.orphans.values()]
    if round_.settled:
        due += round_.resting.values()
    return min(due, default=None)


def _note_failures(round_: Round, absences: Iterable[Absence], now: float) -> Round:
    """What made a training fail may pass: so its client is not refused, but left in peace for a while."""
    for client, reason in ((absence.client, absence.reason) for absence in absences):
        times = round_.failures.get(client, 0) + 1
        pause = min(RETRY_SECONDS * 2 ** min(times - 1, 20), RETRY_MOST)
        round_ = replace(
            round_,
            failed={**round_.failed, client: reason},
            failures={**round_.failures, client: times},
            resting={**round_.resting, client: now + pause},
        )
    return round_


def _ask_again(round_: Round, clients: AbstractSet[ClientId]) -> Round:
    """They have rested: if the round needs them still, it asks them."""
    return replace(round_, resting=_without(round_.resting, clients))


# --- clients that move -----------------------------------------------------------------------------


def release_requested(
    round_: Round, header: UpdateHeader, combiner: CombinerName, network: Network
) -> Outcome:
    """A client offers this round's update at a combiner that does not list it."""
    client = header.client
    if client in round_.accepted:
        return round_, ()  # settled when the round is
    if client in round_.releasing:
        return replace(round_, releasing={**round_.releasing, client: combiner}), ()  # it has moved on
    if header.base_model != round_.base_model:
        return round_, (Settle(combiner, client, round_.number, False, "trained from another base model"),)
    if client in round_.refused:
        return round_, (Settle(combiner, client, round_.number, False, round_.refused[client]),)
    round_ = replace(_ask_again(round_, {client}), failed=_without(round_.failed, {client}))
    if client in round_.lost and round_.has_quorum and not round_.awaited_at(client):
        return round_, ()  # too slow: it would hold the round for one more deadline, and then again
    old = round_.place.get(client)
    if old is None and not round_.open_to_all:
        return round_, (Settle(combiner, client, round_.number, False, "not selected for this round"),)
    if old is None or old == combiner or not _may_fold(round_, old, client):
        return admit(round_, client, combiner, network)
    # While an admission there is not answered, a release could overtake it: `admit_answered` asks then.
    asks = () if client in round_.admissions else (AskRelease(old, client),)
    return replace(round_, releasing={**round_.releasing, client: combiner}), asks


def _may_fold(round_: Round, combiner: CombinerName, client: ClientId) -> bool:
    admitting = round_.admissions.get(client) == combiner
    return any(
        key.combiner == combiner and leg.phase is Phase.RUNNING and (admitting or client in leg.clients)
        for key, leg in round_.legs.items()
    )


def release_answered(round_: Round, client: ClientId, folded: bool, network: Network) -> Outcome:
    """The old combiner has spoken: it counts there, or may count at the new one."""
    target = round_.releasing.get(client)
    round_ = replace(round_, releasing=_without(round_.releasing, {client}))
    if target is None or folded:
        return round_, ()
    return admit(round_, client, target, network)


def admit(round_: Round, client: ClientId, combiner: CombinerName, network: Network) -> Outcome:
    """List a client at ``combiner``: in its running part, or in its next one."""
    if combiner not in network:
        return round_, ()
    round_, commands = _place(round_, {client: combiner}, network)
    return (round_, commands) if commands else _open_waiting(round_, combiner, network)


def _place(round_: Round, where: Mapping[ClientId, CombinerName], network: Network) -> Outcome:
    """Note at which combiner clients are to be listed, and ask for those with a part running there."""
    round_ = replace(
        round_,
        place={**round_.place, **where},
        admissions={**round_.admissions, **where},
        orphans=_without(round_.orphans, where),
        lost=_without(round_.lost, where),
    )
    running = {
        key.combiner: key
        for key, leg in round_.legs.items()
        if leg.phase is Phase.RUNNING and _is_here(key, network)
    }
    return round_, tuple(Admit(running[name], client) for client, name in where.items() if name in running)


def admit_answered(round_: Round, key: PartKey, client: ClientId, admitted: bool) -> Outcome:
    """False: that part is sealing; the client stays noted for the next one."""
    leg = round_.legs.get(key)
    running = leg is not None and leg.phase is Phase.RUNNING
    if leg is None or not running or not admitted or round_.admissions.get(client) != key.combiner:
        return round_, ()
    round_ = replace(round_, admissions=_without(round_.admissions, {client}))
    round_ = _put(round_, key, replace(leg, clients=leg.clients | {client}))
    return round_, (AskRelease(key.combiner, client),) if client in round_.releasing else ()


def open_waiting(round_: Round, network: Network) -> Outcome:
    """Open the next part wherever admitted clients wait for one and none is under way."""
    commands: tuple[Command, ...] = ()
    for combiner in sorted(set(round_.admissions.values())):
        round_, more = _open_waiting(round_, combiner, network)
        commands += more
    return round_, commands


def _open_waiting(round_: Round, combiner: CombinerName, network: Network) -> Outcome:
    """Open the next part for the clients admitted at ``combiner``, once none is under way there.

    A client that has moved on meanwhile was never listed there, or not folded; it goes where it is.
    """
    station = network.get(combiner)
    waiting = [c for c, name in round_.admissions.items() if name == combiner]
    if station is None or not waiting:
        return round_, ()
    busy = any(
        k[:2] == (combiner, station.incarnation) and leg.phase in ACTIVE for k, leg in round_.legs.items()
    )
    if busy:
        return round_, ()
    moved = [c for c in waiting if c in round_.releasing]
    if staying := [c for c in waiting if c not in moved]:
        round_, commands = _open(round_, _next_key(round_, combiner, station.incarnation), staying)
    else:
        commands = ()
    for client in moved:
        round_ = replace(round_, admissions=_without(round_.admissions, {client}))
        round_, more = release_answered(round_, client, False, network)
        commands += more
    return round_, commands


def _without(
    mapping: Mapping[ClientId, V], clients: AbstractSet[ClientId] | Mapping[ClientId, object]
) -> dict[ClientId, V]:
    return {c: value for c, value in mapping.items() if c not in clients}
