"""REST routes of the network: combiners and clients, who is there, how they come in, how one is emptied."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, jsonify

from fedn.domain.errors import InvalidInput, NotFound
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, Incarnation, check_id
from fedn.domain.messages import Registration
from fedn.ports import StateStore
from fedn.reducer.front import Front
from fedn.reducer.gate import own_name
from fedn.reducer.network import CombinerView
from fedn.reducer.network_forms import (
    about_combiner,
    client_form,
    combiner_form,
    find_client,
    network_form,
    places_of,
)
from fedn.reducer.participation import participation
from fedn.reducer.registrar import Registrar
from fedn.reducer.rest_errors import require_protocol
from fedn.reducer.rest_forms import json_body, plain, query_number

MOST_SESSIONS = 20
"""Sessions of a client's history; each is read whole."""


def network_routes(front: Front, registrar: Registrar | None) -> Blueprint:
    """Combiners and clients: who is there, and how they come in."""
    routes = Blueprint("network", __name__, url_prefix="/api/v1")

    @routes.get("/network")
    def network() -> Response:
        """The network as a tree."""
        return jsonify(network_form(front.network()))

    @routes.get("/combiners")
    def combiners() -> Response:
        """Combiners, with how many clients each has."""
        view = front.network()
        places = places_of(view)
        return jsonify(combiners=[about_combiner(combiner, places) for combiner in view.combiners])

    @routes.get("/combiners/<combiner>")
    def combiner(combiner: str) -> Response:
        """One combiner: its machine, load and traffic, its clients, and where those went that it had."""
        return jsonify(_shown(front, combiner))

    @routes.post("/combiners/<combiner>/drain")
    def drain(combiner: str) -> Response:
        """Send no more clients there, and those that are there elsewhere, until it is undrained."""
        front.drain(_combiner(combiner))
        return jsonify(_shown(front, combiner))

    @routes.post("/combiners/<combiner>/undrain")
    def undrain(combiner: str) -> Response:
        """Let a combiner that drains have clients again."""
        front.undrain(_combiner(combiner))
        return jsonify(_shown(front, combiner))

    @routes.post("/combiners")
    def register() -> Response:
        """A combiner announces itself, and keeps doing so; it hears whom it must not serve any more."""
        fields = {"protocol": int, "combiner": str, "address": str, "incarnation": str}
        registration = _registration(json_body(fields, required=fields))
        own_name(registration.combiner)
        front.register(registration)
        revoked = registrar.revoked() if registrar else []
        return jsonify(protocol=PROTOCOL_VERSION, term=front.network().term, revoked=revoked)

    @routes.get("/clients")
    def clients() -> Response:
        """Clients, with the combiner that each is attached to."""
        pairs = [(combiner, client) for combiner in front.network().combiners for client in combiner.clients]
        return jsonify(clients=[client_form(at, client) | {"combiner": at.combiner} for at, client in pairs])

    @routes.get("/clients/<client>")
    def client(client: str) -> Response:
        """One client: where it is or was last, its machine, and what it did in the newest ?limit sessions."""
        limit = query_number("limit", 5, low=0, high=MOST_SESSIONS)
        return jsonify(_client(front, ClientId(check_id("client", client)), limit))

    @routes.post("/clients/assignment")
    def assign() -> Response:
        """Where a client is to attach."""
        fields = {"protocol": int, "client": str, "prefer": str, "avoid": str}
        body = json_body(fields, required=("client",))
        require_protocol(body.get("protocol", PROTOCOL_VERSION))
        client = ClientId(check_id("client", body["client"]))
        own_name(client)
        assignment = front.assign(client, body.get("prefer", ""), body.get("avoid", ""))
        return jsonify(plain(assignment) | {"protocol": PROTOCOL_VERSION})

    return routes


def _combiner(name: str) -> CombinerName:
    return CombinerName(check_id("combiner", name))


def _shown(front: Front, name: str) -> dict[str, Any]:
    view = front.network()
    found: list[CombinerView] = [one for one in view.combiners if one.combiner == _combiner(name)]
    if not found:
        raise NotFound(f"there is no combiner {name!r}; `fedn status` shows all", combiner=name)
    return combiner_form(found[0], places_of(view)) | {"log": plain(view.logs.get(f"combiner:{name}", ()))}


def _client(front: Front, client: ClientId, limit: int) -> dict[str, Any]:
    """Raises NotFound where nothing is known of it."""
    history, view = _history(front.state, client, limit), front.network()
    form, lines = find_client(view, client), view.logs.get(f"client:{client}", ())
    if form is None and not history:
        raise NotFound(
            f"no client {client!r} was seen; `fedn status` shows those that are there", client=client
        )
    nothing = dict.fromkeys(("name", "host", "attached_at", "seen_at", "combiner", "last_combiner"))
    form = form or {"client": client, **nothing, "received": 0, "sent": 0}
    return form | {"sessions": history, "log": plain(lines)}


def _history(state: StateStore, client: ClientId, limit: int) -> list[dict[str, Any]]:
    """What it did in each of the newest sessions, where it did anything."""
    return [
        {"session": info.session, "name": info.name, "state": info.state, **plain(one)}
        for info in state.sessions()[:limit]
        for one in participation(state, info.session)
        if one.client == client
    ]


def _registration(body: dict[str, Any]) -> Registration:
    require_protocol(body["protocol"])
    address = body["address"]
    if len(address) > 300 or not re.fullmatch(r"[\w.-]+:\d{1,5}|\[[0-9a-fA-F:.]+\]:\d{1,5}", address):
        raise InvalidInput("address", f"{address[:80]!r} is not an address", "give host:port")
    return Registration(
        body["protocol"],
        CombinerName(check_id("combiner", body["combiner"])),
        address,
        Incarnation(check_id("incarnation", body["incarnation"])),
    )
