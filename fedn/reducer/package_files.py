"""What is in a stored compute package: its files, the text of one, and the sessions that run it.

Asked by `rest_packages`, and by the page. Nothing is unpacked; a path is looked up among the archive's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedn.domain.errors import InvalidInput, NotFound
from fedn.domain.ids import Digest
from fedn.packages.members import Member, members
from fedn.ports import ModelStore, SessionInfo, StateStore

MOST_SHOWN = 256 * 2**10
"""Bytes of a text that is shown."""
_CONTROLS = frozenset(map(chr, range(32))) - set("\t\n\r\f\x1b")


def files_in(models: ModelStore, package: Digest) -> tuple[Member, ...]:
    """The files of a package in the archive's order. Raises NotFound, and InvalidInput if it is none."""
    with models.map(package) as archive:
        return tuple(members(archive))


def text_in(models: ModelStore, package: Digest, path: str) -> str:
    """The text of one file.

    Raises:
        NotFound: no such package, or no such file in it.
        InvalidInput: the file is too large to be shown, or no text in UTF-8.
    """
    with models.map(package) as archive:
        member = next((one for one in members(archive) if one.path == path), None)
        if member is None:
            raise NotFound(f"the package has no file {path[:200]!r}", digest=package, path=path[:200])
        remedy = f"get the archive: `fedn package download {package[:12]}`"
        if member.size > MOST_SHOWN:
            problem = f"has {member.size} bytes; up to {MOST_SHOWN} are shown"
            raise InvalidInput(path[:200], problem, remedy)
        raw = bytes(archive[member.offset : member.offset + member.size])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInput(path[:200], "is not text in UTF-8", remedy) from None
    if not _CONTROLS.isdisjoint(text):
        raise InvalidInput(path[:200], "is binary", remedy)
    return text


def sessions_with(state: StateStore, package: Digest) -> Sequence[SessionInfo]:
    """Sessions whose plan names the package, newest first."""
    return [info for info in state.sessions() if info.plan.package == package]
