"""Every error of the system, in one drawn tree.

    FednError
    ├── InvalidInput          what a person or a neighbour gave is wrong: which field, what, what to do
    │   ├── InvalidConfig     a settings file, a flag or the environment
    │   │   └── LoginRefused  a store that does not know our user, or not by this password
    │   ├── InvalidPlan       a compute plan
    │   └── InvalidModel      bytes that are not a safe, finite, well-formed model
    ├── Unauthenticated       who asks has not shown who they are, or with something that is no longer valid
    ├── Forbidden             who asks is known, and may not do this
    │   └── Revoked           who asks was a member of this network, and is not any more
    ├── NotFound              a session, model, round or combiner that does not exist
    ├── Conflict              somebody else decided first
    │   ├── TrailConflict     the head of the trail is not the expected parent
    │   └── StaleTerm         a newer reducer is in charge
    ├── Incompatible          a neighbour speaks a protocol version this one does not
    ├── Unavailable           try again later, nothing is lost
    │   ├── StoreUnavailable  the state or model store did not answer
    │   ├── LinkBroken        a neighbour did not answer
    │   └── Busy              a named limit is reached
    ├── Damaged               stored bytes are not what their digest says
    └── InvalidTransition     a machine met an impossible event; a bug, with its recent story

A refusal that the protocol foresees is not an error but a value: see `Refused`.
The REST API shows an error as ``{code, error, details, status}``, gRPC as a status code; both maps
are derived from the ``code`` and ``status`` attributes here, so they can't drift apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum


class FednError(Exception):
    """Root of the tree. ``code`` is stable and machine-readable; ``status`` is the HTTP status."""

    code = "internal"
    status = 500

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, object] = details

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, dict(self.details)))


def _rebuild(cls: type[FednError], message: str, details: dict[str, object]) -> FednError:
    error = cls.__new__(cls)
    FednError.__init__(error, message, **details)
    return error


class InvalidInput(FednError):
    """A value is wrong. Says which field, what was wrong with it and what to do."""

    code = "invalid_input"
    status = 400

    def __init__(self, field: str, problem: str, remedy: str = "") -> None:
        text = f"{field}: {problem}" + (f" — {remedy}" if remedy else "")
        super().__init__(text, field=field, problem=problem, remedy=remedy)


class InvalidConfig(InvalidInput):
    code = "invalid_config"


class LoginRefused(InvalidConfig):
    code = "login_refused"


class InvalidPlan(InvalidInput):
    code = "invalid_plan"


class InvalidModel(InvalidInput):
    code = "invalid_model"


class Unauthenticated(FednError):
    code = "unauthenticated"
    status = 401


class Forbidden(FednError):
    code = "forbidden"
    status = 403


class Revoked(Forbidden):
    code = "revoked"


class NotFound(FednError):
    code = "not_found"
    status = 404


class Conflict(FednError):
    code = "conflict"
    status = 409


class TrailConflict(Conflict):
    code = "trail_conflict"


class StaleTerm(Conflict):
    code = "stale_term"


class Incompatible(FednError):
    code = "incompatible_protocol"
    status = 426


class Unavailable(FednError):
    code = "unavailable"
    status = 503


class StoreUnavailable(Unavailable):
    code = "store_unavailable"


class LinkBroken(Unavailable):
    code = "link_broken"


class Busy(Unavailable):
    code = "busy"
    status = 429


class Damaged(FednError):
    code = "damaged"
    status = 500


class InvalidTransition(FednError):
    """An event that can't happen in this state. ``details["story"]`` holds the last events."""

    code = "invalid_transition"


def error_from(code: str, message: str, details: Mapping[str, object] | None = None) -> FednError | None:
    """An error that crossed a wire as ``code`` and message, as the class that was raised there.

    None for a code that this version does not know. The message is taken as it is: subclasses make
    theirs from other arguments.
    """
    cls = next((cls for cls in _tree(FednError) if cls.code == code), None)
    if cls is None:
        return None
    error = cls.__new__(cls)
    FednError.__init__(error, message, **(details or {}))
    return error


def _tree(cls: type[FednError]) -> Iterator[type[FednError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _tree(child)


class RefusalCode(StrEnum):
    """Why an update is not taken. Each is final for that update: the client drops it."""

    WRONG_BASE_MODEL = "wrong_base_model"
    WRONG_LAYOUT = "wrong_layout"
    NOT_SELECTED = "not_selected"
    TOO_LARGE = "too_large"
    BAD_WEIGHT = "bad_weight"
    DIGEST_CONFLICT = "digest_conflict"
    DIGEST_MISMATCH = "digest_mismatch"
    NOT_FINITE = "not_finite"


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal as a value: the code decides, the reason tells a person what to do."""

    code: RefusalCode
    reason: str
