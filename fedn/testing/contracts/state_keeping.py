"""The promises of `fedn.ports.StateStore` about what goes, and what comes from another store, as tests.

Part of `fedn.testing.contracts.state_store.StateStoreContract`: subclass that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count

import pytest

from fedn.domain.errors import Conflict, InvalidInput, NotFound, StaleTerm
from fedn.domain.identity import Role
from fedn.domain.ids import ClientId, SessionId, digest_of
from fedn.domain.round import StoredRecord, head_of
from fedn.ports import MetricRow, ModelInfo, StateStore
from fedn.testing.contracts.samples import (
    TERM,
    build_audit,
    genesis,
    join_token,
    joining,
    note_of,
    session_info,
    successor,
)

MNIST, OTHER = SessionId("mnist"), SessionId("other")
CLIENT = Role.CLIENT
MANY = 700
"""Rows of a page as `fedn store copy` writes them, and more than a store may take in one request."""


class StateKeepingContract:
    """What retention and `fedn store copy` ask of a StateStore, given by the fixture ``store``."""

    # --- terms

    def test_a_term_is_raised_and_never_lowered(self, store: StateStore) -> None:
        assert store.newest_term() == 0
        store.raise_term(41)
        for lower in (41, 7, 0):
            store.raise_term(lower)
            assert store.newest_term() == 41
        assert store.take_term() > 41
        assert store.newest_term() > 41

    # --- removing

    @pytest.mark.parametrize("state", ["finished", "failed", "cancelled"])
    def test_a_session_that_is_over_goes_with_all_it_has(self, store: StateStore, state: str) -> None:
        first, other = begun(store), begun(store, "other")
        store.commit_round(successor(first), store.take_term())
        store.add_metrics([row(MNIST, 1), row(OTHER, 1)], TERM)
        store.set_session_state(MNIST, state, "", store.take_term())
        store.remove_session(MNIST)
        gone: list[Callable[[], object]] = [
            lambda: store.session(MNIST),
            lambda: store.record(MNIST, 0),
            lambda: store.raw_records(MNIST),
            lambda: store.metrics(MNIST),
            lambda: store.remove_session(MNIST),
        ]
        for question in gone:
            with pytest.raises(NotFound):
                question()
        assert store.sessions() == [session_info(other)]
        assert (store.records(OTHER), store.metrics(OTHER)) == ([other], [row(OTHER, 1)])
        assert begun(store) == first
        assert (store.records(MNIST), store.metrics(MNIST)) == ([first], [])

    def test_metrics_that_come_while_a_session_goes_are_not_left(self, store: StateStore) -> None:
        first, some = begun(store), threading.Event()
        store.set_session_state(MNIST, "finished", "", TERM)

        def write() -> None:
            try:
                for number in count(1):
                    store.add_metrics([row(MNIST, number), row(MNIST, number, "b")], TERM)
                    some.set()
            except NotFound:
                pass
            finally:
                some.set()

        with ThreadPoolExecutor(2) as threads:
            writers = [threads.submit(write) for _ in range(2)]
            some.wait()
            store.remove_session(MNIST)
            for writer in writers:
                writer.result()
        store.add_session(session_info(first), first)
        assert store.metrics(MNIST) == []

    @pytest.mark.parametrize("state", ["created", "running", "paused"])
    def test_a_session_that_goes_on_is_not_removed(self, store: StateStore, state: str) -> None:
        first = begun(store)
        store.set_session_state(MNIST, state, "", store.take_term())
        with pytest.raises(Conflict, match="stop it first"):
            store.remove_session(MNIST)
        assert store.records(MNIST) == [first]

    def test_a_forgotten_client_has_no_metrics(self, store: StateStore) -> None:
        begun(store), begun(store, "other")
        kept = [row(MNIST, 1, "b"), row(OTHER, 1, "ab")]
        store.add_metrics([row(MNIST, 1), row(MNIST, 2), row(OTHER, 1), *kept], TERM)
        assert store.forget_metrics(ClientId("a")) == 3
        assert [*store.metrics(MNIST), *store.metrics(OTHER)] == kept
        assert store.forget_metrics(ClientId("a")) == 0

    def test_a_forgotten_member_keeps_its_key_and_loses_its_name(self, store: StateStore) -> None:
        members = store.identity
        members.add_token(join_token(uses=0))
        known = members.enroll(joining(join_token(uses=0)), 100.0)
        other = members.enroll(joining(join_token(uses=0), "c2"), 100.0)
        nameless = replace(known, name="", labels={})
        for _ in range(2):  # the second is no change, and gets no entry
            assert members.forget_name(CLIENT, "c1", note_of("forgotten", "c1")) == nameless
        assert [entry.entry.event for entry in members.audit()] == ["forgotten"]
        assert (members.member(CLIENT, "c1"), members.member(CLIENT, "c2")) == (nameless, other)
        with pytest.raises(NotFound):
            members.forget_name(CLIENT, "nobody")

    # --- pruned models

    def test_what_was_pruned_is_known_with_its_first_time(self, store: StateStore) -> None:
        one, two = digest_of(b"one"), digest_of(b"two")
        store.mark_pruned([one], 5.0)
        store.mark_pruned([one, two], 9.0)
        store.mark_pruned([], 9.0)
        assert (store.pruned(one), store.pruned(two), store.pruned(digest_of(b""))) == (5.0, 9.0, None)
        store.unmark_pruned([two, digest_of(b"never marked")])
        assert (store.pruned(one), store.pruned(two)) == (5.0, None)
        for wrong in (0.0, -1.0, float("nan")):
            with pytest.raises(InvalidInput):
                store.mark_pruned([two], wrong)

    def test_marks_come_in_bounded_pages(self, store: StateStore) -> None:
        digests = sorted(digest_of(b"%d" % k) for k in range(MANY))
        store.mark_pruned(digests, 5.0)
        marks = [(digest, 5.0) for digest in digests]
        assert store.pruned_marks() == marks
        assert store.pruned_marks(digests[9], 3) == marks[10:13]
        assert store.pruned_marks(digests[-1]) == []
        with pytest.raises(InvalidInput):
            store.pruned_marks(limit=0)

    def test_no_session_begins_with_a_pruned_model(self, store: StateStore) -> None:
        store.mark_pruned([genesis().record.model], 5.0)
        with pytest.raises(Conflict, match="was pruned"):
            begun(store)
        assert store.sessions() == []

    def test_a_model_that_is_there_again_is_not_marked(self, store: StateStore) -> None:
        first = begun(store)
        second = successor(first)
        models = [first.record.model, second.record.model]
        store.mark_pruned(models, 5.0)
        store.commit_round(second, store.take_term())
        assert [store.pruned(model) for model in models] == [5.0, None]
        store.add_model(ModelInfo(models[0], 7, "again", "seed", 1.0))
        assert store.pruned(models[0]) is None

    # --- from another store

    def test_a_session_comes_over_page_by_page_as_it_is(self, store: StateStore) -> None:
        trail = [genesis()]
        for _ in range(4):
            trail.append(successor(trail[-1]))
        rows = [raw(stored) for stored in trail]
        rows[2] = (2, digest_of(b"what was stored"), b"damaged bytes")  # copied as it is
        copying = replace(session_info(trail[0], 7.0), state="copying", reason="not whole yet")
        store.import_session(copying, [], TERM)
        assert store.session(MNIST) == copying
        assert list(store.raw_records(MNIST)) == []
        store.import_session(copying, rows[:3], TERM)
        store.import_session(copying, rows[:3], TERM)
        store.import_session(copying, rows[3:], TERM)
        final = replace(copying, state="running", reason="", name="renamed", head=head_of(trail[-1]))
        store.import_session(final, [], TERM)
        assert store.session(MNIST) == final
        assert store.sessions() == [final]
        assert list(store.raw_records(MNIST)) == rows
        store.add_metrics([row(MNIST, 4)], TERM)
        assert store.commit_round(successor(trail[-1]), store.take_term()).round == 5

    def test_an_imported_page_may_be_large(self, store: StateStore) -> None:
        rows = [(k, digest_of(b"%d" % k), b"%d" % k) for k in range(MANY)]
        store.import_session(session_info(genesis()), rows, TERM)
        assert list(store.raw_records(MNIST)) == rows

    def test_a_trail_that_went_another_way_is_not_written_over(self, store: StateStore) -> None:
        first = begun(store)
        store.commit_round(successor(first), store.take_term())
        before = store.session(MNIST)
        strangers = [raw(successor(first, committed_at=9.0)), raw(successor(successor(first)))]
        with pytest.raises(Conflict, match="another network"):
            store.import_session(replace(before, state="finished"), strangers[::-1], TERM)
        assert store.session(MNIST) == before
        assert len(store.raw_records(MNIST)) == 2

    def test_a_head_goes_neither_back_nor_sideways(self, store: StateStore) -> None:
        trail = [begun(store)]
        for _ in range(2):
            trail.append(successor(trail[-1]))
            store.commit_round(trail[-1], TERM)
        before = store.session(MNIST)
        sideways = [successor(trail[1], committed_at=9.0)]
        sideways.append(successor(sideways[0]))
        strangers: list[tuple[StoredRecord, list[StoredRecord]]] = [
            (trail[1], []),
            (sideways[0], []),
            (sideways[1], [sideways[1]]),
            (successor(trail[2]), []),  # of what comes between nothing is known
        ]
        for head, rows in strangers:
            with pytest.raises(Conflict, match="another network"):
                store.import_session(replace(before, head=head_of(head)), [raw(row) for row in rows], TERM)
            assert (store.session(MNIST), store.records(MNIST)) == (before, trail)
        after = replace(before, state="finished", head=head_of(successor(trail[2])))
        store.import_session(after, [raw(successor(trail[2]))], TERM)
        assert store.session(MNIST) == after

    def test_an_old_term_brings_nothing_over(self, store: StateStore) -> None:
        old, first = store.take_term(), genesis()
        store.take_term()
        with pytest.raises(StaleTerm):
            store.import_session(session_info(first), [raw(first)], old)
        assert store.sessions() == []

    def test_an_imported_session_may_have_a_pruned_seed(self, store: StateStore) -> None:
        first = genesis()
        store.mark_pruned([first.record.model], 5.0)
        store.import_session(session_info(first), [raw(first)], TERM)
        assert store.pruned(first.record.model) == 5.0

    def test_imported_sessions_of_equal_times_keep_their_order(self, store: StateStore) -> None:
        for name in ("b", "a", "c", "a"):
            first = genesis(name)
            store.import_session(session_info(first), [raw(first)], TERM)
        assert [info.session for info in store.sessions()] == ["c", "a", "b"]

    def test_tokens_and_members_come_over_as_they_are(self, store: StateStore) -> None:
        members = store.identity
        used = join_token(used=3, uses=5, revoked_at=200.0)
        gone = joining(used, revoked_at=200.0)
        members.import_identity(tokens=[used, join_token("b" * 16)], members=[gone, joining(used, "c2")])
        assert members.tokens() == [join_token("b" * 16), used]
        assert members.members() == [joining(used, "c2"), gone]
        later = replace(used, used=4)
        members.import_identity([later], [replace(gone, name="")])
        assert (members.token(used.token), members.member(CLIENT, "c1").name) == (later, "")
        assert len(members.members()) == 2

    def test_the_audit_log_comes_over_as_it_is_and_goes_on(self, store: StateStore) -> None:
        build_audit(store.identity, 3)
        rows = list(store.identity.raw_audit())
        store.identity.import_identity(audit=rows)
        damaged = [(4, digest_of(b"what was stored"), b"damaged bytes")]
        store.identity.import_identity(audit=[*rows, *damaged])
        assert list(store.identity.raw_audit()) == [*rows, *damaged]
        with pytest.raises(Conflict, match="another network"):
            store.identity.import_identity([join_token()], audit=[(2, rows[0][1], rows[0][2])])
        assert list(store.identity.raw_audit()) == [*rows, *damaged]
        assert store.identity.tokens() == []
        assert store.identity.append_audit(note_of()).entry.number == 5


def begun(store: StateStore, session: str = "mnist") -> StoredRecord:
    """The genesis of a session that begins."""
    first = genesis(session)
    store.add_session(session_info(first), first)
    return first


def raw(stored: StoredRecord) -> tuple[int, str, bytes]:
    return stored.record.round, stored.digest, stored.raw


def row(session: SessionId, round: int, client: str = "a") -> MetricRow:
    return MetricRow(session, round, "train", ClientId(client), 10, {"loss": 0.5})
