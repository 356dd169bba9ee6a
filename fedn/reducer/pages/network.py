"""/network: who is there, as a picture and as tables; and how to add a client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, render_template, request

from fedn.domain.errors import NotFound
from fedn.domain.ids import ClientId
from fedn.domain.messages import Host
from fedn.reducer.books import RUNNING
from fedn.reducer.front import Front
from fedn.reducer.network import CombinerView, NetworkView
from fedn.reducer.network_forms import about_combiner, places_of
from fedn.reducer.pages.frame import Site
from fedn.reducer.pages.join import join_page
from fedn.reducer.pages.picture import (
    CLIENTS,
    COMBINER,
    IDLE,
    REDUCER,
    STATES,
    WIDTH,
    Doing,
    combiner_state,
    curve,
    draw,
)
from fedn.reducer.rest_forms import query_number
from fedn.reducer.timing import AT_WORK

ROWS = 100
"""Clients, or combiners, that are shown at once."""
MAX_FILTER = 200


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A client as tables show it. ``since``: attached since, or, if it is ``gone``, seen last (Unix time)."""

    client: str
    name: str
    combiner: str
    host: Host
    since: float
    received: int
    sent: int
    gone: bool
    doing: Doing | None

    @property
    def state(self) -> str:
        """What it does, as a word of `STATES`; 'gone' where it is not there."""
        return "gone" if self.gone else self.doing.state if self.doing else IDLE


def routes(site: Site) -> Blueprint:
    """/network, and /network/join."""
    page = Blueprint("network", __name__)
    join_page(page, site)
    page.add_app_template_filter(curve_to, "curve_to")

    @page.get("/network")
    def show() -> str:
        """The picture and its tables; ?q= is a filter, ?page= a page of the clients."""
        view, wanted = site.front.network(), request.args.get("q", "")[:MAX_FILTER].strip()
        doing = doings(site.front)
        every = client_rows(view, doing)
        rows = [row for row in every if _fits(wanted, row.client, row.name, row.combiner, row.state)]
        combiners = [one for one in view.combiners if _fits(wanted, one.combiner, one.address)]
        pages = max(1, -(-len(rows) // ROWS))
        here = min(query_number("page", 1, low=1), pages)
        return render_template(
            "network.html",
            view=view,
            picture=draw(view, doing),
            sizes={"width": WIDTH, "reducer": REDUCER, "combiner": COMBINER, "clients": CLIENTS},
            words=STATES,
            attached=sum(not row.gone for row in every),
            wanted=wanted,
            combiners=[about(one, view) for one in combiners[:ROWS]],
            more_combiners=max(0, len(combiners) - ROWS),
            rows=rows[(here - 1) * ROWS : here * ROWS],
            found=len(rows),
            here=here,
            pages=pages,
        )

    return page


def doings(front: Front) -> dict[ClientId, Doing]:
    """What clients do in the open rounds; of a client in several, that at which it works."""
    found: dict[ClientId, Doing] = {}
    for info in front.state.sessions():
        if info.state != RUNNING:
            continue
        try:
            progress = front.round_progress(info.session)
        except NotFound:  # it ended meanwhile
            continue
        stands: Mapping[str, Mapping[str, object]] = progress.get("clients", {})
        for client, at in stands.items():
            told = Doing(
                str(at["state"]), info.session, int(progress.get("round", 0)), str(at["combiner"]),
                float(str(at["since"])),
            )  # fmt: skip
            before = found.get(ClientId(client))
            if before is None or (told.state in AT_WORK and before.state not in AT_WORK):
                found[ClientId(client)] = told
    return found


def client_rows(view: NetworkView, doing: Mapping[ClientId, Doing]) -> list[ClientRow]:
    """All clients by name, and behind them those that are gone."""
    rows = []
    for combiner in view.combiners:
        for info in combiner.clients:
            at = combiner.traffic.get(info.client)
            received, sent = (at.received, at.sent) if at else (0, 0)
            told = doing.get(info.client)
            rows.append(
                ClientRow(
                    info.client, info.name or info.client, combiner.combiner, info.host, info.attached_at,
                    received, sent, False, told,
                )
            )  # fmt: skip
    here = {row.client for row in rows}
    for client, seen in view.seen.items():
        if client not in here:
            info, told = seen.info, doing.get(client)
            rows.append(
                ClientRow(
                    client, info.name or client, seen.combiner, info.host, seen.seen_at, 0, 0, True, told
                )
            )
    return sorted(rows, key=lambda row: (row.gone, row.name, row.client))


def about(combiner: CombinerView, view: NetworkView) -> dict[str, object]:
    """A combiner as the API has it, with its state in a word."""
    return about_combiner(combiner, places_of(view)) | {"state": combiner_state(combiner)}


def curve_to(start: tuple[float, float], end: tuple[float, float]) -> str:
    """`curve` for templates."""
    return curve(*start, *end)


def _fits(wanted: str, *texts: str) -> bool:
    """Whether every word of a filter is in what it is held against."""
    whole = " ".join(texts).lower()
    return all(word in whole for word in wanted.lower().split())
