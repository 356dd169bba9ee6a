"""What is in models, over HTTP: tensors, a file before it is accepted, two models compared, a model's past.

Numbers come from the store's mapped files and from a spool on disk, never through memory as a whole.
Neighbours: `rest_models` (the bytes), `inspecting`, `comparing`, `lineage` and `exporting`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import Blueprint, Response, jsonify

from fedn.domain.errors import NotFound
from fedn.domain.ids import Digest, check_digest, digest_of
from fedn.ports import Buffer
from fedn.reducer.comparing import compare
from fedn.reducer.exporting import formats
from fedn.reducer.front import Front
from fedn.reducer.inspecting import SHOWN_TENSORS, check_seed, described, stored_layout
from fedn.reducer.lineage import lineage_of
from fedn.reducer.rest_bodies import uploaded
from fedn.reducer.rest_forms import MAX_PAGE, plain, query_number
from fedn.reducer.spooling import Few, gathered
from fedn.stores.retention import told_if_pruned


def inspecting_routes(front: Front) -> Blueprint:
    """More routes under /api/v1/models."""
    routes = Blueprint("inspecting", __name__, url_prefix="/api/v1/models")
    checks, comparisons = Few(2, "checks of models"), Few(2, "comparisons of models")

    @routes.get("/formats")
    def forms() -> Response:
        """The forms in which this reducer gives models, and why it does not give the others."""
        return jsonify(formats=plain(formats()))

    @routes.post("/check")
    def check() -> Response:
        """Look at a file as if it were seeded: the same checks, and what it holds; nothing is kept."""
        with uploaded("model") as (chunks, _), checks.one():
            return jsonify(plain(_checked(front, chunks)))

    @routes.get("/<digest>/tensors")
    def tensors(digest: str) -> Response:
        """Names, shapes and dtypes of a model's tensors above ?after, at most ?limit, and the sums of all."""
        checked, after = check_digest("digest", digest), query_number("after", -1)
        limit = query_number("limit", SHOWN_TENSORS, low=1, high=MAX_PAGE)
        with told_if_pruned(front.state, checked):
            layout = stored_layout(front.models, checked)
        return jsonify(plain({"digest": checked} | described(layout, after, limit)))

    @routes.get("/<digest>/compare/<other>")
    def comparison(digest: str, other: str) -> Response:
        """How far two models lie apart, tensor by tensor; at most ?limit tensors, those that changed most."""
        first, second = check_digest("digest", digest), check_digest("other", other)
        limit = query_number("limit", MAX_PAGE, low=1, high=MAX_PAGE)
        with comparisons.one():
            found = plain(compared(front, first, second, limit))
        return jsonify({"first": first, "second": second} | found)

    @routes.get("/<digest>/lineage")
    def lineage(digest: str) -> Response:
        """The rounds that made a model, the sessions that began with it, and those that led to it."""
        found = lineage_of(front.state, check_digest("digest", digest))
        if not (found.made or found.begun or found.name):
            with told_if_pruned(front.state, found.model):
                front.models.size(found.model)
        return jsonify(plain(found))

    return routes


def compared(front: Front, first: Digest, second: Digest, limit: int) -> Any:
    """See `fedn.reducer.comparing.compare`; raises NotFound, saying so if one was pruned."""
    with told_if_pruned(front.state, first):
        front.models.size(first)
    with (
        told_if_pruned(front.state, second),
        front.models.map(first) as mine,
        front.models.map(second) as theirs,
    ):
        return compare(mine, theirs, limit)


def _checked(front: Front, chunks: Iterable[Buffer]) -> dict[str, Any]:
    with gathered(chunks) as file:
        digest, layout = digest_of(file), check_seed(file)
    names = [info.name for info in front.state.models(MAX_PAGE) if info.digest == digest]
    return {"digest": digest, "known": _is_stored(front, digest), "name": next(iter(names), "")} | described(
        layout
    )


def _is_stored(front: Front, digest: Digest) -> bool:
    try:
        front.models.size(digest)
    except NotFound:
        return False
    return True
