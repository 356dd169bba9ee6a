"""Compute packages over HTTP: up as one archive, checked before it is kept, and what is known of them.

An archive lies in the model store under its sha256 like any blob, so that combiners get it as they get models
(`rest_models`). What it has to be is said in `fedn.packages.archive`. The page shows the newest, and its form
sends an archive here as any program does (`static/upload.js`).
"""

from __future__ import annotations

import mmap
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import LengthRequired

from fedn.domain.ids import check_digest
from fedn.identity.roles import may_rest
from fedn.packages.archive import inspect
from fedn.packages.members import MAX_BYTES
from fedn.ports import Observed, PackageInfo
from fedn.reducer.front import Front
from fedn.reducer.gate import audited, principal
from fedn.reducer.rest_forms import MAX_PAGE, plain, query_number
from fedn.reducer.rest_models import CHUNK, drain, received
from fedn.stores.disk import disk_errors

SHOWN = 20
"""Packages on the page."""


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
        size = request.content_length
        if size is None:
            raise LengthRequired("Content-Length is missing; send the size of the archive")
        try:
            info = _added(front, received(request.stream, size))
        except Exception:
            drain(request.stream)
            raise
        audited(info.digest, name=info.name, size=info.size)
        return jsonify(plain(info)), 201

    @routes.get("/<digest>")
    def info(digest: str) -> Response:
        """One compute package with its manifest; /models/<digest> has its bytes."""
        return jsonify(plain(front.state.package(check_digest("digest", digest))))

    @routes.app_context_processor
    def on_the_page() -> dict[str, Any]:
        may = may_rest(principal().role, "POST", "/api/v1/packages")
        newest = partial(front.state.packages, SHOWN + 1)  # asked for where it is shown
        return {"newest_packages": newest, "packages_shown": SHOWN,
                "may_upload": may, "package_limit": MAX_BYTES}  # fmt: skip

    return routes


def _short(info: PackageInfo) -> dict[str, Any]:
    """A package without its manifest, of which a list of many would be long."""
    form: dict[str, Any] = plain(info)
    return form | {"description": form.pop("manifest").get("description", "")}


def _added(front: Front, chunks: Iterable[bytes]) -> PackageInfo:
    """Check an archive aside, then keep it: the blob first, what is known of it second."""
    with _gathered(chunks) as archive:
        package = inspect(archive)
        front.models.put((archive[at : at + CHUNK] for at in range(0, len(archive), CHUNK)), package.digest)
    manifest = package.manifest
    info = PackageInfo(package.digest, package.size, manifest.name, manifest.as_dict(), time.time())
    front.state.add_package(info)
    front.hub.observe(
        Observed("package_uploaded", {"package": info.digest, "name": info.name, "size": info.size})
    )
    return info


@contextmanager
def _gathered(chunks: Iterable[bytes]) -> Iterator[memoryview]:
    """A whole body as memory that a file without a name stands behind."""
    with disk_errors(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        if not file.tell():  # nothing can't be mapped
            yield memoryview(b"")
            return
        # Not closed here: the traceback of a refusal still looks at it. The collector unmaps it.
        yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
