"""/sessions/<session>/trail: the models that a session made, newest first, down to the one it began with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from flask import Blueprint, render_template

from fedn.domain.errors import Damaged
from fedn.domain.ids import Digest, SessionId, check_id
from fedn.domain.round import RoundRecord, StoredRecord
from fedn.domain.update import Contributor
from fedn.ports import SessionInfo, StateStore
from fedn.reducer.pages.frame import Site
from fedn.reducer.pages.tracing import Origin, origin_of, seed_name
from fedn.reducer.rest_forms import query_number

ROUNDS_SHOWN = 20
PEOPLE_SHOWN = 10
"""Contributors told of for each round; the model's own page has more."""
ORIGINS = 64


@dataclass(frozen=True, slots=True)
class Node:
    """One round as the timeline shows it. ``pruned_at``: when its model was removed on purpose, or None.

    ``comparable``: the model that it began with is here, too, and is another one.
    """

    digest: str
    record: RoundRecord
    people: Sequence[Contributor]
    more: int
    examples: int
    pruned_at: float | None
    comparable: bool


def routes(site: Site) -> Blueprint:
    """The trail of a session."""
    page = Blueprint("trail", __name__)
    front = site.front
    # Searched for once: what made a session's first model was over when the session began.
    origin = lru_cache(ORIGINS)(partial(origin_of, front.state))

    @page.get("/sessions/<session>/trail")
    def show(session: str) -> str:
        """The newest rounds, or those up to ?until=."""
        info = front.state.session(SessionId(check_id("session", session)))
        until = min(query_number("until", info.head.round, low=0), info.head.round)
        nodes, damage = _nodes(front.state, info, until)
        return render_template(
            "trail.html",
            info=info,
            until=until,
            step=ROUNDS_SHOWN,
            nodes=nodes,
            damage=damage,
            names=front.network().names,
            **_beginning(front.state, nodes, origin),
        )

    return page


def _nodes(state: StateStore, info: SessionInfo, until: int) -> tuple[list[Node], str]:
    """Rounds up to ``until``, newest first; or none, and which damage is in the way."""
    after = max(-1, until - ROUNDS_SHOWN)
    try:
        found = state.records(info.session, after, until - after)
    except Damaged as error:
        return [], error.message
    return [_node(state, stored) for stored in reversed(found)], ""


def _node(state: StateStore, stored: StoredRecord) -> Node:
    record = stored.record
    pruned_at = state.pruned(record.model)
    moved = record.round > 0 and record.base_model != record.model
    people = sorted(record.contributors, key=lambda one: (-one.examples, one.client))
    return Node(
        stored.digest,
        record,
        people[:PEOPLE_SHOWN],
        max(0, len(people) - PEOPLE_SHOWN),
        sum(one.examples for one in people),
        pruned_at,
        moved and pruned_at is None and state.pruned(record.base_model) is None,
    )


def _beginning(
    state: StateStore, nodes: Sequence[Node], origin: Callable[[Digest], Origin]
) -> dict[str, Any]:
    """What the session began with, where that is on the page: a seed, or a round of another session."""
    if not nodes or nodes[-1].record.round > 0:
        return {"seed": "", "parent": None}
    seed = nodes[-1].record.model
    name = seed_name(state, seed)
    return {"seed": name, "parent": None if name else origin(seed)}
