"""/models/<digest>: what a model is, where it comes from, who made it, and what can be done with it.

A model never changes: when something happens, `static/live.js` gets the page's frame alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flask import Blueprint, render_template, request

from fedn.domain.errors import NotFound
from fedn.domain.ids import Digest, check_digest
from fedn.domain.round import RoundRecord
from fedn.ports import StateStore
from fedn.reducer.exporting import formats
from fedn.reducer.front import Front
from fedn.reducer.inspecting import described, stored_layout
from fedn.reducer.lineage import Lineage, lineage_of
from fedn.reducer.pages.frame import Site
from fedn.reducer.pages.tracing import origin_in
from fedn.reducer.rest_forms import query_number
from fedn.stores.retention import told_if_pruned

TENSORS_SHOWN = 100
CONTRIBUTORS_SHOWN = 100
ROUNDS_SHOWN = 10
SESSIONS_SHOWN = 20
CHOICES = 40
"""Models of each kind that are offered to compare with."""


def routes(site: Site) -> Blueprint:
    """/models/<digest>."""
    page = Blueprint("model", __name__)
    front = site.front

    @page.get("/models/<digest>")
    def show(digest: str) -> str:
        """One model; ?after= a tensor's number shows the tensors behind it."""
        model = check_digest("digest", digest)
        if "Fedn-Live" in request.headers:
            return render_template("live.html")
        after = query_number("after", -1)
        lineage = lineage_of(front.state, model)
        contents, gone = _contents(front, model, after)
        if gone and not (lineage.made or lineage.begun or lineage.name):
            raise NotFound(gone)
        record = _record(front.state, lineage)
        following = _following(front.state, record)
        return render_template(
            "model.html",
            model=model,
            contents=contents,
            gone=gone,
            after=after,
            tensors_shown=TENSORS_SHOWN,
            lineage=lineage,
            origin=origin_in(lineage),
            made=lineage.made[:ROUNDS_SHOWN],
            begun=lineage.begun[:SESSIONS_SHOWN],
            before=_before(front.state, model, record),
            following=following,
            formats=formats(),
            choices=_choices(front.state, model, lineage, following),
            **_work(front, record),
        )

    return page


def _contents(front: Front, model: Digest, after: int) -> tuple[Mapping[str, Any], str]:
    """What is in the file; or nothing, and why it is not here."""
    try:
        with told_if_pruned(front.state, model):
            return described(stored_layout(front.models, model), after, TENSORS_SHOWN), ""
    except NotFound as error:
        return {}, error.message


def _record(state: StateStore, lineage: Lineage) -> RoundRecord | None:
    """The newest round that made the model, if one did."""
    if not lineage.made:
        return None
    return state.record(lineage.made[0].session, lineage.made[0].round).record


def _before(state: StateStore, model: Digest, record: RoundRecord | None) -> Digest | None:
    """The model that its round began with, where that is another one and was not removed."""
    if record is None or record.base_model == model or state.pruned(record.base_model) is not None:
        return None
    return record.base_model


def _following(state: StateStore, record: RoundRecord | None) -> RoundRecord | None:
    """The round that was trained from the model next."""
    found = state.records(record.session, record.round, 1) if record else ()
    return found[0].record if found else None


def _work(front: Front, record: RoundRecord | None) -> dict[str, Any]:
    """Who made it, those with most examples first."""
    found = sorted(record.contributors, key=lambda one: (-one.examples, one.client)) if record else []
    return {
        "record": record,
        "contributors": found[:CONTRIBUTORS_SHOWN],
        "all_contributors": len(found),
        "examples": sum(one.examples for one in found),
        "names": front.network().names if found else {},
    }


def _choices(
    state: StateStore, model: Digest, lineage: Lineage, following: RoundRecord | None
) -> dict[Digest, str]:
    """Other models to compare it with, the nearest first, and what they are."""
    found = dict[Digest, str]()
    for digest, words in _others(state, lineage, following):
        if digest != model:
            found.setdefault(digest, words)
    return found


def _others(
    state: StateStore, lineage: Lineage, following: RoundRecord | None
) -> Iterator[tuple[Digest, str]]:
    if following and state.pruned(following.model) is None:
        yield following.model, "what was trained from it next"
    if lineage.ancestors and state.pruned(seed := lineage.ancestors[0].seed) is None:
        yield seed, "what its session began with"
    for session in state.sessions()[:CHOICES]:
        yield session.head.model, f"newest of {session.name or session.session}"
    for info in state.models(CHOICES):
        yield info.digest, f"seed {info.name}"
