"""What nobody names, what is asked to be removed, and whether the stores work at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedn.domain.errors import Conflict, Damaged, NotFound, StoreUnavailable
from fedn.domain.ids import ClientId, Digest, SessionId, digest_of
from fedn.identity.audit import verify_audit
from fedn.ports import MetricRow, ModelInfo, ModelStore, StateStore
from fedn.stores import collecting
from fedn.stores.collecting import Stats, check_models, check_state, collect, stats
from fedn.stores.files import FileModels
from fedn.stores.forgetting import Forgotten, drop_session, forget_client
from fedn.stores.memory import MemoryModels, MemoryState
from fedn.stores.sqlite import SqliteState
from fedn.stores.trail import verify_trail
from fedn.testing.contracts.samples import (
    TERM,
    blob_of,
    build_trail,
    genesis,
    join_token,
    joining,
    note_of,
    session_info,
)
from fedn.testing.contracts.state_events import happened
from fedn.testing.contracts.state_store import package

MNIST, OTHER = SessionId("mnist"), SessionId("other")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateStore]:
    store = SqliteState(tmp_path / "state.db")
    yield store
    store.close()


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return FileModels(tmp_path / "models")


def later() -> float:
    return time.time() + 7200


# --- blobs that nobody names ------------------------------------------------------------------------


def test_only_what_nobody_names_is_collected(state: StateStore, models: ModelStore):
    build_trail(state, models, rounds=3)
    seed, code = models.put([b"a seed"])[0], models.put([b"a package"])[0]
    state.add_model(ModelInfo(seed, 6, "seed", "seed", 1.0))
    state.add_package(package(b"a package", 1.0))
    named = set(models.digests())
    loose, _ = models.put([b"a model whose record never came"])
    assert stats(state, models) == Stats(1, 4, 1, 1, 0, 7, 31 + sum(map(models.size, named)), 1, 31)

    dry = collect(state, models, later())
    assert (dry.digests, dry.bytes, dry.deleted) == ([loose], 31, False)
    assert set(models.digests()) == named | {loose}
    young = collect(state, models, time.time(), delete=True)
    assert (young.blobs, young.recent) == (0, 1)
    assert collect(state, models, later(), delete=True).digests == [loose]
    assert set(models.digests()) == named == {*named, seed, code}
    assert verify_trail(state, models, MNIST).ok


def test_a_blob_that_is_named_after_it_was_listed_stays(state: StateStore):
    """The reducer puts a blob, the collector lists it, the record comes, the collector reads the records."""

    class Slow(MemoryModels):
        def blobs(self):
            yield from list(super().blobs())
            state.add_session(session_info(genesis()), genesis())

    models = Slow()
    models.put([b"model of round 0 of mnist"])
    assert collect(state, models, later(), delete=True).blobs == 0
    assert verify_trail(state, models, MNIST).ok


def test_a_blob_whose_bytes_come_again_while_it_is_collected_stays(state: StateStore):
    now = time.time()

    class Again(MemoryModels):
        def blobs(self):
            for blob in list(super().blobs()):
                self.put([b"the same round, again"])
                yield blob

    models = Again()
    digest, _ = models.put([b"the same round, again"])
    models._written[digest] = now - 3600
    report = collect(state, models, now, grace=60, delete=True)
    assert (report.blobs, report.recent) == (0, 1)
    assert list(models.digests()) == [digest]


def test_a_blob_that_a_session_begins_with_after_all_stays(
    state: StateStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(collecting, "BATCH", 1)
    models = MemoryModels()
    first, other = (models.put([blob])[0] for blob in (b"model of round 0 of mnist", b"j"))
    assert first > other  # it is the second that is looked at

    def begin(what: str, done: int, total: int) -> None:
        if (what, done) == ("removing blobs", 1):
            state.add_session(session_info(genesis()), genesis())

    report = collect(state, models, later(), delete=True, told=begin)
    assert (report.digests, report.recent) == ([other], 1)
    assert verify_trail(state, models, MNIST).ok


def test_no_session_can_begin_with_a_blob_that_is_just_going(state: StateStore):
    refused = list[str]()

    class Busy(MemoryModels):
        def delete(self, digest: Digest) -> None:
            if not refused:
                with pytest.raises(Conflict, match="pruned") as error:
                    state.add_session(session_info(genesis()), genesis())
                refused.append(str(error.value))
            super().delete(digest)

    models = Busy()
    for blob in (b"model of round 0 of mnist", b"j"):
        models.put([blob])
    assert collect(state, models, later(), delete=True).blobs == 2
    assert len(refused) == 1
    assert state.sessions() == [] == list(state.pruned_marks(""))


def test_nothing_is_collected_beside_a_record_that_cannot_be_read(state: StateStore, models: ModelStore):
    build_trail(state, models, rounds=1)
    models.put([b"loose"])
    state.import_session(state.session(MNIST), [(2, digest_of(b"stored"), b"damaged")], TERM)
    with pytest.raises(Damaged, match="fedn trail verify mnist"):
        collect(state, models, later(), delete=True)
    assert digest_of(b"loose") in set(models.digests())


# --- what people ask to have removed ----------------------------------------------------------------


def test_a_removed_session_leaves_what_others_need(state: StateStore, models: ModelStore):
    trail = build_trail(state, models, rounds=3)
    build_trail(state, models, "other", rounds=2)
    state.add_model(ModelInfo(trail[0].record.model, 1, "the seed", "seed", 1.0))
    note = note_of("session_removed", MNIST)
    with pytest.raises(Conflict):
        drop_session(state, models, MNIST, later(), note, later())
    state.set_session_state(MNIST, "finished", "", state.newest_term())
    state.mark_pruned([named_nowhere := digest_of(blob_of("mnist", 1)), digest_of(blob_of("other", 1))], 5.0)
    report = drop_session(state, models, MNIST, later(), note, later())
    assert state.pruned(named_nowhere) is None
    assert state.pruned(digest_of(blob_of("other", 1))) == 5.0
    assert (report.records, report.blobs, report.kept) == (4, 3, 1)
    assert [info.session for info in state.sessions()] == [OTHER]
    assert set(models.digests()) == {
        trail[0].record.model, *(stored.record.model for stored in state.records(OTHER))
    }  # fmt: skip
    assert verify_trail(state, models, OTHER).ok
    (entry,) = state.identity.audit()
    assert (entry.entry.event, entry.entry.details["records"]) == ("session_removed", 4)
    with pytest.raises(NotFound):
        drop_session(state, models, MNIST, later(), note, later())


def test_a_damaged_session_can_be_removed_and_its_neighbours_blobs_are_safe(
    state: StateStore, models: ModelStore
):
    build_trail(state, models, rounds=1)
    build_trail(state, models, "other", rounds=1)
    for session in (MNIST, OTHER):
        state.set_session_state(session, "failed", "", state.newest_term())
        state.import_session(state.session(session), [(2, digest_of(b"stored"), b"damaged")], TERM)
    before = set(models.digests())
    with pytest.raises(Damaged):
        drop_session(state, models, MNIST, later(), note_of(), later())
    assert set(models.digests()) == before
    assert drop_session(state, models, OTHER, later(), note_of(), later()).blobs == 2
    assert collect(state, models, later()).blobs == 2


def test_a_forgotten_client_leaves_chains_that_verify(state: StateStore, models: ModelStore):
    build_trail(state, models, rounds=2)
    head = verify_trail(state, models, MNIST).head
    row = MetricRow(MNIST, 1, "train", ClientId("client-0"), 10, {"loss": 0.5})
    other = MetricRow(MNIST, 1, "train", ClientId("client-1"), 10, {"loss": 0.25})
    state.add_metrics([row, other], TERM)
    state.add_events([happened(1, client="client-0"), happened(2, lost=["client-0", "client-1"])])
    own, shared = join_token(name="ward 7"), join_token("b" * 16, uses=2, name="")
    for token in (own, shared):
        state.identity.add_token(token)
    member = state.identity.enroll(joining(own, "client-0"), 100.0)
    state.identity.enroll(joining(shared, "client-1"), 100.0)
    assert forget_client(state, member.member, note_of("forgotten", "client-0")) == Forgotten(
        ClientId("client-0"), 1, 2, named=True
    )
    assert [event.fields for event in state.events()] == [{"lost": ["client-1"]}]
    assert [row.client for row in state.metrics(MNIST)] == ["client-1"]
    assert state.identity.member(member.role, "client-0").name == ""
    assert (state.identity.token(own.token).name, dict(state.identity.token(own.token).labels)) == ("", {})
    assert state.identity.token(shared.token).labels == shared.labels
    forget_client(state, ClientId("client-1"), note_of("forgotten", "client-1"))
    assert state.identity.token(shared.token).labels == shared.labels
    report = verify_trail(state, models, MNIST)
    assert (report.ok, report.head) == (True, head)
    contributors = {each.client for stored in state.records(MNIST) for each in stored.record.contributors}
    assert contributors == {"client-0", "client-1"}  # by id, in the chain
    audit = verify_audit(state.identity)
    assert (audit.ok, audit.entries) == (True, 2)
    with pytest.raises(NotFound):
        forget_client(state, ClientId("nobody"), note_of())


# --- can we work with it ----------------------------------------------------------------------------


def test_a_check_tries_everything_and_leaves_nothing(state: StateStore, models: ModelStore):
    checks = check_state(lambda: state) + check_models(lambda: models)
    assert [(each.store, each.what) for each in checks if each.ok] == [
        ("state", "open"), ("state", "read sessions"), ("state", "write"),
        ("models", "open"), ("models", "list blobs"), ("models", "write"), ("models", "read"),
        ("models", "delete"),
    ]  # fmt: skip
    assert all(each.ok for each in checks)
    assert list(models.digests()) == []


def test_a_check_says_where_it_failed(tmp_path: Path, models: ModelStore):
    SqliteState(tmp_path / "other.db").close()
    assert [
        (each.what, each.problem.split("other.db ")[-1])
        for each in check_state(lambda: SqliteState(tmp_path / "other.db", read_only=True))
    ] == [("open", ""), ("read sessions", ""), ("write", "is open for reading only")]

    def nowhere() -> ModelStore:
        raise StoreUnavailable("no answer from the object store")

    (check,) = check_models(nowhere)
    assert (check.what, check.problem, check.ok) == ("open", "no answer from the object store", False)


def test_stats_count_what_was_pruned():
    state, models = MemoryState(), MemoryModels()
    state.mark_pruned([Digest(digest_of(b"%d" % k)) for k in range(1500)], 5.0)
    assert stats(state, models).pruned == 1500
