"""Who is who, over HTTP: joining and renewing, tokens, members, the audit log.

The registrar decides and keeps; `gate.py` has let the caller in. Secrets are in what is asked and
answered here, and nowhere else: neither in errors nor in listings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify, request

from fedn.domain.errors import Conflict, InvalidInput, NotFound
from fedn.domain.identity import Member, Role, StoredEntry, Token
from fedn.domain.ids import check_digest
from fedn.identity.audit import verify_audit
from fedn.ports import IdentityStore
from fedn.reducer.gate import address, principal, written
from fedn.reducer.registrar import Issued, Registrar
from fedn.reducer.rest_forms import MAX_PAGE, json_body, plain, query_number

NO_IDENTITY = (
    "this network has no identity: nobody is asked who they are. `fedn network init` makes one; start the "
    "reducer with it as network_dir"
)


def identity_routes(store: IdentityStore, registrar: Registrar | None) -> Blueprint:
    """Routes under /api/v1; without a ``registrar`` most of them say how to get one."""
    routes = Blueprint("identity", __name__, url_prefix="/api/v1")

    def registry() -> Registrar:
        if registrar is None:
            named = request.method == "GET" or request.view_args
            raise NotFound(NO_IDENTITY) if named else Conflict(NO_IDENTITY)
        return registrar

    _joining(routes, registry)
    _tokens(routes, registry)
    _members(routes, registry)
    _audit(routes, store)
    return routes


def _joining(routes: Blueprint, registry: Callable[[], Registrar]) -> None:
    @routes.get("/authority")
    def authority() -> Response:
        """The network's authority; whoever joins compares it with the fingerprint in its token."""
        own = registry().authority
        pem = own.certificate.decode("ascii")
        return jsonify(name=registry().name, fingerprint=own.fingerprint, certificate=pem)

    @routes.post("/join")
    def join() -> tuple[Response, int]:
        """Become a client or combiner of this network, by a token, with a key of one's own."""
        written()  # the registrar does, also of whom it refuses
        body = json_body(
            {"token": str, "request": str, "name": str, "labels": dict}, required=("token", "request")
        )
        issued = registry().join(
            body["token"], _pem(body), body.get("name", ""), body.get("labels", {}), address()
        )
        return jsonify(_issued_form(issued)), 201

    @routes.post("/renew")
    def renew() -> Response:
        """A new certificate for a member, whose key signs the request."""
        written()
        body = json_body({"request": str}, required=("request",))
        return jsonify(_issued_form(registry().renew(_pem(body), address())))

    @routes.get("/whoami")
    def whoami() -> Response:
        """Who the reducer takes you for, and until when."""
        who = principal()
        return jsonify(role=who.role, name=who.name, expires_at=plain(who.expires_at))


def _tokens(routes: Blueprint, registry: Callable[[], Registrar]) -> None:
    @routes.get("/tokens")
    def tokens() -> Response:
        """Tokens, newest first, without what is secret of them."""
        return jsonify(tokens=[token_form(token) for token in registry().tokens()])

    @routes.post("/tokens")
    def create() -> tuple[Response, int]:
        """Make a token; its text is in this answer, and never again."""
        known = {"role": str, "name": str, "uses": int, "expires_in": float, "labels": dict}
        body = json_body(known, required=("role",))
        text, token = registry().create_token(
            _role(body["role"]), principal(), name=body.get("name", ""), uses=body.get("uses"),
            seconds=body.get("expires_in"), labels=body.get("labels"),
        )  # fmt: skip
        written()
        return jsonify(token_form(token) | {"text": text.reveal()}), 201

    @routes.post("/tokens/<token>/revoke")
    def revoke_token(token: str) -> Response:
        """Let a token let nobody in any more; with "members" also put out everyone who joined by it."""
        body = json_body({"members": bool}) if request.content_length else {}
        revoked = registry().revoke_token(token, body.get("members", False), principal())
        written()
        return jsonify(token_form(revoked))


def _members(routes: Blueprint, registry: Callable[[], Registrar]) -> None:
    @routes.get("/members")
    def members() -> Response:
        """Clients and combiners that have joined, newest first."""
        return jsonify(members=[member_form(member) for member in registry().members()])

    @routes.post("/members/<role>/<member>/revoke")
    def revoke_member(role: str, member: str) -> Response:
        """Put a client or combiner out of the network, for ever."""
        revoked = registry().revoke_member(_role(role), member, principal())
        written()
        return jsonify(member_form(revoked))


def _audit(routes: Blueprint, store: IdentityStore) -> None:
    @routes.get("/audit")
    def audit() -> Response:
        """Entries of the audit log above ?after, at most ?limit, oldest first."""
        limit = query_number("limit", 100, low=1, high=MAX_PAGE)
        entries = store.audit(query_number("after", 0, low=0), limit)
        following = entries[-1].entry.number if len(entries) == limit else None
        return jsonify(entries=[_entry_form(entry) for entry in entries], next=following)

    @routes.get("/audit/verify")
    def verify() -> Response:
        """Check the whole audit log, and that ?pinned, a head seen earlier, is still in it."""
        pinned = request.args.get("pinned")
        return jsonify(plain(verify_audit(store, check_digest("pinned", pinned) if pinned else None)))


def token_form(token: Token) -> dict[str, Any]:
    """A token as an administrator sees it."""
    form: dict[str, Any] = plain(token)
    del form["secret_digest"]
    return form | {"revoked_at": token.revoked_at or None}


def member_form(member: Member) -> dict[str, Any]:
    """A member as people see it."""
    form: dict[str, Any] = plain(member)
    del form["key"]
    return form | {"revoked_at": member.revoked_at or None}


def _entry_form(stored: StoredEntry) -> dict[str, Any]:
    form: dict[str, Any] = plain(stored.entry)
    return form | {"digest": stored.digest}


def _issued_form(issued: Issued) -> dict[str, Any]:
    return {
        "certificate": issued.certificate.decode("ascii"),
        "authority": issued.authority.decode("ascii"),
        "expires_at": issued.expires_at,
    }


def _pem(body: dict[str, Any]) -> bytes:
    text: str = body["request"]
    return text.encode("utf-8", "replace")


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise InvalidInput("role", f"{text[:80]!r} is no role", f"give one of {', '.join(Role)}") from None
