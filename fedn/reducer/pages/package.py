"""/packages/<digest>: what is in a compute package, and which sessions run it.

A package never changes: when something happens, `static/live.js` gets the page's frame alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Blueprint, render_template, request

from fedn.domain.errors import InvalidInput, NotFound
from fedn.domain.ids import Digest, check_digest
from fedn.packages.manifest import MANIFEST
from fedn.packages.members import Member
from fedn.ports import ModelStore
from fedn.reducer.package_files import files_in, sessions_with, text_in
from fedn.reducer.pages.frame import Site

FILES_SHOWN = 200
SESSIONS_SHOWN = 20


def routes(site: Site) -> Blueprint:
    """/packages/<digest>."""
    page = Blueprint("package", __name__)
    front = site.front

    @page.get("/packages/<digest>")
    def show(digest: str) -> str:
        """One package, with the text of one ?file= of it; its manifest if none is named."""
        package = front.state.package(check_digest("digest", digest))
        if "Fedn-Live" in request.headers:
            return render_template("live.html")
        name = request.args.get("file", MANIFEST)
        files, gone = _files(front.models, package.digest)
        sessions = sessions_with(front.state, package.digest)
        return render_template(
            "package.html",
            package=package,
            points=_points(package.manifest),
            files=files[:FILES_SHOWN],
            all_files=len(files),
            gone=gone,
            **({} if gone else _opened(front.models, package.digest, name)),
            sessions=sessions[:SESSIONS_SHOWN],
            all_sessions=len(sessions),
        )

    return page


def _points(manifest: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Entry points as (name, kind, target)."""
    return [
        (name, "command", point) if isinstance(point, str) else (name, "Python", point["python"])
        for name, point in manifest.get("entry_points", {}).items()
    ]


def _files(models: ModelStore, package: Digest) -> tuple[Sequence[Member], str]:
    """The files; or none, and why the archive is not here."""
    try:
        return files_in(models, package), ""
    except NotFound as error:
        return (), error.message


def _opened(models: ModelStore, package: Digest, name: str) -> dict[str, str]:
    """The text of a file, or why it is not shown."""
    try:
        return {"opened": name, "text": text_in(models, package, name)}
    except InvalidInput as error:
        return {"opened": name, "refusal": error.message}
