"""/combiners/<combiner> and /clients/<client>: one of them, its machine, its history, its last words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flask import Blueprint, render_template

from fedn.domain.errors import NotFound
from fedn.domain.identity import Member, Role
from fedn.domain.ids import ClientId, CombinerName, check_id
from fedn.ports import SessionInfo
from fedn.reducer.front import Front
from fedn.reducer.network_forms import find_client
from fedn.reducer.pages.frame import Site, may
from fedn.reducer.pages.network import ROWS, about, client_rows, doings
from fedn.reducer.pages.picture import STATES
from fedn.reducer.participation import Participation
from fedn.reducer.scores import metric_of
from fedn.reducer.sentences import EVENTS, gravity, sentence
from fedn.reducer.tallies import Tallies, chief

SESSIONS_SHOWN = 10
"""Sessions of a history; the newest."""
ROUNDS_LOOKED_AT = 100
ABSENCES_SHOWN = 10
"""Of a client in a session."""
EVENTS_LOOKED_AT = 1000
EVENTS_SHOWN = 30
TOO_MANY = frozenset({"client_progress", "update_received", "round_opened", "round_validated"})
"""Events that come all the time; what they add up to is in the history."""
DEEP = 3


@dataclass(frozen=True, slots=True)
class TakenPart:
    """What a client did in one session. ``metric`` is the one to show, ``absences`` are of late."""

    info: SessionInfo
    did: Participation
    metric: str
    absences: tuple[Mapping[str, Any], ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Served:
    """In how many of the last ``looked`` rounds of a session a combiner had a part."""

    info: SessionInfo
    rounds: int
    looked: int
    last: int


def combiner_routes(site: Site) -> Blueprint:
    """/combiners/<combiner>."""
    page = Blueprint("combiner", __name__)

    @page.get("/combiners/<combiner>")
    def show(combiner: str) -> str:
        """One combiner."""
        view, name = site.front.network(), CombinerName(check_id("combiner", combiner))
        found = next((one for one in view.combiners if one.combiner == name), None)
        if found is None:
            raise NotFound(
                f"there is no combiner {combiner!r}; the network's page has all", combiner=combiner
            )
        rows = [row for row in client_rows(view, doings(site.front)) if row.combiner == name and not row.gone]
        return render_template(
            "combiner.html",
            one=about(found, view),
            rows=rows[:ROWS],
            more=max(0, len(rows) - ROWS),
            words=STATES,
            served=_served(site.front.state.sessions(), site.tallies, name),
            events=_events(site.front, name),
            log=view.logs.get(f"combiner:{name}", ()),
            member=_member(site, Role.COMBINER, name),
        )

    return page


def client_routes(site: Site) -> Blueprint:
    """/clients/<client>."""
    page = Blueprint("client", __name__)

    @page.get("/clients/<client>")
    def show(client: str) -> str:
        """One client, also one that is gone, as long as anything is known of it."""
        view, known = site.front.network(), ClientId(check_id("client", client))
        form, member = find_client(view, known), _member(site, Role.CLIENT, known)
        history = _history(site.front.state.sessions(), site.tallies, known)
        if form is None and member is None and not history:
            raise NotFound(
                f"no client {client!r} was seen; the network's page has those that are there", client=client
            )
        name = (form and form["name"]) or (member and member.name) or ""
        row = next((row for row in client_rows(view, doings(site.front)) if row.client == known), None)
        return render_template(
            "client.html",
            client=known,
            name=name or known,
            form=form,
            row=row,
            words=STATES,
            history=history,
            sessions=SESSIONS_SHOWN,
            events=_events(site.front, known, name),
            log=view.logs.get(f"client:{known}", ()),
            member=member,
        )

    return page


# --- what they did ---------------------------------------------------------------------------------------


def _history(sessions: Collection[SessionInfo], tallies: Tallies, client: ClientId) -> list[TakenPart]:
    found = []
    for info in list(sessions)[:SESSIONS_SHOWN]:
        tally = tallies.of(info)
        did = next((one for one in tally.clients if one.client == client), None)
        if did is None:
            continue
        absences = [
            {"round": line["round"], "what": what, "reason": absence["reason"]}
            for line in tallies.lines(info, info.head.round, ROUNDS_LOOKED_AT)[::-1]
            for what in ("refused", "lost")
            for absence in line[what]
            if absence["client"] == client
        ]
        names = did.validate.metrics if did.validate else ()
        metric = chief(names, metric_of(info.plan))
        found.append(TakenPart(info, did, metric, tuple(absences[:ABSENCES_SHOWN]), tally.complete))
    return found


def _served(sessions: Collection[SessionInfo], tallies: Tallies, combiner: CombinerName) -> list[Served]:
    found = []
    for info in list(sessions)[:SESSIONS_SHOWN]:
        lines = [one for one in tallies.lines(info, info.head.round, ROUNDS_LOOKED_AT) if one["round"] > 0]
        rounds = [line["round"] for line in lines if combiner in line["combiners"]]
        if rounds:
            found.append(Served(info, len(rounds), len(lines), rounds[-1]))
    return found


def _events(front: Front, *names: str) -> list[dict[str, Any]]:
    """The newest events that name somebody, newest first."""
    clients = front.network().unmistakable
    rows = front.state.events(names=frozenset(EVENTS) - TOO_MANY, newest=True, limit=EVENTS_LOOKED_AT)
    told = [row for row in rows if any(name and _names(row.fields, name) for name in names)][-EVENTS_SHOWN:]
    return [
        asdict(row)
        | {"text": sentence(row.event, row.fields, clients), "gravity": gravity(row.event, row.fields)}
        for row in told[::-1]
    ]


def _names(value: Any, name: str, deep: int = DEEP) -> bool:
    if isinstance(value, Mapping):
        return deep > 0 and any(key == name or _names(one, name, deep - 1) for key, one in value.items())
    if isinstance(value, list | tuple):
        return deep > 0 and any(_names(one, name, deep - 1) for one in value)
    return bool(value == name)


def _member(site: Site, role: Role, name: str) -> Member | None:
    """How it has joined, for those who may see it; None in a network without identity."""
    if site.registrar is None or not may("GET", "/api/v1/members"):
        return None
    try:
        return site.front.state.identity.member(role, name)
    except NotFound:
        return None
