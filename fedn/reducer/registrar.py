"""Who is in the network: tokens are made, members join, renew and are revoked here.

Between `rest_identity.py` and `gate.py`, which ask, and the identity store, which keeps; the authority
signs. Everything that changes is durable, in one step with its entry in the audit log, before it is answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock

from fedn.domain.errors import (
    Busy,
    Conflict,
    FednError,
    Forbidden,
    InvalidInput,
    NotFound,
    Revoked,
    Unauthenticated,
)
from fedn.domain.identity import (
    MEMBERS,
    PEOPLE,
    TOKEN_BYTES,
    AuditNote,
    Member,
    Principal,
    Role,
    Token,
    TokenText,
    parse_token,
)
from fedn.domain.ids import Digest, check_id
from fedn.domain.rates import Rates
from fedn.identity.authority import Authority
from fedn.identity.certificates import Request, is_server_name, read_certificate, read_request
from fedn.identity.tokens import new_token, secret_matches
from fedn.ports import IdentityStore
from fedn.reducer.auditing import Auditor, stranger

DAY = 86_400.0
JOIN_SECONDS, PERSON_SECONDS = DAY, 90 * DAY
"""How long a token lasts if nobody says."""
LONGEST_SECONDS = 10 * 365 * DAY
RENEW_WITHIN = 30 * DAY
"""So long after its certificate has expired a member may still renew it."""
RENEWALS = 20
"""So often a member may renew at once, or while one certificate lasts: each is an entry of the audit log."""
MAX_USES = 1_000_000
MAX_LABELS, LABEL_LETTERS = 16, 64
TOLD_REVOKED = 10_000
"""Revoked members that combiners are told of; of more, those that were revoked last."""


@dataclass(frozen=True, slots=True)
class Issued:
    """What a member gets: its certificate and the authority's, PEM, and when the first ends."""

    certificate: bytes
    authority: bytes
    expires_at: float


class Registrar:
    """Thread-safe. ``on_joined`` and ``on_revoked`` are told of each member once that is stored."""

    def __init__(
        self,
        store: IdentityStore,
        authority: Authority,
        auditor: Auditor,
        *,
        name: str,
        admin: Token,
        certificate_seconds: float = DAY,
        on_joined: Callable[[Member], None] = lambda _: None,
        on_revoked: Callable[[Member], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``admin`` is the network's first token, as `fedn network init` made it."""
        self.name = name
        self.authority = authority
        self.store = store
        self.auditor = auditor
        self._seconds = certificate_seconds
        self._renewals, self._counting = Rates(RENEWALS / certificate_seconds, RENEWALS), Lock()
        self._on_joined, self._on_revoked = on_joined, on_revoked
        self.clock = clock
        self._revoking = Lock()
        store.add_token(admin)

    # --- who asks --------------------------------------------------------------------------------------

    def person(self, text: str) -> Principal:
        """Whose token this is. Raises Unauthenticated, Revoked; never repeats the text."""
        token = self._known_token(text)
        if token.role not in PEOPLE:
            raise Unauthenticated(f"this is a token for a {token.role} to join with, not one for people")
        return self._person(token)

    def member(self, certificate: bytes) -> Principal:
        """Whose certificate this is, which TLS has found to be of this network. Raises as `check`."""
        certified = read_certificate(certificate)
        self.check(certified.principal, certified.key)
        return certified.principal

    def check(self, principal: Principal, key: Digest | None = None) -> None:
        """Raise Unauthenticated or Revoked unless ``principal`` is still who it was."""
        if principal.role in PEOPLE:
            self._person(self._token(principal.token))
        elif principal.role in MEMBERS:
            member = self._member(principal)
            if member.revoked_at:
                raise _revoked(principal.role, principal.name)
            if key not in (None, member.key):
                raise Unauthenticated("the certificate is for a key that is not this member's")
        if self.clock() >= principal.expires_at:
            what = "this login" if principal.role in PEOPLE else "the certificate"
            raise Unauthenticated(f"{what} has expired")

    def _known_token(self, text: str) -> Token:
        """The stored token, of which the secret was shown. It may have expired, or be used up."""
        if len(text) > TOKEN_BYTES:
            raise Unauthenticated("that is not a token: it is too long")
        try:
            shown = parse_token("token", text)
        except InvalidInput as error:
            raise Unauthenticated(error.message) from None
        if shown.fingerprint != self.authority.fingerprint:
            raise Unauthenticated("this token is of another network, not of this one")
        token = self._token(shown.token)
        if not secret_matches(token, shown.secret):
            raise Unauthenticated(_UNKNOWN_TOKEN)
        return token

    def _token(self, token: str) -> Token:
        try:
            return self.store.token(token)
        except NotFound:
            raise Unauthenticated(_UNKNOWN_TOKEN) from None

    def _person(self, token: Token) -> Principal:
        if token.revoked_at:
            raise Revoked(f"this token ({token.token}) was revoked; ask an administrator for another one")
        if fault := token.fault(self.clock()):
            raise Unauthenticated(fault)
        return Principal(token.role, token.name or token.token, token.token, token.expires_at)

    def _member(self, principal: Principal) -> Member:
        try:
            return self.store.member(principal.role, principal.name)
        except NotFound:
            problem = f"{principal.role} {principal.name} is not a member of this network; join with a token"
            raise Unauthenticated(problem) from None

    # --- members ---------------------------------------------------------------------------------------

    def join(self, token: str, request: bytes, name: str, labels: Mapping[str, str], address: str) -> Issued:
        """Make whoever signed ``request`` a member, by a join token. ``address`` is for the audit log.

        A client may be called ``name``, a combiner is called by its id. Raises Unauthenticated for a token
        that can't be used, Forbidden for another role or name than it is for, Revoked, Conflict if the id
        belongs to another key or a client could be mistaken for another member, InvalidInput.
        """
        who: Principal = stranger(address)
        try:
            known = self._join_token(token)
            asked = read_request(request)
            who = Principal(asked.role, asked.member)
            member, issued = self._admitted(asked, known, name, labels)
            note = self.auditor.note(who, "joined", str(who), name=member.name, token=known.token,
                                     address=address, expires_at=issued.expires_at)  # fmt: skip
            self._on_joined(self.store.enroll(member, self.clock(), note))
        except FednError as error:
            self.auditor.refused(address, "join_refused", who, str(who), error.message)
            raise
        return issued

    def _join_token(self, text: str) -> Token:
        token = self._known_token(text)
        if token.role not in MEMBERS:
            raise Unauthenticated("this token is for a person; `fedn token create` makes one to join with")
        return token

    def _admitted(
        self, asked: Request, token: Token, name: str, labels: Mapping[str, str]
    ) -> tuple[Member, Issued]:
        if asked.role is not token.role:
            raise Forbidden(f"this token is for a {token.role}, and a {asked.role} asks")
        _check_called("member", asked.member)
        if name:
            _check_called("name", name)
        called = asked.member if token.role is Role.COMBINER else name or token.name
        if token.name and called != token.name:
            raise Forbidden(f"this token is for {token.name!r} alone, and {called!r} asks")
        labels = checked_labels({**labels, **token.labels})
        issued, now = self._issue(asked), self.clock()
        member = Member(
            asked.role, asked.member, called, labels, asked.key, token.token, now, now, issued.expires_at
        )
        return member, issued

    def renew(self, request: bytes, address: str) -> Issued:
        """A new certificate for a member; the key that signed ``request`` says who it is.

        Raises Unauthenticated for a key that is not a member's, Revoked, InvalidInput.
        """
        asked = read_request(request)
        who = Principal(asked.role, asked.member)
        try:
            known = self._member(who)
            if known.key != asked.key:
                raise Unauthenticated(
                    f"that is not the key of {asked.role} {asked.member}; join with a token"
                )
            if known.revoked_at:
                raise _revoked(asked.role, asked.member)
            if self.clock() > known.expires_at + RENEW_WITHIN:
                raise Unauthenticated("the certificate has expired too long ago; join anew with a token")
            self._not_too_often(who)
            issued = self._issue(asked)
            note = self.auditor.note(who, "renewed", str(who), address=address, expires_at=issued.expires_at)
            self.store.renew(asked.role, asked.member, self.clock(), issued.expires_at, note)
        except FednError as error:
            self.auditor.refused(address, "renewal_refused", who, str(who), error.message)
            raise
        return issued

    def _not_too_often(self, who: Principal) -> None:
        with self._counting:
            if not self._renewals.take(str(who), self.clock()):
                raise Busy(f"{who} has renewed too often; try again later")

    def _issue(self, asked: Request) -> Issued:
        certificate = self.authority.issue(asked, self.clock(), self._seconds)
        return Issued(certificate, self.authority.certificate, read_certificate(certificate).not_after)

    def members(self, limit: int = TOLD_REVOKED) -> Sequence[Member]:
        """Those that joined last first."""
        return self.store.members(limit)

    def revoke_member(self, role: Role, member: str, by: Principal) -> Member:
        """Put a member out, for ever; its id can't join again. Raises NotFound."""
        if role not in MEMBERS:
            raise NotFound(f"there are no members of the role {role}; revoke a person's token")
        known = self.store.member(role, check_id("member", member))
        note = self.auditor.note(by, "member_revoked", str(known.principal), name=known.name)
        revoked = self.store.revoke_member(role, member, self.clock(), note)
        self._on_revoked(revoked)
        return revoked

    def revoked(self) -> list[str]:
        """Revoked members whose certificates still last, as ``<role>:<member>``: nobody may serve them."""
        return [str(member.principal) for member in self.store.revoked(self.clock(), TOLD_REVOKED)]

    # --- tokens ----------------------------------------------------------------------------------------

    def create_token(
        self,
        role: Role,
        by: Principal,
        *,
        name: str = "",
        uses: int | None = None,
        seconds: float | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> tuple[TokenText, Token]:
        """A new token: the text for its owner, shown once, and what is kept. Raises InvalidInput."""
        if role not in PEOPLE | MEMBERS:
            known = ", ".join(sorted(PEOPLE | MEMBERS))
            raise InvalidInput("role", f"there are no tokens for the role {role}", f"give one of {known}")
        if role in PEOPLE and uses is not None:
            raise InvalidInput("uses", f"a token for a {role} can't be used up", "leave it out")
        if uses is not None and not 0 <= uses <= MAX_USES:
            raise InvalidInput("uses", "is out of bounds", f"give 0 (no bound) to {MAX_USES}")
        if seconds is not None and not 1 <= seconds <= LONGEST_SECONDS:
            raise InvalidInput("expires_in", "is out of bounds", f"give 1 to {LONGEST_SECONDS:.0f} s")
        if name:
            _check_called("name", name)
        text, token = new_token(
            self.authority.fingerprint, role, name=name, labels=checked_labels(labels or {}),
            uses=(0 if role in PEOPLE else 1) if uses is None else uses, created_at=self.clock(),
            seconds=seconds or (PERSON_SECONDS if role in PEOPLE else JOIN_SECONDS), created_by=str(by),
        )  # fmt: skip
        note = self.auditor.note(by, "token_created", token.token, role=str(role), name=name, uses=token.uses,
                                 expires_at=token.expires_at)  # fmt: skip
        self.store.add_token(token, note)
        return text, token

    def tokens(self, limit: int = TOLD_REVOKED) -> Sequence[Token]:
        """Newest first."""
        return self.store.tokens(limit)

    def revoke_token(self, token: str, members: bool, by: Principal) -> Token:
        """Revoke a token; with ``members`` also everyone who joined by it.

        Raises NotFound, and Conflict for the last token of an administrator: nobody could make another.
        """
        with self._revoking:
            known = self.store.token(check_id("token", token))
            if not known.fault(self.clock()) and self._is_last_admin(known):
                raise Conflict("this is the last token of an administrator; create another one first")
            note = self.auditor.note(by, "token_revoked", token, role=str(known.role), name=known.name)
            revoked = self.store.revoke_token(token, self.clock(), note)
        if members:
            self._revoke_joined(token, by)
        return revoked

    def _revoke_joined(self, token: str, by: Principal) -> None:
        def note(member: Member) -> AuditNote:
            return self.auditor.note(
                by, "member_revoked", str(member.principal), name=member.name, token=token
            )

        for member in self.store.revoke_joined(token, self.clock(), note):
            self._on_revoked(member)

    def _is_last_admin(self, token: Token) -> bool:
        if token.role is not Role.ADMIN:
            return False
        others = (replace(other, used=0) for other in self.tokens() if other.token != token.token)
        return not any(other.role is Role.ADMIN and not other.fault(self.clock()) for other in others)


def _check_called(field: str, text: str) -> None:
    """Raise InvalidInput for what can't be an id or a name in this network."""
    if is_server_name(check_id(field, text)):
        raise InvalidInput(field, f"{text!r} is a name for servers", "choose another one")


def checked_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels if they are few and short. Raises InvalidInput."""
    if len(labels) > MAX_LABELS:
        raise InvalidInput("labels", f"{len(labels)} are too many", f"give at most {MAX_LABELS}")
    for key, value in labels.items():
        check_id("labels", key)
        if not isinstance(value, str) or len(value) > LABEL_LETTERS or not value.isprintable():
            raise InvalidInput("labels", f"{key} is no short text", f"give at most {LABEL_LETTERS} letters")
    return dict(labels)


_UNKNOWN_TOKEN = "this token is not known here; give one that `fedn token create` has made"  # noqa: S105


def _revoked(role: Role, member: str) -> Revoked:
    return Revoked(f"{role} {member} was revoked by an administrator of this network")
