"""The promises of `fedn.ports.IdentityStore` about the audit log, as tests; `identity_store` has the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from fedn.domain.errors import InvalidInput
from fedn.domain.identity import AUDIT_GENESIS, AuditNote, Member, Role, Token, read_entry
from fedn.domain.ids import digest_of
from fedn.ports import IdentityStore
from fedn.testing.contracts.samples import build_audit, join_token, joining, note_of
from fedn.testing.contracts.state_store import together

CLIENT = Role.CLIENT
NOW = 100.0

Change: TypeAlias = Callable[[IdentityStore, AuditNote], object]
ONCE: dict[str, Change] = {
    "add_token": lambda store, note: store.add_token(join_token("c" * 16), note),
    "revoke_token": lambda store, note: store.revoke_token("a" * 16, 200.0, note),
    "revoke_member": lambda store, note: store.revoke_member(CLIENT, "c1", 200.0, note),
    "revoke_joined": lambda store, note: store.revoke_joined("a" * 16, 200.0, lambda _: note),
}
AGAIN: dict[str, Change] = {
    "enroll": lambda store, note: store.enroll(joining(join_token()), 120.0, note),
    "renew": lambda store, note: store.renew(CLIENT, "c1", 130.0, 180.0, note),
}
"""Changes of a store in which c1 has joined by the token a…a: done twice, they are one change, or two."""


class AuditLogContract:
    """Part of `IdentityStoreContract`: a fixture ``store`` yields an empty IdentityStore."""

    @pytest.fixture
    def once(self, store: IdentityStore) -> Token:
        """A stored token that lets one client join."""
        token = join_token()
        store.add_token(token)
        return token

    @pytest.fixture
    def often(self, store: IdentityStore) -> Token:
        """A stored token without a bound."""
        token = join_token("b" * 16, uses=0)
        store.add_token(token)
        return token

    # --- entries

    def test_entries_are_chained(self, store: IdentityStore) -> None:
        note = AuditNote(1.5, "admin:root", "token_created", "a" * 16, {"uses": 1, "named": False})
        first = store.append_audit(note)
        second = store.append_audit(
            AuditNote(2.0, "client:c1", "joined", "c1", {"name": "Köln", "hours": 0.5})
        )
        assert (first.entry.number, first.entry.parent) == (1, AUDIT_GENESIS)
        assert (second.entry.number, second.entry.parent) == (2, first.digest)
        assert first.entry.details == {"uses": 1, "named": False}
        assert second.entry.details == {"name": "Köln", "hours": 0.5}
        assert store.audit() == [first, second]

    def test_an_entry_is_kept_byte_for_byte(self, store: IdentityStore) -> None:
        first = store.append_audit(note_of(b=1, a="\ud800"))
        assert store.raw_audit() == [(1, first.digest, first.raw)]
        assert (digest_of(first.raw), read_entry(first.raw)) == (first.digest, first)

    def test_entries_come_in_bounded_pages(self, store: IdentityStore) -> None:
        build_audit(store, 12)
        entries = store.audit()
        assert [stored.entry.number for stored in entries] == list(range(1, 13))
        assert store.audit(after=8, limit=3) == entries[8:11]
        assert store.audit(after=10, limit=2**70) == entries[10:]
        assert store.audit(after=-(2**70), limit=1) == entries[:1]
        assert store.audit(after=12) == store.audit(after=2**70) == []
        assert [row[0] for row in store.raw_audit(after=3, limit=2)] == [4, 5]

    @pytest.mark.parametrize(
        "details",
        [{"x": None}, {"x": [1]}, {"x": {"y": 1}}, {"x": float("nan")}, {"x": float("inf")}, {"x": b"y"},
         {"x": {1}}, {"x": "y" * 2**17}, {1: 2, "1": 3}],
    )  # fmt: skip
    def test_an_entry_that_could_not_be_given_back_is_refused(
        self, store: IdentityStore, details: dict[Any, Any]
    ) -> None:
        with pytest.raises(InvalidInput):
            store.append_audit(AuditNote(1.0, "admin:root", "seeded", "x", details))
        assert store.audit() == []

    def test_many_appending_at_once_never_fork_the_chain(self, store: IdentityStore) -> None:
        def append(writer: int) -> Callable[[], None]:
            def call() -> None:
                for number in range(10):
                    store.append_audit(AuditNote(float(number), f"client:c{writer}", "downloaded", "m"))

            return call

        together([append(writer) for writer in range(6)])
        entries = store.audit()
        assert [stored.entry.number for stored in entries] == list(range(1, 61))
        parents = [AUDIT_GENESIS, *(stored.digest for stored in entries)]
        assert [stored.entry.parent for stored in entries] == parents[:-1]
        for writer in range(6):
            own = [stored.entry.at for stored in entries if stored.entry.actor == f"client:c{writer}"]
            assert own == [float(number) for number in range(10)]

    # --- changes and their entries

    @pytest.mark.parametrize("change", [*ONCE, *AGAIN])
    def test_a_change_comes_with_its_entry(self, store: IdentityStore, once: Token, change: str) -> None:
        store.enroll(joining(once), NOW)
        first, note = store.append_audit(note_of("first")), note_of(change, "x", by="f" * 16)
        (ONCE | AGAIN)[change](store, note)
        (stored,) = store.audit(after=1)
        assert (stored.entry.number, stored.entry.parent) == (2, first.digest)
        entry = stored.entry
        assert AuditNote(entry.at, entry.actor, entry.event, entry.subject, entry.details) == note

    @pytest.mark.parametrize("change", [*ONCE, *AGAIN])
    def test_a_change_whose_entry_can_not_be_kept_does_not_happen(
        self, store: IdentityStore, once: Token, change: str
    ) -> None:
        def held() -> object:
            return store.tokens(), store.members(), store.audit()

        store.enroll(joining(once), NOW)
        before = held()
        bad = AuditNote(1.0, "admin:root", change, "x", {"share": float("nan")})
        with pytest.raises(InvalidInput):
            (ONCE | AGAIN)[change](store, bad)
        assert held() == before
        (ONCE | AGAIN)[change](store, note_of(change))
        assert held() != before

    @pytest.mark.parametrize(
        ("change", "entries"), [*((name, 1) for name in ONCE), *((name, 2) for name in AGAIN)]
    )
    def test_what_was_so_already_gets_no_other_entry(
        self, store: IdentityStore, once: Token, change: str, entries: int
    ) -> None:
        store.enroll(joining(once), NOW)
        for _ in range(2):
            (ONCE | AGAIN)[change](store, note_of(change))
        assert [stored.entry.event for stored in store.audit()] == [change] * entries

    def test_each_of_those_who_are_revoked_together_has_an_entry(
        self, store: IdentityStore, often: Token
    ) -> None:
        for name, at in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
            store.enroll(joining(often, name, at), NOW)
        store.revoke_member(CLIENT, "b", 150.0)

        def half(member: Member) -> AuditNote:
            return note_of(share=float("nan") if member.member == "a" else 0.5)

        with pytest.raises(InvalidInput):
            store.revoke_joined(often.token, 200.0, half)
        assert [member.member for member in store.revoked(0.0)] == ["b"]
        assert store.audit() == []
        store.revoke_joined(often.token, 200.0, lambda member: note_of("revoked", member.member))
        assert [stored.entry.subject for stored in store.audit()] == ["c", "a"]
