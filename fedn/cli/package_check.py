"""A compute package before it is handed on: beyond what clients check, what can be seen of its code here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedn import plugins
from fedn.domain.errors import InvalidInput
from fedn.helpers.frameworks import NEED_BUILD
from fedn.packages.functions import MAX_SOURCE_BYTES, Read, check_functions
from fedn.packages.manifest import MANIFEST, TASKS, Manifest

if TYPE_CHECKING:
    from fedn.packages.archive import Package
    from fedn.packages.packing import Folder


def surveyed(root: Path) -> Folder:
    """`packing.survey`, and what can be seen of helper and functions. Raises InvalidInput."""
    from fedn.packages.packing import survey

    folder = survey(root)
    packed = {file.path for file in folder.files}
    _check(folder.manifest, lambda path: _read(root / path, 0) if path in packed else None)
    return folder


def inspected(archive: Path) -> Package:
    """`archive.inspect`, and what can be seen of helper and functions. Raises InvalidInput."""
    from fedn.packages.archive import inspect
    from fedn.packages.members import NO_TAR

    try:
        package = inspect(archive)
    except InvalidInput as error:
        if error.details.get("problem") != NO_TAR:
            raise
        within = (archive.parent / MANIFEST).is_file()
        remedy = f"give its folder, {archive.parent}" if within else f"give a folder with a {MANIFEST}"
        raise InvalidInput("package", f"{archive.name} {NO_TAR}", remedy) from None
    files = {file.path: file for file in package.files}

    def read(path: str) -> bytes | None:
        member = files.get(path)
        return _read(archive, member.offset)[: member.size] if member else None

    _check(package.manifest, read)
    return package


def _check(manifest: Manifest, read: Read) -> None:
    known = plugins.available()["fedn.helpers"]
    if manifest.helper not in known:
        remedy = f"known are {', '.join(known)}; one of your own has to be installed here, too"
        raise InvalidInput(f"{MANIFEST}: helper", f"{manifest.helper!r} is unknown", remedy)
    _check_build(manifest)
    check_functions(manifest, read)


def _check_build(manifest: Manifest) -> None:
    """Commands get the model as a file, so that its helper is not asked."""
    points = manifest.entry_points
    functions = [name for name in TASKS if name in points and points[name].kind == "python"]
    if manifest.helper in NEED_BUILD and functions and "build" not in points:
        problem = f"is missing, and without it the helper {manifest.helper} has no model for {functions[0]}"
        remedy = 'add build: {python: "app:build"}, a function that returns a fresh one'
        raise InvalidInput(f"{MANIFEST}: entry_points.build", problem, remedy)


def _read(file: Path, offset: int) -> bytes:
    try:
        with file.open("rb") as source:
            source.seek(offset)
            return source.read(MAX_SOURCE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(str(file), f"can't be read ({error.strerror})", "check the path") from None
