"""Who is who, as it is kept. The words are those of `fedn.domain.identity`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from fedn.domain.identity import AuditNote, Member, Role, StoredEntry, Token


class IdentityStore(Protocol):
    """Tokens, members, audit log. Every write is durable when the call returns; safe from many threads.

    A change and the entry that its ``note`` becomes are written in one step: both or none. What was so
    already, such as a second revocation, is no change and gets no entry; joining and renewing always do.
    Raises InvalidInput for values that can't be kept, Damaged for rows that can't be read, and
    StoreUnavailable.
    """

    def add_token(self, token: Token, note: AuditNote | None = None) -> None:
        """Idempotent for the very same token: its uses and revocation stay. Conflict for another one."""

    def token(self, token: str) -> Token:
        """Raises NotFound."""

    def tokens(self, limit: int = 1000) -> Sequence[Token]:
        """Newest first."""

    def revoke_token(self, token: str, now: float, note: AuditNote | None = None) -> Token:
        """The revoked token; revoked again it keeps its first time. Raises NotFound."""

    def enroll(self, member: Member, now: float, note: AuditNote | None = None) -> Member:
        """Use ``member.token`` once and add the member, in one step; returns it as stored.

        The same member (role, id) with the same key again, by the same token, uses nothing up and gets
        its newest ``name``, ``labels`` and times: a join whose answer was lost. By another token it uses
        that one. Raises NotFound for no such token, Revoked for a revoked member, Unauthenticated with
        `Token.fault`, InvalidInput if the token is for another role, and Conflict if the id belongs to
        another key, or a client could be mistaken for another member: by an id that is the name of one
        who is not revoked, or by a new name that is the id of any. Then nothing is used up.
        """

    def renew(
        self, role: Role, member: str, renewed_at: float, expires_at: float, note: AuditNote | None = None
    ) -> Member:
        """The member as stored; its ``expires_at`` never goes back. Raises NotFound, Revoked."""

    def member(self, role: Role, member: str) -> Member:
        """Raises NotFound."""

    def members(self, limit: int = 1000) -> Sequence[Member]:
        """Those that joined last first."""

    def revoked(self, now: float, limit: int = 1000) -> Sequence[Member]:
        """Revoked members with a certificate that lasts beyond ``now``; those revoked last first."""

    def revoke_member(self, role: Role, member: str, now: float, note: AuditNote | None = None) -> Member:
        """The revoked member; revoked again it keeps its first time. Raises NotFound."""

    def revoke_joined(
        self, token: str, now: float, note: Callable[[Member], AuditNote] | None = None
    ) -> Sequence[Member]:
        """Revoke everyone who joined by a token, in one step; returns those who were not revoked yet.

        ``note`` says what is to be written of each.
        """

    def append_audit(self, note: AuditNote) -> StoredEntry:
        """Chain an entry to the newest one, in one step. Raises InvalidInput if it is too long or no JSON."""

    def audit(self, after: int = 0, limit: int = 1000) -> Sequence[StoredEntry]:
        """Entries with numbers > after (the first is 1), oldest first. Raises Damaged."""

    def raw_audit(self, after: int = 0, limit: int = 1000) -> Sequence[tuple[int, str, bytes]]:
        """(number, stored digest, stored bytes), neither read nor checked."""

    def forget_name(self, role: Role, member: str, note: AuditNote | None = None) -> Member:
        """Drop what people call a member: its name and labels become empty. Raises NotFound."""

    def import_identity(
        self,
        tokens: Sequence[Token] = (),
        members: Sequence[Member] = (),
        audit: Sequence[tuple[int, str, bytes]] = (),
    ) -> None:
        """Take over a page of another store's rows as they are, in one step; for `fedn store copy`.

        Tokens (by id) and members (by role and id) are as given then, uses and revocations included; given
        in the other order than listed, so that of equal times the last one given is listed first. ``audit``
        are rows of `raw_audit`, neither read nor checked: the very same again change nothing; Conflict for
        other bytes under a number that is there. Raises InvalidInput.
        """
