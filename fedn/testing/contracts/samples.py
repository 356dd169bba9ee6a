"""Small, valid sessions, records, tokens and members for the suites beside this file. Needs no pytest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedn.domain.identity import AuditNote, Member, Role, Token
from fedn.domain.ids import ClientId, CombinerName, Digest, Incarnation, SessionId, digest_of
from fedn.domain.plan import Plan
from fedn.domain.round import GENESIS_PARENT, MergedPart, RoundRecord, StoredRecord, head_of, store_record
from fedn.domain.update import Absence, Contributor
from fedn.ports import IdentityStore, ModelStore, SessionInfo, StateStore

TERM = 99
"""Of all records; later than any that a suite takes."""
PLAN = Plan(rounds=3, seed=7, config={"epochs": 2, "rate": 0.5})


def blob_of(session: str, round: int) -> bytes:
    """The bytes that stand for the model of a round."""
    return f"model of round {round} of {session}".encode()


def genesis(session: str = "mnist", **changes: Any) -> StoredRecord:
    """A session's round 0; ``changes`` make it a different one."""
    return _stored(session, 0, GENESIS_PARENT, changes)


def successor(parent: StoredRecord, **changes: Any) -> StoredRecord:
    """The record that follows ``parent``; ``changes`` make it a different one."""
    record = parent.record
    return _stored(record.session, record.round + 1, parent.digest, changes)


def session_info(first: StoredRecord, created_at: float = 1.0) -> SessionInfo:
    """A session that starts with ``first``."""
    session = first.record.session
    return SessionInfo(session, f"run {session}", PLAN, "created", "", created_at, head_of(first))


def build_trail(
    state: StateStore, models: ModelStore, session: str = "mnist", rounds: int = 3
) -> list[StoredRecord]:
    """Store a session with its blobs, blob first and record second; returns its records."""
    term = state.take_term()
    trail = [genesis(session)]
    models.put([blob_of(session, 0)])
    state.add_session(session_info(trail[0]), trail[0])
    for number in range(1, rounds + 1):
        models.put([blob_of(session, number)])
        trail.append(successor(trail[-1]))
        state.commit_round(trail[-1], term)
    return trail


def join_token(token: str = "a" * 16, **changes: Any) -> Token:
    """A token that lets one client join until time 1000."""
    values: dict[str, Any] = {
        "token": token, "role": Role.CLIENT, "name": "", "labels": {"site": "north"}, "uses": 1, "used": 0,
        "created_at": 10.0, "expires_at": 1000.0, "created_by": "admin:root",
        "secret_digest": digest_of(f"secret of {token}".encode()),
    }  # fmt: skip
    return Token(**(values | changes))


def joining(token: Token, member: str = "c1", at: float = 100.0, **changes: Any) -> Member:
    """A member that joins by ``token``; its key is derived from its id."""
    values: dict[str, Any] = {
        "role": token.role, "member": member, "name": f"ward {member}", "labels": dict(token.labels),
        "key": digest_of(f"key of {member}".encode()), "token": token.token, "joined_at": at,
        "renewed_at": at, "expires_at": at + 50.0,
    }  # fmt: skip
    return Member(**(values | changes))


def note_of(event: str = "done", subject: str = "c1", **details: Any) -> AuditNote:
    """What an administrator has done, for a store to write down."""
    return AuditNote(100.0, "admin:root", event, subject, details)


def build_audit(store: IdentityStore, entries: int = 5) -> None:
    """Append as many entries, each a little different."""
    for number in range(1, entries + 1):
        details: dict[str, Any] = {"reason": "this token has expired", "bytes": number, "share": 0.25}
        details["again"] = number > 1
        store.append_audit(AuditNote(100.0 + number, "client:c1", "join_refused", f"c{number}", details))


def _stored(session: str, round: int, parent: Digest, changes: Mapping[str, Any]) -> StoredRecord:
    base, model = blob_of(session, max(0, round - 1)), blob_of(session, round)
    values: dict[str, Any] = {
        "session": SessionId(session), "round": round, "parent": parent, "base_model": digest_of(base),
        "model": digest_of(model), "model_size": len(model), "plan": PLAN.as_dict(),
        "plan_digest": PLAN.digest, "term": TERM, "committed_at": 100.0 + round,
    }  # fmt: skip
    if round > 0:
        values |= {"parts": (_part(round),), "refused": (Absence(ClientId("late"), "stale_round"),)}
    return store_record(RoundRecord(**(values | dict(changes))))


def _part(round: int) -> MergedPart:
    clients = [Contributor(ClientId(f"client-{k}"), 10 + k, digest_of(b"%d" % k)) for k in range(2)]
    sums = digest_of(b"part %d" % round)
    return MergedPart(CombinerName("north"), Incarnation("a1"), 0, sums, tuple(clients))
