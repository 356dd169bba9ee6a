"""What the user's code raised, as a sentence for the network: what kind of error it was, and no more.

What an error says may quote the data, so its words stay in the client's log, unless its owner shares them.
Errors of our own about a model or a plan say nothing of the data, and go as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from fedn.domain.errors import FednError, InvalidInput, error_from

SHARED_LETTERS = 300
LONGEST = 2000
"""Letters of a sentence that goes to the network."""
EXTRAS: Mapping[str, str] = {"keras": "keras", "sklearn": "sklearn", "tensorflow": "keras", "torch": "torch"}
"""Frameworks by module, with the extra that installs each."""
LOCAL = "see the traceback in this client's log"


def raised(what: str, error: BaseException, share: bool) -> InvalidInput:
    """``what`` raised ``error``; with ``share`` its words go along."""
    if isinstance(error, ModuleNotFoundError) and re.fullmatch(r"[A-Za-z_][\w.]{0,79}", error.name or ""):
        return InvalidInput(
            what, f"needs the module {error.name}, which is not there", _remedy(what, error.name)
        )
    problem = f"raised {type(error).__name__[:80]}"
    if isinstance(error, MemoryError):
        problem += ": there was not enough memory"
    elif share and (words := _words(error)):
        problem += f": {words}"
    return InvalidInput(what, problem, LOCAL)


def _remedy(what: str, module: str | None) -> str:
    extra = EXTRAS.get(str(module).partition(".")[0])
    install = f"pip install '.[{extra}]' in fedn's source tree" if extra else "install it"
    install += " on this client"
    elsewhere = ", or name it under requirements in fedn.yaml" if what.startswith("package") else ""
    return install + elsewhere


def _words(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # even this is the user's code
        return ""
    return " ".join(text.split())[:SHARED_LETTERS]


def as_json(error: FednError) -> dict[str, object]:
    """An error to be told to another process."""
    return {"code": error.code, "message": error.message[:LONGEST], "details": dict(error.details)}


def from_json(told: object) -> FednError:
    """The error that another process told of, as the class it was; of what is malformed an InvalidInput."""
    if isinstance(told, Mapping) and isinstance(told.get("message"), str):
        message = told["message"][:LONGEST]
        details = told.get("details")
        known = error_from(str(told.get("code")), message, details if isinstance(details, Mapping) else {})
        return known if isinstance(known, InvalidInput) else InvalidInput("package", message)
    return InvalidInput("package", "failed, and did not say why", LOCAL)
