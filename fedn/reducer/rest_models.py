"""The data lane over HTTP: models up as one streamed body, down by digest, resumable.

Neither way is a model ever held in memory. Up goes to `ReducerService.seed_model`, which checks it;
down comes from the model store, or combiners are sent there.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from fedn.domain.errors import Damaged, InvalidInput, NotFound
from fedn.domain.ids import Digest, check_digest
from fedn.ports import BlobInfo, ModelInfo, ModelStore, Presigning, StateStore
from fedn.reducer.exporting import NAMES, Format, checked_format, npz_chunks, write_torch
from fedn.reducer.front import Front
from fedn.reducer.gate import audited
from fedn.reducer.inspecting import stored_layout
from fedn.reducer.rest_bodies import CHUNK, uploaded
from fedn.reducer.rest_forms import MAX_PAGE, plain, query_choice, query_number
from fedn.reducer.spooling import Few, spooled
from fedn.stores.disk import disk_errors
from fedn.stores.retention import told_if_pruned
from fedn.wire.store_link import FOLLOWS

ADDRESS_SECONDS = 300
"""How long a download may begin by an address of the store's; it is followed at once."""
DIGEST_LETTERS = 64
SESSIONS_ASKED = 50
"""Of so many the optimizers' states are told from models when one looks for a model by its digest."""


def model_routes(front: Front) -> Blueprint:
    """Routes under /api/v1/models."""
    routes = Blueprint("models", __name__, url_prefix="/api/v1/models")
    conversions = Few(2, "conversions of models")

    @routes.get("")
    def listing() -> Response:
        """Seed models, newest first; with ?digest every stored model whose digest begins or ends so."""
        limit = query_number("limit", MAX_PAGE, low=1, high=MAX_PAGE)
        if piece := request.args.get("digest", ""):
            return jsonify(models=plain(_named(front, piece, limit)))
        return jsonify(models=plain(front.state.models(limit)))

    @routes.post("")
    def seed() -> tuple[Response, int]:
        """Upload a seed model: the raw safetensors file as the body, ?name= for people.

        Known is whether it was a seed already; then it has a new name, and is the newest.
        """
        name = _name(request.args.get("name", ""))
        with uploaded("model") as (chunks, size):
            before = {known.digest for known in front.state.models(MAX_PAGE)}
            info = front.seed_model(chunks, name, size)
        audited(info.digest, name=info.name, size=info.size)
        return jsonify(plain(info) | {"known": info.digest in before}), 201

    @routes.get("/<digest>")
    def download(digest: str) -> Response:
        """A model's bytes; Range and If-None-Match are understood. In another ?format, it is made anew.

        Who sends Fedn-Follows is sent to the model store instead, where that can be: by an address that is
        good for minutes, and a secret.
        """
        checked = check_digest("digest", digest)
        wanted = checked_format(query_choice("format", NAMES) or "safetensors")
        with told_if_pruned(front.state, checked):
            if wanted.format != "safetensors":
                audited(checked, format=wanted.format)
                return _exported(front.models, checked, wanted, conversions)
            return _elsewhere(front.models, checked) or _download(front.models, checked)

    @routes.get("/<digest>/info")
    def info(digest: str) -> Response:
        """What is known of a model."""
        return jsonify(plain(_info(front, check_digest("digest", digest))))

    return routes


def _name(text: str) -> str:
    if len(text) > 200 or not text.isprintable():
        raise InvalidInput("name", "is too long or not printable", "give at most 200 letters")
    return text


def _info(front: Front, digest: Digest) -> ModelInfo:
    with told_if_pruned(front.state, digest):
        size = front.models.size(digest)
    for known in front.state.models(limit=MAX_PAGE):
        if known.digest == digest:
            return known
    return ModelInfo(digest, size, "", "", 0.0)


def _named(front: Front, piece: str, limit: int) -> list[ModelInfo]:
    """Seed models and models of rounds alike: what is stored and is no package."""
    if not re.fullmatch(r"[0-9a-f]{1,64}", piece):
        raise InvalidInput("digest", f"{piece[:80]!r} is no part of one", "give hexadecimal digits")
    seeds = {info.digest: info for info in front.state.models(MAX_PAGE)}
    packages = {info.digest for info in front.state.packages(MAX_PAGE)}
    stored = (one for one in _stored(front.models, piece) if one.digest not in packages)
    found = {one.digest: one.size for one in islice(stored, limit)}
    if unknown := found.keys() - seeds.keys():
        for memory in unknown & _memories(front.state):
            del found[memory]
    return [seeds.get(one) or ModelInfo(one, found[one], "", "", 0.0) for one in sorted(found)]


def _stored(models: ModelStore, piece: str) -> Iterator[BlobInfo]:
    """Blobs whose digest begins or ends so; a whole one is asked for by name, without a listing."""
    if len(piece) < DIGEST_LETTERS:
        yield from (
            one for one in models.blobs() if one.digest.startswith(piece) or one.digest.endswith(piece)
        )
        return
    with contextlib.suppress(NotFound):
        yield models.blob(Digest(piece))


def _memories(state: StateStore) -> set[Digest]:
    """What server optimizers remember of the newest sessions: blobs that are no models."""
    found = set[Digest]()
    for info in state.sessions()[:SESSIONS_ASKED]:
        with contextlib.suppress(NotFound, Damaged):  # gone meanwhile; the verification finds damage
            for stored in state.records(info.session, info.head.round - 2, 2):
                found.add(Digest(str(stored.record.optimizer_state)))
    return found


# --- up --------------------------------------------------------------------------------------------


# --- down ------------------------------------------------------------------------------------------


def _elsewhere(models: ModelStore, digest: Digest) -> Response | None:
    """Where the store itself gives the model; who can't get it there asks again without the header."""
    if FOLLOWS not in request.headers or not isinstance(models, Presigning):
        return None
    models.size(digest)  # raises NotFound: an address of nothing would have the combiner avoid the store
    if not (address := models.url(digest, ADDRESS_SECONDS)):
        return None
    return Response(status=307, headers={"Location": address, "Cache-Control": "no-store"})


def _download(models: ModelStore, digest: Digest) -> Response:
    size = models.size(digest)
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": f'"{digest}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": f'attachment; filename="{digest[:12]}.safetensors"',
    }
    if digest in request.if_none_match:
        return Response(status=304, headers=headers)
    span = _span(digest, size)
    start, stop = span or (0, size)
    headers["Content-Length"] = str(stop - start)
    if span:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Response(
        _between(models, digest, start, stop),
        status=206 if span else 200,
        headers=headers,
        mimetype="application/octet-stream",
    )


def _exported(models: ModelStore, digest: Digest, wanted: Format, conversions: Few) -> Response:
    """The model in another form; its bytes have a digest of their own, which nobody has checked."""
    stored_layout(models, digest)  # what is no model is refused while that can still be said
    headers = {"Content-Disposition": f'attachment; filename="{digest[:12]}{wanted.suffix}"'}
    if wanted.format == "npz":
        return Response(_npz(models, digest), headers=headers, mimetype="application/octet-stream")
    with conversions.one():
        file = _torch(models, digest)
    headers["Content-Length"] = str(file.tell())
    answer = Response(_from_start(file), headers=headers, mimetype="application/octet-stream")
    answer.call_on_close(file.close)  # also if nobody reads it
    return answer


def _npz(models: ModelStore, digest: Digest) -> Iterator[bytes]:
    with models.map(digest) as file:
        yield from npz_chunks(file)


def _from_start(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while piece := file.read(CHUNK):
            yield piece


def _torch(models: ModelStore, digest: Digest) -> IO[bytes]:
    """A file without a name, at its end."""
    target = spooled(())
    try:
        with disk_errors(Path(tempfile.gettempdir())), spooled(models.read(digest)) as source:
            write_torch(source, target)
    except BaseException:
        target.close()
        raise
    return target


def _span(digest: Digest, size: int) -> tuple[int, int] | None:
    """The one byte range [start, stop) that is asked for, or None for the whole."""
    asked = request.range
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        return None
    unless = request.headers.get("If-Range")
    if unless is not None and unless.strip('"') != digest:
        return None
    span = asked.range_for_length(size)
    if span is None:
        raise RequestedRangeNotSatisfiable(size, "bytes", f"the model has {size} bytes")
    return span


def _between(models: ModelStore, digest: Digest, start: int, stop: int) -> Iterator[bytes]:
    left = stop - start
    for chunk in models.read(digest, start):
        piece = bytes(chunk[:left])
        left -= len(piece)
        yield piece
        if left <= 0:
            return
    if left:
        raise NotFound(f"model {digest} ended {left} bytes early")  # breaks the connection off, on purpose
