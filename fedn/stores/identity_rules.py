"""What every identity store decides before it writes, in one wording. Used by the memory and sqlite stores.

Each decision is a function from the rows as they are to the rows as they become; a store reads, asks, and
writes in one step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import isnan

from fedn.domain.errors import Conflict, Damaged, InvalidInput, NotFound, Revoked, Unauthenticated
from fedn.domain.identity import (
    AUDIT_GENESIS,
    MEMBERS,
    PEOPLE,
    AuditEntry,
    AuditNote,
    Member,
    Role,
    StoredEntry,
    Token,
    read_entry,
    store_entry,
)
from fedn.domain.ids import Digest, digest_of
from fedn.stores.rules import MAX_INTEGER

ENTRY_BYTES = 64 * 1024
"""No entry of the audit log is longer."""


# --- tokens


def keepable_token(token: Token) -> Token:
    """The token with labels of its own; raises InvalidInput if a store could not give it back."""
    if token.role not in PEOPLE | MEMBERS:
        raise InvalidInput("role", f"there are no tokens for the role {token.role}")
    if not (0 <= token.uses <= MAX_INTEGER and 0 <= token.used <= MAX_INTEGER):
        raise InvalidInput("uses", "is not a number of times", "give 0 (no bound) or more")
    _check_text(token.name, token.created_by)
    _check_times(token.created_at, token.expires_at, token.revoked_at)
    return replace(token, labels=dict(token.labels))


def check_same(known: Token, token: Token) -> None:
    """Raise Conflict if ``token`` is another one than ``known``, whatever has become of that since."""
    if known != replace(token, used=known.used, revoked_at=known.revoked_at):
        raise Conflict(f"there is another token {token.token}", token=token.token)


def revoked_token(token: Token, now: float) -> Token:
    _check_revocation(now)
    return token if token.revoked_at else replace(token, revoked_at=now)


# --- members


def keepable_member(member: Member) -> Member:
    """The member with labels of its own; raises InvalidInput if a store could not give it back."""
    if member.role not in MEMBERS:
        raise InvalidInput("role", f"{member.role} is no role that joins", "join as a client or a combiner")
    _check_text(member.name)
    _check_times(member.joined_at, member.renewed_at, member.expires_at)
    return replace(member, labels=dict(member.labels), revoked_at=0.0)


def enrolled(
    token: Token, member: Member, known: Member | None, alike: Iterable[Member], now: float
) -> tuple[Token, Member]:
    """The token and the member as they become when ``member`` joins by ``token``.

    ``known`` is the member of that id so far; ``alike`` are those whose id is the new one's name, or whose
    name its id. Raises what `fedn.ports.IdentityStore.enroll` says.
    """
    _check_times(now)
    if known is not None:
        check_not_revoked(known)
    if token.role != member.role:
        raise InvalidInput("role", f"this token is for a {token.role}, not for a {member.role}",
                           f"ask for a token for a {member.role}")  # fmt: skip
    again = known is not None and (known.key, known.token) == (member.key, token.token)
    fault = (replace(token, used=0) if again else token).fault(now)
    if fault:
        raise Unauthenticated(fault)
    if known is None or known.name != member.name:
        _check_not_mistaken(member, alike)
    if known is None:
        return replace(token, used=token.used + 1), member
    if known.key != member.key:
        raise Conflict(
            f"there is a {member.role} {member.member} with another key already; choose another name, or "
            "bring its identity folder here", role=str(member.role), member=member.member,
        )  # fmt: skip
    member = replace(member, expires_at=max(known.expires_at, member.expires_at))
    return (token if again else replace(token, used=token.used + 1)), member


def _check_not_mistaken(member: Member, alike: Iterable[Member]) -> None:
    """Raise Conflict if whoever names this client could mean another member, or the other way round.

    Names may be shared. Combiners are not asked: a client could keep them out by calling itself so.
    """
    if member.role is not Role.CLIENT:
        return
    others = [each for each in alike if (each.role, each.member) != (member.role, member.member)]
    if any(other.member == member.name for other in others):
        raise Conflict(f"{member.name!r} is the id of another member; choose another name", name=member.name)
    if any(other.name == member.member and not other.revoked_at for other in others):
        raise Conflict(
            f"another member is called {member.member!r}; choose another id (a fresh state folder makes one)",
            member=member.member,
        )


def renewed(known: Member, renewed_at: float, expires_at: float) -> Member:
    """The member with a newer certificate. An older one may last longer, and has to be waited for."""
    check_not_revoked(known)
    _check_times(renewed_at, expires_at)
    return replace(known, renewed_at=renewed_at, expires_at=max(known.expires_at, expires_at))


def revoked_member(member: Member, now: float) -> Member:
    _check_revocation(now)
    return member if member.revoked_at else replace(member, revoked_at=now)


def nameless(member: Member) -> Member:
    return replace(member, name="", labels={})


def importable_member(member: Member) -> Member:
    """A member of another store, revoked or not; raises InvalidInput if this one could not give it back."""
    _check_times(member.revoked_at)
    return replace(keepable_member(member), revoked_at=member.revoked_at)


def check_not_revoked(member: Member) -> None:
    """Raise Revoked if the member was revoked."""
    if member.revoked_at:
        raise Revoked(f"{member.role} {member.member} was revoked by an administrator of this network",
                      role=str(member.role), member=member.member)  # fmt: skip


# --- the audit log


def next_entry(newest: tuple[int, str] | None, note: AuditNote) -> StoredEntry:
    """The entry that follows the one with this number and stored digest; raises InvalidInput."""
    number, parent = newest or (0, AUDIT_GENESIS)
    entry = AuditEntry(
        number + 1, Digest(parent), note.at, note.actor, note.event, note.subject, dict(note.details)
    )
    try:
        stored = read_entry(store_entry(entry).raw)  # what can't be read back is not written
    except (ValueError, TypeError, RecursionError, Damaged) as error:
        raise InvalidInput("details", f"of the audit entry {note.event!s:.80} can't be kept: {error}",
                           "give finite numbers and strings, not nested") from None  # fmt: skip
    if len(stored.raw) > ENTRY_BYTES:
        raise InvalidInput(
            "details", f"of the audit entry {note.event:.80} are longer than {ENTRY_BYTES} bytes"
        )
    return stored


def read_audit(number: int, digest: str, raw: bytes) -> StoredEntry:
    """A row as an entry; raise Damaged if it changed since it was written."""
    if not isinstance(raw, bytes) or digest_of(raw) != digest:  # damage may change the type, too
        raise Damaged(f"entry {number} of the audit log does not match its digest", number=number)
    stored = read_entry(raw)
    if stored.entry.number != number:
        raise Damaged(f"entry {number} of the audit log says that it is {stored.entry.number}", number=number)
    return stored


def other_entry(number: int) -> Conflict:
    return Conflict(
        f"entry {number} of the audit log is there already, and another one: this store belongs to another "
        "network, or has gone its own way", number=number,
    )  # fmt: skip


# --- words


def no_token(token: str) -> NotFound:
    return NotFound(f"there is no token {token}", token=token)


def no_member(role: Role, member: str) -> NotFound:
    return NotFound(f"there is no {role} {member}", role=str(role), member=member)


def _check_text(*texts: str) -> None:
    for text in texts:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InvalidInput("name", "holds half a character", "give text that UTF-8 can hold")


def _check_times(*times: float) -> None:
    if any(map(isnan, times)):
        raise InvalidInput("time", "is not a number", "give a Unix time in seconds")


def _check_revocation(now: float) -> None:
    if not now > 0:  # 0 means not revoked
        raise InvalidInput("now", f"{now} is no time to revoke at", "give a Unix time in seconds")
