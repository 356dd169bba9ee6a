"""The promises of `fedn.ports.StateStore`, as tests. See the package docstring for how to use them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import pytest

from fedn.domain.errors import Conflict, Damaged, FednError, InvalidInput, NotFound, StaleTerm, TrailConflict
from fedn.domain.ids import ClientId, CombinerName, Digest, SessionId, digest_of
from fedn.domain.round import Head, StoredRecord, head_of, store_record
from fedn.ports import CombinerInfo, MetricRow, ModelInfo, PackageInfo, StateStore
from fedn.testing.contracts.samples import TERM, genesis, session_info, successor
from fedn.testing.contracts.state_events import StateEventsContract
from fedn.testing.contracts.state_keeping import StateKeepingContract

MNIST = SessionId("mnist")
NOBODY = SessionId("nobody")
_T = TypeVar("_T")


class StateStoreContract(StateKeepingContract, StateEventsContract):
    """Subclass and provide a fixture ``store`` that yields an empty StateStore."""

    @pytest.fixture
    def first(self, store: StateStore) -> StoredRecord:
        """The stored genesis of a session 'mnist'."""
        record = genesis()
        store.add_session(session_info(record), record)
        return record

    # --- term

    def test_terms_rise(self, store: StateStore) -> None:
        first, second = store.take_term(), store.take_term()
        assert 0 < first < second

    def test_no_two_reducers_get_the_same_term(self, store: StateStore) -> None:
        terms = together([store.take_term] * 8)
        assert len(set(terms)) == 8

    # --- sessions

    def test_a_session_comes_back_as_it_was_added(self, store: StateStore, first: StoredRecord) -> None:
        assert store.session(MNIST) == session_info(first)
        assert store.record(MNIST, 0) == first

    def test_a_session_is_added_once(self, store: StateStore, first: StoredRecord) -> None:
        with pytest.raises(Conflict):
            store.add_session(session_info(first), first)
        assert store.session(MNIST) == session_info(first)

    def test_one_of_many_adding_a_session_wins(self, store: StateStore) -> None:
        records = [genesis() for _ in range(8)]
        outcomes = together([adding(store, record) for record in records])
        assert sorted(map(str, outcomes)) == ["added"] + ["conflict"] * 7

    def test_a_session_starts_with_its_own_first_record(self, store: StateStore) -> None:
        first = genesis()
        for record in (successor(first), genesis("other")):
            with pytest.raises(InvalidInput):
                store.add_session(replace(session_info(first), head=head_of(record)), record)
        with pytest.raises(InvalidInput):
            store.add_session(replace(session_info(first), head=head_of(successor(first))), first)
        assert store.sessions() == []

    def test_sessions_are_listed_newest_first(self, store: StateStore) -> None:
        for name, created_at in (("b", 2.0), ("c", 3.0), ("a", 1.0), ("d", 3.0)):
            record = genesis(name)
            store.add_session(session_info(record, created_at), record)
        assert [info.session for info in store.sessions()] == ["d", "c", "b", "a"]

    def test_a_session_state_changes(self, store: StateStore, first: StoredRecord) -> None:
        store.set_session_state(MNIST, "failed", "Nobody came.", store.take_term())
        expected = replace(session_info(first), state="failed", reason="Nobody came.")
        assert store.session(MNIST) == expected
        assert store.sessions() == [expected]

    def test_what_is_not_there_is_not_found(self, store: StateStore, first: StoredRecord) -> None:
        term = store.take_term()
        questions: list[Callable[[], object]] = [
            lambda: store.session(NOBODY),
            lambda: store.set_session_state(NOBODY, "failed", "", term),
            lambda: store.commit_round(successor(genesis(NOBODY)), term),
            lambda: store.record(NOBODY, 0),
            lambda: store.record(MNIST, 1),
            lambda: store.record(MNIST, -1),
            lambda: store.record(MNIST, 2**70),
            lambda: store.records(NOBODY),
            lambda: store.raw_records(NOBODY),
            lambda: store.metrics(NOBODY),
            lambda: store.add_metrics([row(NOBODY, 1)], term),
            lambda: store.package(digest_of(b"nothing")),
        ]
        for question in questions:
            with pytest.raises(NotFound):
                question()

    # --- trail

    def test_a_commit_moves_the_head(self, store: StateStore, first: StoredRecord) -> None:
        term, second = store.take_term(), successor(first)
        assert store.commit_round(second, term) == head_of(second)
        assert store.session(MNIST).head == head_of(second)
        assert store.record(MNIST, 1) == second

    def test_a_record_is_kept_byte_for_byte(self, store: StateStore, first: StoredRecord) -> None:
        second = successor(first)
        store.commit_round(second, store.take_term())
        assert store.raw_records(MNIST) == [(0, first.digest, first.raw), (1, second.digest, second.raw)]

    def test_committing_again_changes_nothing(self, store: StateStore, first: StoredRecord) -> None:
        term, second = store.take_term(), successor(first)
        third = successor(second)
        store.commit_round(second, term)
        assert store.commit_round(second, term) == head_of(second)
        store.commit_round(third, term)
        assert store.commit_round(second, term) == head_of(third)
        assert store.commit_round(second, store.take_term()) == head_of(third)
        assert store.records(MNIST) == [first, second, third]

    def test_only_the_next_record_of_the_head_fits(self, store: StateStore, first: StoredRecord) -> None:
        term, second = store.take_term(), successor(first)
        store.commit_round(second, term)
        strangers = [
            successor(first, committed_at=9.0),
            successor(successor(second)),
            replace_parent(successor(second), first.digest),
            successor(second, round=3),
            successor(second, round=1),
            genesis(),
        ]
        for stranger in strangers[:-1]:
            with pytest.raises(TrailConflict):
                store.commit_round(stranger, term)
        assert store.commit_round(strangers[-1], term) == head_of(second)
        assert store.records(MNIST) == [first, second]

    def test_a_record_with_a_wrong_digest_is_refused(self, store: StateStore, first: StoredRecord) -> None:
        wrong = replace(successor(first), digest=digest_of(b"something else"))
        with pytest.raises(Damaged):
            store.commit_round(wrong, store.take_term())
        assert store.session(MNIST).head == head_of(first)

    def test_an_old_term_decides_nothing(self, store: StateStore, first: StoredRecord) -> None:
        old, new = store.take_term(), store.take_term()
        second = successor(first)
        with pytest.raises(StaleTerm):
            store.commit_round(second, old)
        with pytest.raises(StaleTerm):
            store.set_session_state(MNIST, "failed", "", old)
        assert store.session(MNIST) == session_info(first)
        store.commit_round(second, new)
        with pytest.raises(StaleTerm):
            store.commit_round(second, old)
        with pytest.raises(StaleTerm):
            store.add_metrics([row(MNIST, 2)], old)
        assert store.metrics(MNIST) == []
        begun = genesis("too-late", term=old)
        with pytest.raises(StaleTerm):
            store.add_session(session_info(begun), begun)
        with pytest.raises(NotFound):
            store.session(begun.record.session)

    def test_sessions_do_not_meet(self, store: StateStore, first: StoredRecord) -> None:
        other = genesis("other")
        store.add_session(session_info(other), other)
        store.commit_round(successor(other), store.take_term())
        assert store.session(MNIST).head == head_of(first)
        assert store.records(MNIST) == [first]

    def test_records_come_in_bounded_pages(self, store: StateStore, first: StoredRecord) -> None:
        term, trail = store.take_term(), [first]
        for _ in range(12):
            trail.append(successor(trail[-1]))
            store.commit_round(trail[-1], term)
        assert store.records(MNIST) == trail
        assert store.records(MNIST, after=8, limit=3) == trail[9:12]
        assert store.records(MNIST, after=10, limit=2**70) == trail[11:]
        assert store.records(MNIST, after=12) == store.records(MNIST, after=2**70) == []
        assert [row[0] for row in store.raw_records(MNIST, after=3, limit=2)] == [4, 5]

    def test_a_page_has_a_size(self, store: StateStore, first: StoredRecord) -> None:
        for limit in (0, -1):
            questions: list[Callable[[int], object]] = [
                lambda limit: store.records(MNIST, limit=limit),
                lambda limit: store.raw_records(MNIST, limit=limit),
                lambda limit: store.metrics(MNIST, limit=limit),
                store.models,
                store.packages,
            ]
            for question in questions:
                with pytest.raises(InvalidInput):
                    question(limit)

    def test_one_of_many_committing_a_round_wins(self, store: StateStore, first: StoredRecord) -> None:
        term = store.take_term()
        rivals = [successor(first, committed_at=float(k)) for k in range(8)]
        outcomes = together([committing(store, rival, term) for rival in rivals])
        winners = [rivals[k] for k, outcome in enumerate(outcomes) if isinstance(outcome, Head)]
        assert len(winners) == 1
        assert outcomes.count("trail_conflict") == 7
        assert store.records(MNIST) == [first, *winners]
        assert store.session(MNIST).head == head_of(winners[0])

    def test_many_committing_the_same_bytes_agree(self, store: StateStore, first: StoredRecord) -> None:
        term, second = store.take_term(), successor(first)
        assert together([committing(store, second, term)] * 8) == [head_of(second)] * 8
        assert store.records(MNIST) == [first, second]

    def test_the_head_is_never_ahead_of_its_record(self, store: StateStore, first: StoredRecord) -> None:
        term, done = store.take_term(), threading.Event()

        def write() -> None:
            last = first
            try:
                for _ in range(30):
                    last = successor(last)
                    store.commit_round(last, term)
            finally:
                done.set()

        def read() -> None:
            while not done.is_set():
                head = store.session(MNIST).head
                assert head_of(store.record(MNIST, head.round)) == head

        together([write, read, read])
        assert store.session(MNIST).head.round == 30

    # --- metrics

    def test_metrics_come_back_in_order(self, store: StateStore, first: StoredRecord) -> None:
        kinds, clients = ("validate", "train"), ("b", "a")
        rows = [row(MNIST, k, kind, client) for k in (2, 1) for kind in kinds for client in clients]
        store.add_metrics(iter(rows), TERM)
        found = store.metrics(MNIST)
        assert found == sorted(rows, key=lambda item: (item.round, item.kind, item.client))
        assert store.metrics(MNIST, after=1) == found[4:]
        assert store.metrics(MNIST, limit=3) == found[:3]

    def test_the_last_metrics_of_a_client_stay(self, store: StateStore, first: StoredRecord) -> None:
        store.add_metrics([row(MNIST, 1, loss=2.0), row(MNIST, 1, loss=1.0)], TERM)
        store.add_metrics([row(MNIST, 1, loss=0.5)], TERM)
        assert store.metrics(MNIST) == [row(MNIST, 1, loss=0.5)]

    def test_a_commit_drops_metrics_of_clients_that_do_not_count_in_it(
        self, store: StateStore, first: StoredRecord
    ) -> None:
        begun = MetricRow(MNIST, 1, "train", ClientId("gone"), 10, {"loss": 2.0})
        others = [replace(begun, round=0), replace(begun, round=2)]
        counted = [replace(begun, kind=kind, client=ClientId("client-1")) for kind in ("timing", "train")]
        store.add_metrics([begun, replace(begun, kind="timing"), *others, *counted], TERM)
        second = successor(first)
        for _ in range(2):
            store.commit_round(second, TERM)
            assert store.metrics(MNIST) == [others[0], *counted, others[1]]
        late = replace(begun, kind="validate")
        store.add_metrics([late], TERM)
        store.commit_round(second, TERM)  # said again: what came since stays
        assert late in store.metrics(MNIST)

    def test_metrics_that_are_no_numbers_are_left_out(self, store: StateStore, first: StoredRecord) -> None:
        store.add_metrics([replace(row(MNIST, 1), metrics={"loss": float("nan"), "accuracy": 0.5})], TERM)
        assert [dict(item.metrics) for item in store.metrics(MNIST)] == [{"accuracy": 0.5}]

    def test_metrics_are_stored_all_or_none(self, store: StateStore, first: StoredRecord) -> None:
        with pytest.raises(NotFound):
            store.add_metrics([row(MNIST, 1), row(NOBODY, 1)], TERM)
        assert store.metrics(MNIST) == []
        store.add_metrics([], TERM)

    # --- models, packages, combiners

    def test_the_first_word_about_a_model_stays(self, store: StateStore) -> None:
        info = model(b"a", 1.0)
        store.add_model(info)
        again = replace(info, name="another", created_at=9.0)
        store.add_model(again)
        assert store.models() == [again]

    def test_models_are_listed_newest_first(self, store: StateStore) -> None:
        infos = [model(b"a", 1.0), model(b"b", 3.0), model(b"c", 2.0), model(b"d", 3.0)]
        for info in infos:
            store.add_model(info)
        assert store.models() == [infos[3], infos[1], infos[2], infos[0]]
        assert store.models(limit=2) == [infos[3], infos[1]]

    def test_a_package_comes_back_with_its_manifest(self, store: StateStore) -> None:
        info = package(b"a", 1.0)
        store.add_package(info)
        assert store.package(info.digest) == info
        again = replace(info, manifest={**info.manifest, "description": "é"}, created_at=9.0)
        store.add_package(again)
        assert store.package(info.digest) == again
        assert store.packages() == [again]

    def test_a_manifest_is_kept_as_it_was_when_it_was_added(self, store: StateStore) -> None:
        info = package(b"a", 1.0)
        manifest = dict(info.manifest)
        store.add_package(replace(info, manifest=manifest))
        manifest["name"] = "changed"
        assert store.package(info.digest) == info
        for spoilt in ({"rate": float("nan")}, {"target": {1, 2}}):
            with pytest.raises(InvalidInput):
                store.add_package(replace(package(b"b", 2.0), manifest=spoilt))
        assert store.packages() == [info]

    def test_packages_are_listed_newest_first(self, store: StateStore) -> None:
        infos = [package(b"a", 1.0), package(b"b", 3.0), package(b"c", 2.0), package(b"d", 3.0)]
        for info in infos:
            store.add_package(info)
        assert store.packages() == [infos[3], infos[1], infos[2], infos[0]]
        assert store.packages(limit=2) == [infos[3], infos[1]]

    def test_the_last_registration_of_a_combiner_stays(self, store: StateStore) -> None:
        assert store.combiners() == []
        south = CombinerInfo(CombinerName("south"), "localhost:2", "i1", 1.0)
        north = CombinerInfo(CombinerName("north"), "localhost:1", "i2", 2.0)
        drained = replace(south, incarnation="i3", registered_at=3.0, drained_at=2.5)
        for info in (south, north, drained):
            store.put_combiner(info)
        assert store.combiners() == [north, drained]

    def test_close_may_be_called_twice(self, store: StateStore) -> None:
        store.close()
        store.close()


def together(calls: Sequence[Callable[[], _T]]) -> list[_T]:
    """Make all calls at once, each in a thread of its own; their results in order."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], _T]) -> _T:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def committing(store: StateStore, stored: StoredRecord, term: int) -> Callable[[], Head | str]:
    """A commit whose error is its code."""

    def call() -> Head | str:
        try:
            return store.commit_round(stored, term)
        except FednError as error:
            return error.code

    return call


def adding(store: StateStore, first: StoredRecord) -> Callable[[], str]:
    def call() -> str:
        try:
            store.add_session(session_info(first), first)
        except FednError as error:
            return error.code
        return "added"

    return call


def replace_parent(stored: StoredRecord, parent: Digest) -> StoredRecord:
    return store_record(replace(stored.record, parent=parent))


def row(
    session: SessionId, round: int, kind: str = "train", client: str = "a", *, loss: float = 1.5
) -> MetricRow:
    return MetricRow(session, round, kind, ClientId(client), 10, {"loss": loss, "accuracy": 0.25})


def model(blob: bytes, created_at: float) -> ModelInfo:
    return ModelInfo(Digest(digest_of(blob)), len(blob), "digits", "seed", created_at)


def package(blob: bytes, created_at: float) -> PackageInfo:
    manifest = {"name": "mnist", "entry_points": {"train": {"python": "app:train"}}, "timeout": None,
                "hyperparameters": {"rate": 0.1, "epochs": 1}, "requirements": ["numpy>=1.26"]}  # fmt: skip
    return PackageInfo(Digest(digest_of(blob)), len(blob), "mnist", manifest, created_at)
