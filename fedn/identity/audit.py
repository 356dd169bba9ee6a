"""Proof that the audit log is whole: every entry's bytes, number, and link to the entry before it.

Reads the raw rows of an IdentityStore; `fedn audit verify` prints the report.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedn.domain.errors import Damaged
from fedn.domain.identity import AUDIT_GENESIS, read_entry
from fedn.domain.ids import Digest, digest_of
from fedn.ports import IdentityStore

PAGE = 256
"""Entries read at once; bounds the memory of a verification."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a verification found. ``entries`` are whole, and ``head`` is the digest of the last of these.

    ``problem`` is a sentence about the first entry that is not, ``at`` that entry's number; '' and 0 if
    all are.
    """

    ok: bool
    entries: int
    head: Digest
    problem: str = ""
    at: int = 0


class _Broken(Exception):
    """The chain ends here; the sentence says why."""


def verify_audit(store: IdentityStore, pinned: Digest | None = None) -> AuditReport:
    """Check the audit log from its first entry on, up to the first that is damaged, missing or out of order.

    Damage is reported, never raised. The log may grow meanwhile: entries that are added during the check
    are checked too. The chain alone can't tell that entries at its end were cut off, nor that all of it
    was written anew: note a report's ``head`` elsewhere, and give it as ``pinned`` later, when it must
    still be in the log.

    Raises:
        StoreUnavailable: the store did not answer, so nothing can be said.
        Incompatible: the store's file is older than the audit log.
    """
    entries, head, pin_seen = 0, AUDIT_GENESIS, pinned in (None, AUDIT_GENESIS)
    try:
        while rows := store.raw_audit(entries, PAGE):
            for row in rows:
                head = _follow(entries, head, *row)
                entries += 1
                pin_seen = pin_seen or head == pinned
    except _Broken as broken:
        return AuditReport(False, entries, head, str(broken), entries + 1)
    except Damaged as error:
        problem = f"The state store can't be read beyond entry {entries}: {error.message}."
        return AuditReport(False, entries, head, problem, entries + 1)
    if not pin_seen:
        problem = f"No entry has the digest {pinned:.64}: entries were cut off, or the log was written anew."
        return AuditReport(False, entries, head, problem, entries + 1)
    return AuditReport(True, entries, head)


def _follow(before: int, parent: Digest, number: int, stored: str, raw: bytes) -> Digest:
    """The digest of a row that follows entry ``before``, whose digest is ``parent``."""
    expected = before + 1
    if number > expected:
        raise _Broken(f"Entry {expected} is missing: entry {number} comes after entry {before}.")
    if number < expected:
        raise _Broken(f"Entry {expected} is missing: entry {number} is there twice.")
    if not isinstance(raw, bytes):  # damage may change the type, too
        raise _Broken(f"Entry {number} is damaged: it is not kept as bytes.")
    digest = digest_of(raw)
    if digest != stored:
        raise _Broken(f"Entry {number} is damaged: its bytes have digest {digest}, but {stored!s:.64} was "
                      "stored.")  # fmt: skip
    try:
        entry = read_entry(raw).entry
    except Damaged as error:
        raise _Broken(f"Entry {number} is not a whole entry: {error.message}.") from None
    if entry.number != number:
        raise _Broken(f"Entry {number} says that it is entry {entry.number}.")
    if entry.parent != parent:
        raise _Broken(f"Entry {number} names parent {entry.parent:.64}, but the entry before it is {parent}.")
    return digest
