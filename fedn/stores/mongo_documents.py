"""What a state store's values look like as documents of MongoDB, and back.

What is nested, or has names from outside as its keys, is one canonical JSON text: MongoDB gives dots and
dollars in keys a meaning. A document that can't be read any more is Damaged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeAlias, TypeVar

from fedn.domain.canonical import canonical_json
from fedn.domain.errors import Damaged, InvalidInput
from fedn.domain.identity import Member, Role, Token
from fedn.domain.ids import ClientId, CombinerName, Digest, SessionId
from fedn.domain.plan import plan_from
from fedn.domain.round import Head
from fedn.domain.update import finite_metrics
from fedn.ports import CombinerInfo, EventRow, MetricRow, ModelInfo, PackageInfo, SessionInfo
from fedn.stores import rules
from fedn.stores.event_rows import fields_text, read_fields

Document: TypeAlias = dict[str, Any]
T = TypeVar("T")


def _reads(what: str, key: str) -> Callable[[Callable[[Document], T]], Callable[[Document], T]]:
    """For a function that reads a document of a kind, which is named by its ``key``."""

    def reader(read: Callable[[Document], T]) -> Callable[[Document], T]:
        @wraps(read)
        def whole(found: Document) -> T:
            try:
                return read(found)
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError, InvalidInput) as error:
                name = str(found.get(key))[:80]
                raise Damaged(f"the stored {what} {name} can't be read: {error!s:.200}") from None

        return whole

    return reader


def some(limit: int) -> int:
    """A page's size as MongoDB takes it."""
    return min(limit, 2**31 - 1)


def _text(values: Mapping[str, Any]) -> str:
    return canonical_json(dict(values)).decode()


# --- sessions and metrics


def session(info: SessionInfo) -> Document:
    plan = _text(info.plan.as_dict())
    return {"session": info.session, "name": info.name, "plan": plan, "state": info.state,
            "reason": info.reason, "created_at": float(info.created_at), **head(info.head)}  # fmt: skip


def head(head: Head) -> Document:
    return {"head_round": head.round, "head_record": head.record, "head_model": head.model,
            "head_model_size": head.model_size}  # fmt: skip


@_reads("session", "session")
def read_session(found: Document) -> SessionInfo:
    plan = plan_from(json.loads(found["plan"]))
    return SessionInfo(SessionId(found["session"]), found["name"], plan, found["state"], found["reason"],
                       found["created_at"], read_head(found))  # fmt: skip


@_reads("head of session", "session")
def read_head(found: Document) -> Head:
    model, size = Digest(found["head_model"]), int(found["head_model_size"])
    return Head(int(found["head_round"]), Digest(found["head_record"]), model, size)


def metrics(row: MetricRow) -> tuple[Document, Document]:
    """What tells a row from others, and the rest of it."""
    key = {"session": row.session, "round": row.round, "kind": row.kind, "client": row.client}
    return key, {"examples": row.examples, "metrics": _text(finite_metrics(row.metrics))}


@_reads("metrics of session", "session")
def read_metrics(found: Document) -> MetricRow:
    client, examples = ClientId(found["client"]), int(found["examples"])
    return MetricRow(SessionId(found["session"]), int(found["round"]), found["kind"], client, examples,
                     json.loads(found["metrics"]))  # fmt: skip


# --- events


def event(row: EventRow) -> Document:
    return {"_id": row.number, "at": float(row.at), "event": row.event, "session": row.session,
            "round": row.round, "fields": fields_text(row.fields)}  # fmt: skip


@_reads("event", "_id")
def read_event(found: Document) -> EventRow:
    number = int(found["_id"])
    fields = read_fields(number, found["fields"])
    return EventRow(number, found["at"], found["event"], found["session"], int(found["round"]), fields)


# --- models, packages, combiners: what stays from when they were first added, and what changes


def model(info: ModelInfo) -> tuple[Document, Document]:
    changed = {"name": info.name, "created_at": float(info.created_at)}
    return {"size": info.size, "origin": info.origin}, changed


@_reads("model", "digest")
def read_model(found: Document) -> ModelInfo:
    return ModelInfo(Digest(found["digest"]), int(found["size"]), found["name"], found["origin"],
                     found["created_at"])  # fmt: skip


def package(info: PackageInfo) -> tuple[Document, Document]:
    changed = {"name": info.name, "manifest": rules.manifest_text(info.manifest)}
    return {"size": info.size}, changed | {"created_at": float(info.created_at)}


@_reads("package", "digest")
def read_package(found: Document) -> PackageInfo:
    digest = Digest(found["digest"])
    manifest = rules.read_manifest(digest, found["manifest"])
    return PackageInfo(digest, int(found["size"]), found["name"], manifest, found["created_at"])


def combiner(info: CombinerInfo) -> Document:
    return {"address": info.address, "incarnation": info.incarnation,
            "registered_at": float(info.registered_at), "drained_at": float(info.drained_at)}  # fmt: skip


@_reads("combiner", "_id")
def read_combiner(found: Document) -> CombinerInfo:
    name = CombinerName(found["_id"])
    at = (found["registered_at"], found.get("drained_at", 0.0))
    return CombinerInfo(name, found["address"], found["incarnation"], *at)


# --- tokens and members


def token(token: Token) -> Document:
    return {
        "token": token.token, "role": str(token.role), "name": token.name, "labels": _text(token.labels),
        "uses": token.uses, "used": token.used, "created_at": float(token.created_at),
        "expires_at": float(token.expires_at), "created_by": token.created_by,
        "secret_digest": token.secret_digest, "revoked_at": float(token.revoked_at),
    }  # fmt: skip


@_reads("token", "token")
def read_token(found: Document) -> Token:
    return Token(
        found["token"], Role(found["role"]), found["name"], _labels(found), int(found["uses"]),
        int(found["used"]), found["created_at"], found["expires_at"], found["created_by"],
        Digest(found["secret_digest"]), found["revoked_at"],
    )  # fmt: skip


def member(member: Member) -> Document:
    return {
        "role": str(member.role), "member": member.member, "name": member.name,
        "labels": _text(member.labels), "key": member.key, "token": member.token,
        "joined_at": float(member.joined_at), "renewed_at": float(member.renewed_at),
        "expires_at": float(member.expires_at), "revoked_at": float(member.revoked_at),
    }  # fmt: skip


@_reads("member", "member")
def read_member(found: Document) -> Member:
    return Member(
        Role(found["role"]), found["member"], found["name"], _labels(found), Digest(found["key"]),
        found["token"], found["joined_at"], found["renewed_at"], found["expires_at"], found["revoked_at"],
    )  # fmt: skip


def _labels(found: Document) -> Mapping[str, str]:
    labels = json.loads(found["labels"])
    if not isinstance(labels, dict):
        raise TypeError("labels are no mapping")
    return labels
