"""Whether package code is confined on this machine, as its owner wants it: `packages` asks when it starts.

`confine` is what confines. Files are what counts as confined: a kernel that lets package code empty files, or
has no Landlock at all, is not enough where it is required.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from fedn.client import confine
from fedn.client.surroundings import is_path
from fedn.domain.errors import InvalidConfig

_log = logging.getLogger("fedn.client")
REQUIRED, AVAILABLE, NONE = "required", "available", "none"


def settle(wanted: str, data: str, version: int) -> bool:
    """Whether package code is to be confined, as ``wanted`` says, by Landlock ``version``; said in the log.

    Raises InvalidConfig where it is required and this system can't, so that no package runs.
    """
    if is_missing(data):
        _log.warning("there is nothing at %s: check --data; package code gets it as it is", data)
    if wanted == NONE:
        _log.warning(
            "package code is not confined: it can read and write what this user can (confinement: none)"
        )
        return False
    if wanted == REQUIRED and version < confine.TRUNCATES:
        has = f"Landlock {version}, which lets files be emptied" if version else "no Landlock"
        remedy = "use Linux 6.2 or later with Landlock switched on, or run packages as confinement: available"
        raise InvalidConfig("confinement", f"is required, and this system has {has}", remedy)
    if not version:
        _log.warning("package code is not confined to its folders: this system has no Landlock")
        return False
    if version < confine.TRUNCATES:
        _log.warning("this system's Landlock is old: package code can empty files that its user may write")
    _log.info("package code is confined by Landlock %d (confinement: %s)", version, wanted)
    if not is_path(data):
        _log.info("the data is no file or folder here; package code can read no others, either")
    return True


def is_missing(data: str) -> bool:
    """Whether an owner's ``data`` reads like a path, with a separator or an extension, and is not there.

    It may be something else, or be mounted later. An address, which may hold a password, is none.
    """
    path = Path(data).expanduser()
    return "://" not in data and bool(len(path.parts) > 1 or path.suffix) and not is_path(str(path))


def words(wanted: str, version: int) -> str:
    """What `fedn client status` says of it."""
    if wanted == NONE:
        return "none: package code can read and write what this user can"
    return f"{wanted}, by Landlock {version}" if version else f"{wanted}, and not there: no Landlock"


def check_apart(data: str, secrets: Mapping[str, Path]) -> None:
    """Raise InvalidConfig if one of the client's own files or folders, by name, lies in ``data``.

    A kernel allows a folder with all that is in it. What is in the data is also copied, shared and backed up
    as data is.
    """
    if not is_path(str(folder := Path(data).expanduser())) or not data:
        return
    folder = folder.resolve()
    for name, path in secrets.items():
        if (whole := path.resolve()) == folder or folder in whole.parents:
            problem = f"{folder} holds the client's own {path} ({name}), which package code must not read"
            remedy = "put the data into a folder of its own, or that somewhere else"
            raise InvalidConfig("data", problem, remedy)
