"""What every state store checks before it writes, in one wording. Used by the memory and sqlite stores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn, TypeAlias

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import Conflict, Damaged, InvalidInput, NotFound, StaleTerm, TrailConflict
from fedn.domain.ids import Digest, SessionId, digest_of
from fedn.domain.round import GENESIS_PARENT, OVER, Head, StoredRecord, head_of, read_record
from fedn.ports import Lease, SessionInfo

MAX_INTEGER = 2**63 - 1
CHUNK_BYTES = 2**20
"""The largest chunk that a model store's read() yields."""
PUT_AGAIN = "put the same file again, from a backup or wherever it came from: fedn model seed FILE"
"""What heals a damaged model."""
Key: TypeAlias = tuple[str, str]
"""A round's metrics are told apart by (kind, client)."""


def check_genesis(info: SessionInfo, genesis: StoredRecord) -> None:
    """Refuse a session whose first record is not its own round 0; raise InvalidInput or Damaged."""
    check_bytes(genesis)
    record = genesis.record
    if record.session != info.session:
        raise InvalidInput("genesis", f"is of session {record.session}, not {info.session}")
    if record.round != 0 or record.parent != GENESIS_PARENT:
        raise InvalidInput("genesis", f"is round {record.round} with a parent, not the first record")
    if info.head != head_of(genesis):
        raise InvalidInput("head", "is not that of the first record", "give head_of(genesis)")


def check_bytes(stored: StoredRecord) -> None:
    """Refuse a record whose bytes are not what its digest says; raise Damaged."""
    if digest_of(stored.raw) != stored.digest:
        raise Damaged(f"the record of round {stored.record.round} of {stored.record.session} does not "
                      "match its digest")  # fmt: skip


def check_term(term: int, current: int) -> None:
    """Raise StaleTerm if a newer term was taken."""
    if term < current:
        raise StaleTerm(f"term {term} is over: term {current} was taken", term=term, current=current)


def lease_lost(lease: Lease, newest: int) -> StaleTerm:
    problem = f"the lease of term {lease.term} is over: term {newest} was taken"
    return StaleTerm(problem, term=lease.term, current=newest)


def check_over(session: SessionId, state: str) -> None:
    """Refuse to drop a session that goes on; raise Conflict."""
    if state not in OVER:
        raise Conflict(
            f"session {session} is {state}: stop it first, with `fedn session stop {session}`",
            session=session, state=state,
        )  # fmt: skip


def check_time(at: float) -> float:
    """Refuse a time that no store could give back; raise InvalidInput."""
    if not 0 < at < MAX_INTEGER:
        raise InvalidInput("at", f"{at} is no time", "give a Unix time in seconds")
    return at


def check_limit(limit: int) -> int:
    """Refuse a limit that bounds nothing; raise InvalidInput."""
    if limit < 1:
        raise InvalidInput("limit", f"{limit} is not a page size", "give 1 or more")
    return min(limit, MAX_INTEGER)


def clamp(number: int) -> int:
    """``number`` as a signed 64-bit integer, so that an absurd round is merely not found."""
    return max(-MAX_INTEGER, min(number, MAX_INTEGER))


def check_offset(digest: Digest, offset: int, size: int) -> None:
    """Refuse an offset outside a blob of ``size`` bytes; raise InvalidInput."""
    if not 0 <= offset <= size:
        raise InvalidInput("offset", f"{offset} is outside model {digest[:12]} of {size} bytes")


def read_stored(session: SessionId, round: int, digest: str, raw: bytes) -> StoredRecord:
    """Stored bytes as a record; raise Damaged if they changed since they were written."""
    if not isinstance(raw, bytes) or digest_of(raw) != digest:  # damage may change the type, too
        raise Damaged(f"the record of round {round} of {session} does not match its digest",
                      session=session, round=round)  # fmt: skip
    return read_record(raw)


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """A package's manifest as it is stored; raise InvalidInput if it is no JSON."""
    try:
        return canonical_json(dict(manifest)).decode()
    except (TypeError, ValueError):
        raise InvalidInput("manifest", "is not plain JSON", "give Manifest.as_dict()") from None


def read_manifest(digest: Digest, text: str) -> Mapping[str, Any]:
    """A stored manifest; raise Damaged if it is not one any more."""
    try:
        manifest = json.loads(text)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict):
        raise Damaged(f"the stored manifest of package {digest} can't be read", digest=digest)
    return manifest


def chunks_of(view: memoryview, offset: int) -> Iterator[memoryview]:
    """``view`` from ``offset`` on, in pieces of at most CHUNK_BYTES."""
    for start in range(offset, len(view), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]


def left_behind(stored: StoredRecord, keys: Iterable[Key]) -> list[Key]:
    """Which metrics of a round that is being committed are of clients that don't count in it.

    A leader that ended between a round's metrics and its record leaves them; the round is run again, perhaps
    without those clients.
    """
    counted = {contributor.client for contributor in stored.record.contributors}
    return [key for key in keys if key[1] not in counted]


def refuse_commit(stored: StoredRecord, head: Head) -> NoReturn:
    """Say why a record can't follow ``head``."""
    record = stored.record
    raise TrailConflict(
        f"round {record.round} with parent {record.parent[:12]} can't follow round {head.round} "
        f"({head.record[:12]}) of session {record.session}",
        session=record.session, round=record.round, head_round=head.round, head=head.record,
    )  # fmt: skip


def follows(stored: StoredRecord, head: Head) -> bool:
    """Whether a record is the next one after ``head``."""
    return stored.record.parent == head.record and stored.record.round == head.round + 1


def check_head_goes_on(session: SessionId, there: Head, head: Head, rows: Mapping[int, bytes]) -> None:
    """Refuse to move a head back, or to another trail; raise Conflict.

    ``rows``: stored bytes by round, with at least those of the head that is ``there`` and of the round after
    it, if the store will have them. Of a copy that is not whole its head is ahead of both.
    """
    if head.round == there.round and head.record == there.record:
        return
    whole = there.round in rows
    if head.round > there.round and (not whole or _may_follow(rows.get(there.round + 1), there)):
        return
    raise Conflict(
        f"session {session} is at round {there.round} ({there.record[:12]}) here, and round {head.round} "
        f"({head.record[:12]}) does not go on from that: this store belongs to another network, or has gone "
        "its own way", session=session, round=head.round, head_round=there.round,
    )  # fmt: skip


def _may_follow(raw: bytes | None, head: Head) -> bool:
    """Whether a row goes on from ``head``; damage, which is copied as it is, can't be told."""
    if raw is None:
        return False
    try:
        return read_record(raw).record.parent == head.record
    except Damaged:
        return True


def no_session(session: SessionId) -> NotFound:
    return NotFound(f"there is no session {session}", session=session)


def no_record(session: SessionId, round: int) -> NotFound:
    return NotFound(f"session {session} has no round {round}", session=session, round=round)


def no_model(digest: Digest) -> NotFound:
    return NotFound(f"there is no model {digest}", digest=digest)


def no_package(digest: Digest) -> NotFound:
    return NotFound(f"there is no package {digest}", digest=digest)


def was_pruned(digest: Digest) -> Conflict:
    return Conflict(
        f"model {digest} was pruned: seed it again if you have its file, or choose another", digest=digest
    )


def other_record(session: SessionId, round: int) -> Conflict:
    return Conflict(
        f"round {round} of session {session} is there already, and another one: this store belongs to "
        "another network, or has gone its own way", session=session, round=round,
    )  # fmt: skip


def session_exists(session: SessionId) -> Conflict:
    return Conflict(f"session {session} exists already", session=session)


def damaged_blob(digest: Digest, actual: Digest) -> Damaged:
    problem = f"model {digest} is damaged where it is kept: its bytes have digest {actual}"
    return Damaged(f"{problem}; {PUT_AGAIN}", expected=digest, actual=actual)


def wrong_digest(expected: Digest, actual: Digest) -> Damaged:
    return Damaged(f"the bytes have digest {actual}, not {expected}", expected=expected, actual=actual)
