"""Who somebody is: roles, tokens, members, and the audit log's entries. Values and rules only.

People (admin, operator, viewer) show a token with every request. Members (client, combiner) show a join
token once; from then on the certificate that they got for it says who they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import Damaged, InvalidInput
from fedn.domain.ids import Digest, digest_of

TOKEN_PREFIX = "fedn1"  # noqa: S105 — where every token begins, no secret
TOKEN_BYTES = 200
"""No token text is longer."""
AUDIT_GENESIS = Digest("0" * 64)
"""The parent named by the first entry of the audit log."""
FOREVER = float("inf")

_TOKEN = re.compile(r"fedn1\.([0-9a-f]{64})\.([0-9a-f]{16})\.([A-Za-z0-9_-]{43})\Z")


class Role(StrEnum):
    """What somebody may do; `fedn.identity.roles` has the table."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"
    COMBINER = "combiner"
    CLIENT = "client"
    REDUCER = "reducer"
    ANYBODY = "anybody"
    """Everyone in a network without identity, where nothing is asked: loopback, or loudly insecure."""
    NOBODY = "nobody"
    """Somebody who has not said who they are in a network that asks."""


PEOPLE = frozenset({Role.ADMIN, Role.OPERATOR, Role.VIEWER})
MEMBERS = frozenset({Role.COMBINER, Role.CLIENT})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. ``name`` is a client's id, a combiner's name, a person's token name, or an address.

    ``token``: the id of a person's token. ``expires_at`` (Unix time): when a certificate, or a token, ends;
    what was opened with it ends then, too.
    """

    role: Role
    name: str
    token: str = ""
    expires_at: float = FOREVER

    def __str__(self) -> str:
        return f"{self.role}:{self.name}"


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token as people hold it: the network's fingerprint, the token's id, and its secret."""

    fingerprint: str
    token: str
    secret: str = field(repr=False)

    def reveal(self) -> str:
        """The whole text. Show it once, and to nobody but its owner."""
        return ".".join((TOKEN_PREFIX, self.fingerprint, self.token, self.secret))


def parse_token(field_: str, text: str) -> TokenText:
    """Read a token's text. Raises InvalidInput naming ``field_``, never repeating the text."""
    found = _TOKEN.match(text.strip()) if len(text) <= TOKEN_BYTES else None
    if found is None:
        raise InvalidInput(field_, "is not a token of this kind of network",
                           "give the whole text that `fedn token create` printed")  # fmt: skip
    return TokenText(*found.groups())


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is stored. ``secret_digest`` is the sha256 of its secret; ``uses`` 0 means no bound.

    ``name`` names a person; for a client or combiner, if not empty, it is the only name it may join by.
    ``revoked_at`` 0 means it is not.
    """

    token: str
    role: Role
    name: str
    labels: Mapping[str, str]
    uses: int
    used: int
    created_at: float
    expires_at: float
    created_by: str
    secret_digest: Digest = field(repr=False)
    revoked_at: float = 0.0

    def fault(self, now: float) -> str:
        """Why it can't be used (any more); '' if it can."""
        if self.revoked_at:
            return "this token was revoked"
        if now >= self.expires_at:
            return "this token has expired"
        return "this token has been used up" if self.uses and self.used >= self.uses else ""


@dataclass(frozen=True, slots=True)
class Member:
    """A client or combiner that has joined. ``key`` is the sha256 of its public key (SPKI, DER).

    ``member`` is the client's id or the combiner's name, ``name`` what people call it. ``token``: by which
    it joined. ``expires_at``: when the last of its certificates ends. ``revoked_at`` 0 means it is not.
    """

    role: Role
    member: str
    name: str
    labels: Mapping[str, str]
    key: Digest
    token: str
    joined_at: float
    renewed_at: float
    expires_at: float
    revoked_at: float = 0.0

    @property
    def principal(self) -> Principal:
        return Principal(self.role, self.member)


# --- the audit log ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AuditNote:
    """What an entry is to say. A store that changes something chains it to the others in the same step.

    ``at`` is Unix time, ``actor`` a principal in words (role:name), ``event`` a past participle such as
    ``model_seeded``, ``subject`` what it was done to. ``details`` are scalars, and never secrets.
    """

    at: float
    actor: str
    event: str
    subject: str
    details: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that somebody did, or was refused: a note with its place in the chain."""

    number: int
    parent: Digest
    at: float
    actor: str
    event: str
    subject: str
    details: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def canonical(self) -> bytes:
        """The bytes that are stored and hashed."""
        return canonical_json(asdict(self))


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry with the bytes it came from and their digest."""

    entry: AuditEntry
    raw: bytes
    digest: Digest


def store_entry(entry: AuditEntry) -> StoredEntry:
    """Canonicalise and hash a new entry."""
    raw = entry.canonical()
    return StoredEntry(entry, raw, digest_of(raw))


def read_entry(raw: bytes) -> StoredEntry:
    """Read stored bytes back; raise Damaged if they are not an entry in the one form it is written in."""
    try:
        values: dict[str, Any] = json.loads(raw)
        entry = AuditEntry(**values)
        if not _whole(entry) or entry.canonical() != raw:
            raise ValueError("it is not in the form in which entries are written")
    except (ValueError, TypeError, RecursionError) as error:
        raise Damaged(f"an entry of the audit log can't be read: {error}") from None
    return StoredEntry(entry, raw, digest_of(raw))


def _whole(entry: AuditEntry) -> bool:
    match entry:
        case AuditEntry(int(), str(), int() | float(), str(), str(), str(), dict(details)):
            return all(isinstance(value, str | int | float) for value in details.values())
        case _:
            return False
