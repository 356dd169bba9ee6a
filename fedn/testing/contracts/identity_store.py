"""The promises of `fedn.ports.IdentityStore`, as tests. See the package docstring for how to use them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fedn.domain.errors import Conflict, FednError, InvalidInput, NotFound, Revoked, Unauthenticated
from fedn.domain.identity import FOREVER, Member, Role, Token
from fedn.domain.ids import digest_of
from fedn.ports import IdentityStore
from fedn.testing.contracts.audit_log import NOW, AuditLogContract
from fedn.testing.contracts.samples import join_token, joining, note_of
from fedn.testing.contracts.state_store import together

CLIENT, COMBINER = Role.CLIENT, Role.COMBINER


class IdentityStoreContract(AuditLogContract):
    """Subclass and provide a fixture ``store`` that yields an empty IdentityStore."""

    # --- tokens

    def test_a_token_comes_back_as_it_was_added(self, store: IdentityStore) -> None:
        tokens = [
            join_token(),
            join_token("b" * 16, name="Köln\n\x00🏥", labels={"é": "ü", "a": ""}, uses=0, used=7),
            join_token("c" * 16, role=Role.ADMIN, labels={}, expires_at=FOREVER, created_by=""),
            join_token("d" * 16, role=Role.COMBINER, uses=2**63 - 1, revoked_at=12.5),
        ]
        for token in tokens:
            store.add_token(token)
        assert [store.token(token.token) for token in tokens] == tokens

    def test_the_very_same_token_is_added_once(self, store: IdentityStore, once: Token) -> None:
        store.enroll(joining(once), NOW)
        store.revoke_token(once.token, 200.0)
        store.add_token(once)
        assert store.tokens() == [replace(once, used=1, revoked_at=200.0)]

    @pytest.mark.parametrize(
        "change",
        [
            {"secret_digest": digest_of(b"another")},
            {"role": Role.ADMIN},
            {"expires_at": FOREVER},
            {"uses": 0},
        ],
    )
    def test_another_token_of_that_id_is_a_conflict(
        self, store: IdentityStore, once: Token, change: dict[str, Any]
    ) -> None:
        with pytest.raises(Conflict):
            store.add_token(replace(once, **change))
        assert store.tokens() == [once]

    @pytest.mark.parametrize(
        "change",
        [{"role": Role.REDUCER}, {"role": Role.ANYBODY}, {"role": Role.NOBODY}, {"uses": -1}, {"uses": 2**63},
         {"expires_at": float("nan")}, {"created_at": float("nan")}, {"name": "\ud800"}],
    )  # fmt: skip
    def test_a_token_that_could_not_be_given_back_is_refused(
        self, store: IdentityStore, change: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidInput):
            store.add_token(join_token(**change))
        assert store.tokens() == []

    def test_tokens_are_listed_newest_first(self, store: IdentityStore) -> None:
        for letter, created_at in (("b", 2.0), ("c", 3.0), ("a", 1.0), ("d", 3.0)):
            store.add_token(join_token(letter * 16, created_at=created_at))
        assert [token.token[0] for token in store.tokens()] == ["d", "c", "b", "a"]
        assert [token.token[0] for token in store.tokens(limit=2)] == ["d", "c"]

    def test_a_revoked_token_keeps_its_first_time(self, store: IdentityStore, once: Token) -> None:
        revoked = replace(once, revoked_at=200.0)
        assert store.revoke_token(once.token, 200.0) == revoked
        assert store.revoke_token(once.token, 300.0) == revoked
        assert store.token(once.token) == revoked

    def test_what_is_not_there_is_not_found(self, store: IdentityStore, once: Token) -> None:
        member = store.enroll(joining(once), NOW)
        questions: list[Callable[[], object]] = [
            lambda: store.token("f" * 16),
            lambda: store.token(""),
            lambda: store.revoke_token("f" * 16, NOW),
            lambda: store.revoke_joined("f" * 16, NOW),
            lambda: store.enroll(joining(join_token("f" * 16), "c2"), NOW),
            lambda: store.member(CLIENT, "nobody"),
            lambda: store.member(COMBINER, member.member),
            lambda: store.renew(CLIENT, "nobody", NOW, NOW),
            lambda: store.revoke_member(CLIENT, "nobody", NOW),
            lambda: store.revoke_member(COMBINER, member.member, NOW),
        ]
        for question in questions:
            with pytest.raises(NotFound):
                question()
        assert store.members() == [member]

    # --- joining

    def test_a_member_joins_and_uses_the_token(self, store: IdentityStore, once: Token) -> None:
        member = joining(once, name="Köln 🏥", labels={"é": "ü"})
        assert store.enroll(member, NOW) == member
        assert store.member(CLIENT, member.member) == member
        assert store.members() == [member]
        assert store.token(once.token) == replace(once, used=1)

    def test_nobody_joins_revoked(self, store: IdentityStore, once: Token) -> None:
        assert store.enroll(joining(once, revoked_at=50.0), NOW) == joining(once)
        assert store.members() == [joining(once)]

    def test_a_join_whose_answer_was_lost_is_answered_again(self, store: IdentityStore, once: Token) -> None:
        store.enroll(joining(once), NOW)
        again = joining(once, at=120.0, name="another ward", labels={})
        assert store.enroll(again, 120.0) == again
        assert store.members() == [again]
        assert store.token(once.token).used == 1

    def test_a_token_is_used_as_often_as_it_says(self, store: IdentityStore) -> None:
        token = join_token(uses=3)
        store.add_token(token)
        for number in range(3):
            store.enroll(joining(token, f"c{number}"), NOW)
        with pytest.raises(Unauthenticated, match="this token has been used up"):
            store.enroll(joining(token, "c3"), NOW)
        assert store.token(token.token).used == len(store.members()) == 3

    def test_a_token_without_a_bound_is_never_used_up(self, store: IdentityStore, often: Token) -> None:
        for number in range(12):
            store.enroll(joining(often, f"c{number}"), NOW)
        assert store.token(often.token).used == len(store.members()) == 12

    def test_an_expired_token_admits_nobody(self, store: IdentityStore, once: Token) -> None:
        member = store.enroll(joining(once), 999.9)
        for late in (joining(once, "c2"), joining(once)):  # not even who joined by it before
            with pytest.raises(Unauthenticated, match="this token has expired"):
                store.enroll(late, 1000.0)
        assert store.members() == [member]

    def test_a_revoked_token_admits_nobody(self, store: IdentityStore, often: Token) -> None:
        member = store.enroll(joining(often), NOW)
        store.revoke_token(often.token, 200.0)
        for late in (joining(often, "c2"), joining(often)):
            with pytest.raises(Unauthenticated, match="this token was revoked"):
                store.enroll(late, 201.0)
        assert store.members() == [member]
        assert store.token(often.token).used == 1

    def test_a_moment_that_is_no_number_admits_nobody(self, store: IdentityStore, once: Token) -> None:
        with pytest.raises(InvalidInput):
            store.enroll(joining(once), float("nan"))
        assert store.members() == []

    def test_an_id_belongs_to_its_first_key(self, store: IdentityStore, often: Token) -> None:
        member = store.enroll(joining(often), NOW)
        with pytest.raises(Conflict, match="another key"):
            store.enroll(joining(often, key=digest_of(b"another")), NOW)
        assert store.members() == [member]
        assert store.token(often.token).used == 1

    def test_a_combiner_may_be_called_as_a_client_is(self, store: IdentityStore, once: Token) -> None:
        token = join_token("c" * 16, role=COMBINER)
        store.add_token(token)
        client = store.enroll(joining(once, "north"), NOW)
        combiner = store.enroll(joining(token, "north", key=digest_of(b"another")), NOW)
        assert store.member(CLIENT, "north") == client
        assert store.member(COMBINER, "north") == combiner

    def test_a_member_that_joins_by_another_token_uses_that(self, store: IdentityStore, once: Token) -> None:
        other = join_token("c" * 16)
        store.add_token(other)
        store.enroll(joining(once), NOW)
        moved = store.enroll(joining(other, at=120.0), 120.0)
        assert store.members() == [moved]
        assert [token.used for token in store.tokens()] == [1, 1]
        with pytest.raises(Unauthenticated, match="used up"):
            store.enroll(joining(other, "c2"), NOW)

    def test_a_token_is_for_one_role(self, store: IdentityStore, once: Token) -> None:
        viewer = join_token("c" * 16, role=Role.VIEWER)
        store.add_token(viewer)
        for wrong in (joining(once, role=COMBINER), joining(viewer), joining(viewer, role=CLIENT)):
            with pytest.raises(InvalidInput):
                store.enroll(wrong, NOW)
        assert store.members() == []
        assert {token.used for token in store.tokens()} == {0}

    @pytest.mark.parametrize(
        "change", [{"joined_at": float("nan")}, {"expires_at": float("nan")}, {"name": "\udfff"}]
    )
    def test_a_member_that_could_not_be_given_back_is_refused(
        self, store: IdentityStore, once: Token, change: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidInput):
            store.enroll(joining(once, **change), NOW)
        assert store.members() == []
        assert store.token(once.token) == once

    def test_one_of_many_wins_a_token_of_one_use(self, store: IdentityStore) -> None:
        for number in range(30):
            token = join_token(f"{number:016x}")
            store.add_token(token)
            outcomes = together([enrolling(store, joining(token, f"c{who}-{number}")) for who in range(6)])
            (winner,) = (outcome for outcome in outcomes if isinstance(outcome, Member))
            assert outcomes.count("unauthenticated") == 5
            assert store.member(CLIENT, winner.member) == winner
            assert store.token(token.token).used == 1
        assert len(store.members()) == len(store.audit()) == 30

    def test_one_of_many_keys_wins_an_id(self, store: IdentityStore, often: Token) -> None:
        rivals = [joining(often, key=digest_of(b"%d" % number)) for number in range(8)]
        outcomes = together([enrolling(store, rival) for rival in rivals])
        assert store.members() == [outcome for outcome in outcomes if isinstance(outcome, Member)]
        assert outcomes.count("conflict") == 7
        assert store.token(often.token).used == 1

    def test_a_member_that_asks_many_times_at_once_joins_once(
        self, store: IdentityStore, once: Token
    ) -> None:
        assert together([enrolling(store, joining(once))] * 8) == [joining(once)] * 8
        assert store.token(once.token).used == 1

    # --- who could be mistaken for whom

    def test_no_client_has_the_name_of_another_as_its_id(self, store: IdentityStore, often: Token) -> None:
        first = store.enroll(joining(often, "north-1", name="north"), NOW)
        with pytest.raises(Conflict, match="another member is called 'north'"):
            store.enroll(joining(often, "north"), NOW)
        assert store.members() == [first]
        assert store.token(often.token).used == 1
        store.revoke_member(CLIENT, "north-1", 150.0)
        store.enroll(joining(often, "north"), NOW)

    def test_no_client_has_the_id_of_another_as_its_name(self, store: IdentityStore, often: Token) -> None:
        token = join_token("c" * 16, role=COMBINER)
        store.add_token(token)
        store.enroll(joining(often, "north-1"), NOW)
        store.enroll(joining(token, "south"), NOW)
        store.revoke_member(CLIENT, "north-1", 150.0)
        for name in ("north-1", "south"):  # ids are for ever
            with pytest.raises(Conflict, match=f"'{name}' is the id of another member"):
                store.enroll(joining(often, "c1", name=name), NOW)
        assert store.token(often.token).used == 1

    def test_names_are_shared_and_ones_own_id_is_a_name(self, store: IdentityStore, often: Token) -> None:
        for member, name in (("a", "ward"), ("b", "ward"), ("c", "c"), ("d", ""), ("e", "")):
            store.enroll(joining(often, member, name=name), NOW)
        store.enroll(joining(often, "a", name="a"), NOW)
        with pytest.raises(Conflict, match="'c' is the id"):
            store.enroll(joining(often, "b", name="c"), NOW)

    def test_no_client_keeps_a_combiner_out_nor_does_one_keep_a_client_out_that_was_there(
        self, store: IdentityStore, often: Token
    ) -> None:
        token = join_token("c" * 16, role=COMBINER)
        store.add_token(token)
        client = store.enroll(joining(often, "north-1", name="north"), NOW)
        store.enroll(joining(token, "north", name="north"), NOW)
        assert store.enroll(joining(often, "north-1", name="north"), NOW) == client

    # --- members

    def test_a_member_renews(self, store: IdentityStore, once: Token) -> None:
        member = store.enroll(joining(once), NOW)
        renewed = replace(member, renewed_at=130.0, expires_at=180.0)
        assert store.renew(CLIENT, "c1", 130.0, 180.0) == renewed
        assert store.member(CLIENT, "c1") == renewed

    def test_a_shorter_certificate_does_not_end_a_longer_one(self, store: IdentityStore, once: Token) -> None:
        store.enroll(joining(once, expires_at=500.0), NOW)
        assert store.renew(CLIENT, "c1", 130.0, 140.0).expires_at == 500.0
        assert store.enroll(joining(once, at=150.0), 150.0).expires_at == 500.0
        assert store.member(CLIENT, "c1").expires_at == 500.0

    def test_members_are_listed_newest_first(self, store: IdentityStore, often: Token) -> None:
        for name, at in (("b", 2.0), ("c", 3.0), ("a", 1.0), ("d", 3.0)):
            store.enroll(joining(often, name, at), NOW)
        assert [member.member for member in store.members()] == ["d", "c", "b", "a"]
        store.enroll(joining(often, "a", 4.0), NOW)
        store.renew(CLIENT, "b", 9.0, 99.0)
        assert [member.member for member in store.members(limit=3)] == ["a", "d", "c"]

    def test_a_revoked_member_is_refused_for_good(self, store: IdentityStore, once: Token) -> None:
        other = join_token("c" * 16)
        store.add_token(other)
        member = store.enroll(joining(once), NOW)
        revoked = replace(member, revoked_at=200.0)
        assert store.revoke_member(CLIENT, "c1", 200.0) == revoked
        assert store.revoke_member(CLIENT, "c1", 300.0) == revoked
        attempts: list[Callable[[], object]] = [
            lambda: store.renew(CLIENT, "c1", 201.0, 250.0),
            lambda: store.enroll(joining(once), 201.0),
            lambda: store.enroll(joining(other), 201.0),
            lambda: store.enroll(joining(other, key=digest_of(b"another")), 201.0),
            lambda: store.enroll(joining(once), 2000.0),
        ]
        for attempt in attempts:
            with pytest.raises(Revoked, match="client c1 was revoked"):
                attempt()
        assert store.members() == [revoked]
        assert store.token(other.token) == other

    def test_who_was_revoked_is_listed_until_the_certificate_ends(
        self, store: IdentityStore, often: Token
    ) -> None:
        for name, revoked_at in (("a", 120.0), ("b", 110.0), ("c", 130.0), ("d", 130.0), ("e", 0.0)):
            store.enroll(joining(often, name, expires_at=150.0 + (name == "a")), NOW)
            if revoked_at:
                store.revoke_member(CLIENT, name, revoked_at)
        assert [member.member for member in store.revoked(149.0)] == ["d", "c", "a", "b"]
        assert [member.member for member in store.revoked(149.0, limit=2)] == ["d", "c"]
        assert [member.member for member in store.revoked(150.0)] == ["a"]
        assert store.revoked(151.0) == []

    def test_everyone_who_joined_by_a_token_is_revoked_at_once(
        self, store: IdentityStore, once: Token, often: Token
    ) -> None:
        stays = store.enroll(joining(once, "stays"), NOW)
        joined = [store.enroll(joining(often, name, at), NOW) for name, at in (("a", 3.0), ("b", 2.0))]
        gone = store.enroll(joining(often, "gone", 1.0), NOW)
        gone = store.revoke_member(CLIENT, "gone", 150.0)
        revoked = [replace(member, revoked_at=200.0) for member in joined]
        assert store.revoke_joined(often.token, 200.0) == revoked
        assert store.revoke_joined(often.token, 300.0) == []
        assert store.members() == [stays, *revoked, gone]

    @pytest.mark.parametrize("now", [0.0, -1.0, float("nan")])
    def test_nothing_is_revoked_at_no_time(self, store: IdentityStore, once: Token, now: float) -> None:
        member = store.enroll(joining(once), NOW)
        attempts: list[Callable[[], object]] = [
            lambda: store.revoke_token(once.token, now),
            lambda: store.revoke_member(CLIENT, member.member, now),
            lambda: store.revoke_joined(once.token, now),
        ]
        for attempt in attempts:
            with pytest.raises(InvalidInput):
                attempt()
        assert store.members() == [member]

    def test_revoked_means_revoked_while_many_renew(self, store: IdentityStore, once: Token) -> None:
        store.enroll(joining(once), NOW)
        revoked = threading.Event()

        def revoke() -> None:
            store.revoke_member(CLIENT, "c1", 200.0)
            revoked.set()

        def renew() -> None:
            while True:
                over = revoked.is_set()
                try:
                    store.renew(CLIENT, "c1", 150.0, 250.0)
                except Revoked:
                    return
                assert not over

        together([revoke, renew, renew])
        assert store.member(CLIENT, "c1").revoked_at == 200.0

    def test_a_page_has_a_size(self, store: IdentityStore) -> None:
        for limit in (0, -1):
            questions: list[Callable[[int], object]] = [
                store.tokens,
                store.members,
                lambda limit: store.revoked(NOW, limit),
                lambda limit: store.audit(limit=limit),
                lambda limit: store.raw_audit(limit=limit),
            ]
            for question in questions:
                with pytest.raises(InvalidInput):
                    question(limit)


def enrolling(store: IdentityStore, member: Member) -> Callable[[], Member | str]:
    """A join, with its entry, whose error is its code."""

    def call() -> Member | str:
        try:
            return store.enroll(member, NOW, note_of("joined", member.member))
        except FednError as error:
            return error.code

    return call
