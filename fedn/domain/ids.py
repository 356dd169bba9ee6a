"""Identifiers: plain strings with one narrow alphabet, so that none can ever become a path or markup.

Ids from outside are checked once at the door (`check_id`), inside they are trusted by type.
"""

from __future__ import annotations

import hashlib
import re
from typing import NewType

from fedn.domain.errors import Incompatible, InvalidInput

SessionId = NewType("SessionId", str)
ClientId = NewType("ClientId", str)
CombinerName = NewType("CombinerName", str)
Incarnation = NewType("Incarnation", str)
Digest = NewType("Digest", str)
"""Lower-case hexadecimal sha256, 64 characters."""

PROTOCOL_VERSION = 1
"""Announced by everyone. Neighbours at most one version apart work together."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


def check_id(field: str, value: str) -> str:
    """Return ``value`` if it is 1–64 of ``A–Z a–z 0–9 . _ -`` and starts with a letter or digit.

    Raises:
        InvalidInput: naming ``field``.
    """
    if not _ID.match(value):
        raise InvalidInput(
            field,
            f"{value[:80]!r} is not a valid name",
            "use 1–64 letters, digits, '.', '_' or '-', starting with a letter or digit",
        )
    return value


def check_digest(field: str, value: str) -> Digest:
    """Return ``value`` if it is a lower-case hexadecimal sha256, else raise InvalidInput."""
    if not _DIGEST.match(value):
        raise InvalidInput(field, f"{value[:80]!r} is not a sha256 digest", "give 64 hexadecimal digits")
    return Digest(value)


def digest_of(data: bytes | memoryview) -> Digest:
    """The sha256 of ``data``."""
    return Digest(hashlib.sha256(data).hexdigest())


def compatible(version: int) -> bool:
    """Whether a neighbour announcing ``version`` can work with this one."""
    return abs(version - PROTOCOL_VERSION) <= 1 and version >= 1


def incompatible(we: str, they: str, version: int) -> Incompatible:
    """What a neighbour is told that `compatible` says no to; ``we`` and ``they`` name the tiers."""
    return Incompatible(
        f"this {we} speaks protocol {PROTOCOL_VERSION}, the {they} {version}; upgrade the older"
    )


def derived_seed(seed: int, *scope: object) -> int:
    """A 63-bit seed that depends on the session's ``seed`` and a scope such as (round, client).

    Every random choice of a session comes from here, so the plan's seed reproduces it.
    """
    text = ":".join([str(seed), *map(str, scope)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
