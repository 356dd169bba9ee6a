"""Compute packages over HTTP: up as one archive, checked before it is kept, and what is known of them.

An archive lies in the model store under its sha256 like any blob, so that combiners get it as they get models
(`rest_models`). What it has to be is said in `fedn.packages.archive`. The page shows the newest, and its form
sends an archive here as any program does (`static/upload.js`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from flask import Blueprint, Response, jsonify

from fedn.domain.ids import check_digest
from fedn.packages.archive import inspect
from fedn.ports import Observed, PackageInfo
from fedn.reducer.front import Front
from fedn.reducer.gate import audited
from fedn.reducer.package_files import files_in, sessions_with, text_in
from fedn.reducer.rest_bodies import CHUNK, uploaded
from fedn.reducer.rest_forms import MAX_PAGE, plain, query_number
from fedn.reducer.spooling import gathered


def package_routes(front: Front) -> Blueprint:
    """Routes under /api/v1/packages."""
    routes = Blueprint("packages", __name__, url_prefix="/api/v1/packages")

    @routes.get("")
    def listing() -> Response:
        """Compute packages, newest first."""
        limit = query_number("limit", 100, low=1, high=MAX_PAGE)
        return jsonify(packages=[_short(info) for info in front.state.packages(limit)])

    @routes.post("")
    def upload() -> tuple[Response, int]:
        """Upload a compute package: its archive as the body. The same one again changes nothing."""
        with uploaded("archive") as (chunks, _):
            info = _added(front, chunks)
        audited(info.digest, name=info.name, size=info.size)
        return jsonify(plain(info)), 201

    @routes.get("/<digest>")
    def info(digest: str) -> Response:
        """One compute package with its manifest; /models/<digest> has its bytes."""
        return jsonify(plain(front.state.package(check_digest("digest", digest))))

    @routes.get("/<digest>/info")
    def told(digest: str) -> Response:
        """The same for people: with the sessions that run it, newest first."""
        package = front.state.package(check_digest("digest", digest))
        sessions = [
            {"session": one.session, "name": one.name, "state": one.state, "created_at": one.created_at}
            for one in sessions_with(front.state, package.digest)
        ]
        return jsonify(plain(package) | {"sessions": sessions[:MAX_PAGE]})

    @routes.get("/<digest>/files")
    def files(digest: str) -> Response:
        """The files in a package, in the archive's order."""
        package = front.state.package(check_digest("digest", digest))
        found = files_in(front.models, package.digest)
        shown = [{"path": one.path, "size": one.size, "executable": one.executable} for one in found]
        return jsonify(digest=package.digest, files=shown)

    @routes.get("/<digest>/files/<path:name>")
    def text(digest: str, name: str) -> Response:
        """One file of a package that is a text and not too long."""
        package = front.state.package(check_digest("digest", digest))
        return Response(text_in(front.models, package.digest, name), content_type="text/plain; charset=utf-8")

    return routes


def _short(info: PackageInfo) -> dict[str, Any]:
    """A package without its manifest, of which a list of many would be long."""
    form: dict[str, Any] = plain(info)
    return form | {"description": form.pop("manifest").get("description", "")}


def _added(front: Front, chunks: Iterable[bytes]) -> PackageInfo:
    """Check an archive aside, then keep it: the blob first, what is known of it second."""
    with gathered(chunks) as archive:
        package = inspect(archive)
        front.models.put((archive[at : at + CHUNK] for at in range(0, len(archive), CHUNK)), package.digest)
    manifest = package.manifest
    info = PackageInfo(package.digest, package.size, manifest.name, manifest.as_dict(), time.time())
    front.state.add_package(info)
    front.hub.observe(
        Observed("package_uploaded", {"package": info.digest, "name": info.name, "size": info.size})
    )
    return info
