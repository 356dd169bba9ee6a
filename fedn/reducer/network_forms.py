"""The network as JSON: combiners, clients, and where those went that a combiner had. Pure but for the clock.

A value that is zero for being unknown is null here.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName
from fedn.domain.messages import ClientInfo
from fedn.reducer.network import CombinerView, NetworkView
from fedn.reducer.rest_forms import plain

NAMED = 100
"""Clients that a combiner had, which are listed one by one."""


def network_form(view: NetworkView) -> dict[str, Any]:
    """The network as a tree."""
    places = places_of(view)
    combiners = [combiner_form(combiner, places) for combiner in view.combiners]
    return {
        "protocol": PROTOCOL_VERSION, "term": view.term, "combiners": combiners, "gauges": plain(view.gauges)
    }  # fmt: skip


def places_of(view: NetworkView) -> dict[ClientId, CombinerName]:
    """Where each attached client is."""
    return {client.client: combiner.combiner for combiner in view.combiners for client in combiner.clients}


def combiner_form(combiner: CombinerView, places: dict[ClientId, CombinerName]) -> dict[str, Any]:
    """One combiner, with its clients."""
    return about_combiner(combiner, places) | {
        "clients": [client_form(combiner, client) for client in combiner.clients]
    }


def about_combiner(combiner: CombinerView, places: dict[ClientId, CombinerName]) -> dict[str, Any]:
    """One combiner, with the number of its clients."""
    return {
        "combiner": combiner.combiner, "address": combiner.address, "incarnation": combiner.incarnation,
        "live": combiner.live, "seen_at": time.time() if combiner.live else combiner.seen_at or None,
        "draining": bool(combiner.drained_at), "drained_at": combiner.drained_at or None,
        "clients": len(combiner.clients), "host": plain(combiner.host),
        "received": combiner.received, "sent": combiner.sent, "gauges": plain(combiner.gauges),
        "had": _had_form(combiner, places),
    }  # fmt: skip


def _had_form(combiner: CombinerView, places: dict[ClientId, CombinerName]) -> dict[str, Any]:
    """Whom it had when it went out of reach or began to drain: how many of them are where now."""
    now = Counter(places.get(client.client) for client in combiner.had)
    moved = {place: count for place, count in now.items() if place not in (None, combiner.combiner)}
    listed = [
        {"client": client.client, "name": client.name, "combiner": places.get(client.client)}
        for client in combiner.had[:NAMED]
    ]
    return {"count": len(combiner.had), "moved": moved, "gone": now[None], "clients": listed}


def client_form(combiner: CombinerView, client: ClientInfo) -> dict[str, Any]:
    """An attached client."""
    traffic = combiner.traffic.get(client.client)
    return {
        "client": client.client, "name": client.name, "host": plain(client.host),
        "attached_at": client.attached_at or None, "seen_at": time.time(),
        "received": traffic.received if traffic else 0, "sent": traffic.sent if traffic else 0,
    }  # fmt: skip


def find_client(view: NetworkView, client: ClientId) -> dict[str, Any] | None:
    """A client wherever it is attached, or as it was seen last; None where it never was seen."""
    for combiner in view.combiners:
        for info in combiner.clients:
            if info.client == client:
                form = client_form(combiner, info)
                return form | {"combiner": combiner.combiner, "last_combiner": combiner.combiner}
    if (seen := view.seen.get(client)) is None:
        return None
    return {
        "client": client, "name": seen.info.name, "host": plain(seen.info.host), "attached_at": None,
        "seen_at": seen.seen_at, "received": 0, "sent": 0, "combiner": None, "last_combiner": seen.combiner,
    }  # fmt: skip
