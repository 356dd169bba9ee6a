"""What retention takes and what it never does; interrupted anywhere, and beside a reducer that goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fedn.domain.errors import Damaged, InvalidInput, NotFound, StoreUnavailable
from fedn.domain.ids import Digest, SessionId, digest_of
from fedn.domain.round import StoredRecord, head_of, store_record
from fedn.ports import ModelInfo, ModelStore, StateStore
from fedn.stores import retention
from fedn.stores.files import FileModels
from fedn.stores.memory import MemoryModels, MemoryState
from fedn.stores.retention import RUNNING_KEEPS, Pruned, Rule, prune, told_if_pruned
from fedn.stores.sqlite import SqliteState
from fedn.stores.trail import verify_trail
from fedn.testing.contracts.samples import TERM, blob_of, build_trail, genesis, session_info, successor
from fedn.testing.contracts.state_store import together

MNIST, OTHER = SessionId("mnist"), SessionId("other")
DAY = "2096-10-02"
NOON = 4_000_000_000.0


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateStore]:
    store = SqliteState(tmp_path / "state.db")
    yield store
    store.close()


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return FileModels(tmp_path / "models")


def ended(
    state: StateStore, models: ModelStore, session: str = "mnist", rounds: int = 12
) -> list[StoredRecord]:
    trail = build_trail(state, models, session, rounds)
    state.set_session_state(SessionId(session), "finished", "", state.newest_term())
    return trail


def rounds_left(models: ModelStore, trail: list[StoredRecord]) -> list[int]:
    left = set(models.digests())
    return [stored.record.round for stored in trail if stored.record.model in left]


def test_what_the_rule_names_stays_and_the_trail_verifies(state: StateStore, models: ModelStore):
    trail = ended(state, models)
    report = prune(state, models, Rule(2, 5, lambda info: 3), NOON)
    assert rounds_left(models, trail) == [0, 3, 5, 10, 11, 12]
    assert (report.models, report.recent, report.sessions) == (7, 0, 1)
    assert report.bytes == sum(len(blob_of("mnist", number)) for number in (1, 2, 4, 6, 7, 8, 9))
    verified = verify_trail(state, models, MNIST)
    assert (verified.ok, verified.rounds, verified.models, verified.pruned) == (True, 13, 6, 7)
    assert verified.notes == (
        f"The models of 7 rounds between 1 and 9 were pruned on {DAY} (UTC); the records stay.",)  # fmt: skip
    assert state.records(MNIST) == trail
    assert prune(state, models, Rule(2, 5, lambda info: 3), NOON).models == 0


def test_a_dry_run_says_the_same_and_removes_nothing(state: StateStore, models: ModelStore):
    trail = ended(state, models)
    dry = prune(state, models, Rule(1), NOON, dry_run=True)
    assert rounds_left(models, trail) == list(range(13))
    assert not state.pruned_marks()
    real = prune(state, models, Rule(1), NOON)
    assert real == Pruned(False, 1, 13, 12, 0, dry.bytes, 0, dry.digests)
    assert rounds_left(models, trail) == [12]


def test_a_session_that_goes_on_keeps_what_it_needs(state: StateStore, models: ModelStore):
    trail = build_trail(state, models, rounds=8)
    state.set_session_state(MNIST, "running", "", state.newest_term())
    prune(state, models, Rule(1), NOON)
    assert rounds_left(models, trail) == [0, *range(9 - RUNNING_KEEPS, 9)]


def test_what_another_session_has_or_a_seed_is_stays(state: StateStore, models: ModelStore):
    trail = ended(state, models, rounds=6)
    two = successor(genesis("other"), model=trail[2].record.model, model_size=trail[2].record.model_size)
    first = genesis("other")
    models.put([blob_of("other", 0)])
    state.add_session(session_info(first), first)
    state.commit_round(two, state.newest_term())
    state.add_model(ModelInfo(trail[4].record.model, 1, "a round, given again as a seed", "seed", 1.0))
    prune(state, models, Rule(1), NOON, only=[MNIST])
    assert rounds_left(models, trail) == [2, 4, 6]
    assert rounds_left(models, [first]) == [0]
    assert verify_trail(state, models, OTHER).ok


def test_of_an_optimizer_the_newest_states_stay(state: StateStore, models: ModelStore):
    trail, memories = [genesis()], [b"memory %d" % number for number in range(6)]
    models.put([blob_of("mnist", 0)])
    state.add_session(session_info(trail[0]), trail[0])
    for number in range(1, 6):
        models.put([blob_of("mnist", number)]), models.put([memories[number]])
        trail.append(successor(trail[-1], optimizer_state=digest_of(memories[number])))
        state.commit_round(trail[-1], state.take_term())
    report = prune(state, models, Rule(1), NOON)
    assert report.optimizer_states == 3
    left = set(models.digests())
    assert [number for number in range(1, 6) if digest_of(memories[number]) in left] == [4, 5]
    assert all(state.pruned(digest_of(memory)) is None for memory in memories)


def test_what_was_just_written_is_left_for_another_time(state: StateStore, models: ModelStore):
    trail = ended(state, models, rounds=3)
    report = prune(state, models, Rule(1), time.time())
    assert (report.models, report.recent) == (0, 3)
    assert rounds_left(models, trail) == [0, 1, 2, 3]
    assert not state.pruned_marks()
    assert prune(state, models, Rule(1), time.time() + 1, grace=0).models == 3


def test_nothing_goes_on_a_guess(state: StateStore, models: ModelStore, tmp_path: Path):
    trail = ended(state, models)
    with pytest.raises(NotFound):
        prune(state, models, Rule(1), NOON, only=[OTHER])
    for wrong in ((0, 0), (1, -1)):
        with pytest.raises(InvalidInput):
            Rule(*wrong)
    info = state.session(MNIST)
    state.import_session(info, [(13, digest_of(b"stored"), b"damaged")], TERM)
    with pytest.raises(Damaged, match="nothing is removed"):
        prune(state, models, Rule(1), NOON)
    assert rounds_left(models, trail) == list(range(13))


# --- beside a reducer, and broken off ---------------------------------------------------------------


class Meddled(MemoryModels):
    """A model store in which something happens before the ``at``-th deletion."""

    def __init__(self) -> None:
        super().__init__()
        self.at, self.happens = 10**6, lambda: None

    def delete(self, digest: Digest) -> None:
        self.at -= 1
        if self.at == 0:
            self.happens()
        super().delete(digest)


class Marking(MemoryState):
    """A state store in which something happens before, or after, models are marked."""

    before = after = staticmethod(lambda: None)

    def mark_pruned(self, digests, at):
        self.before()
        super().mark_pruned(digests, at)
        self.after()


def test_what_broke_off_is_known_as_pruned_and_goes_on(models: ModelStore):
    state, models = MemoryState(), Meddled()
    trail = ended(state, models)

    def dies() -> None:
        raise StoreUnavailable("the machine went away")

    models.at, models.happens = 4, dies
    with pytest.raises(StoreUnavailable):
        prune(state, models, Rule(1), NOON)
    assert len(rounds_left(models, trail)) == 10
    assert verify_trail(state, models, MNIST).ok
    assert prune(state, models, Rule(1), NOON).models == 9
    assert rounds_left(models, trail) == [12]


@pytest.mark.parametrize("batch", [1, retention.BATCH])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_session_that_begins_with_an_old_model_meanwhile_has_it(
    moment: str, batch: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retention, "BATCH", batch)
    state, models = Marking(), MemoryModels()
    trail = ended(state, models)
    last = max(trail[:-1], key=lambda stored: stored.record.model)  # of the last batch
    old = last.record
    named = {"base_model": old.model, "model": old.model, "model_size": old.model_size}
    begun = store_record(replace(genesis("other").record, **named))
    outcome: list[str] = []

    def begin() -> None:
        setattr(state, moment, lambda: None)
        try:
            state.add_session(session_info(begun), begun)
            outcome.append("begun")
        except Exception as error:
            outcome.append(str(error))

    setattr(state, moment, begin)
    prune(state, models, Rule(1), NOON)
    if moment == "before" or batch == 1:  # before that very model was marked
        assert outcome == ["begun"]
        assert rounds_left(models, trail) == [old.round, 12]
        assert state.pruned(old.model) is None
        assert verify_trail(state, models, OTHER).ok
    else:
        assert "was pruned" in outcome[0]
        assert rounds_left(models, trail) == [12]
    assert verify_trail(state, models, MNIST).ok


def test_a_round_that_makes_the_same_bytes_meanwhile_keeps_them():
    state, models = Marking(), MemoryModels()
    trail = ended(state, models)
    first = genesis("other")
    models.put([blob_of("other", 0)])
    state.add_session(session_info(first), first)
    same = successor(first, model=trail[5].record.model, model_size=trail[5].record.model_size)
    state.after = lambda: state.commit_round(same, state.newest_term()) and None
    prune(state, models, Rule(1), NOON)
    assert rounds_left(models, trail) == [5, 12]
    assert verify_trail(state, models, OTHER).ok


def test_bytes_that_come_again_meanwhile_are_young():
    state, models = Marking(), MemoryModels()
    trail = ended(state, models)
    now = time.time()
    while now <= max(blob.written_at for blob in models.blobs()):  # clocks count in steps
        now = time.time()
    state.after = lambda: models.put([blob_of("mnist", 5)]) and None
    report = prune(state, models, Rule(1), now, grace=0)
    assert (report.models, report.recent) == (11, 1)
    assert rounds_left(models, trail) == [5, 12]
    assert state.pruned(trail[5].record.model) is None


def test_a_reducer_goes_on_while_its_old_models_go(tmp_path: Path):
    """Two processes' worth of connections on one file: one commits, the other prunes as often as it can."""
    reducer, tool = SqliteState(tmp_path / "state.db"), SqliteState(tmp_path / "state.db")
    models, others = FileModels(tmp_path / "models"), FileModels(tmp_path / "models")
    trail = build_trail(reducer, models, rounds=1)
    reducer.set_session_state(MNIST, "running", "", reducer.newest_term())
    done = threading.Event()

    def commit() -> None:
        try:
            for number in range(2, 80):
                models.put([blob_of("mnist", number)])
                trail.append(successor(trail[-1]))
                reducer.commit_round(trail[-1], reducer.newest_term())
                assert models.size(trail[-2].record.model)  # what the next round was trained from
        finally:
            done.set()

    def tidy() -> int:
        went = 0
        while not done.is_set():
            went += prune(tool, others, Rule(1), time.time(), grace=0).models
        return went

    went = together([commit, tidy])[1]
    went += prune(tool, others, Rule(1), NOON).models
    assert went == 79 - RUNNING_KEEPS
    assert rounds_left(models, trail) == [0, *range(80 - RUNNING_KEEPS, 80)]
    report = verify_trail(reducer, models, MNIST)
    assert (report.ok, report.pruned) == (True, went)
    reducer.close(), tool.close()


# --- told apart -------------------------------------------------------------------------------------


def test_a_pruned_model_is_told_from_a_missing_and_a_damaged_one(state: StateStore, tmp_path: Path):
    models = FileModels(tmp_path / "models")
    trail = ended(state, models, rounds=6)
    prune(state, models, Rule(3), NOON)
    models.delete(trail[4].record.model)
    damaged = trail[5].record.model
    (tmp_path / "models" / damaged[:2] / damaged).write_bytes(b"other bytes")
    report = verify_trail(state, models, MNIST)
    assert report.pruned == 4
    missing, broken = report.problems
    assert missing == f"Model {trail[4].record.model} of round 4 is missing."
    assert "is damaged" in broken
    for stored, words in ((trail[1], f"was pruned on {DAY}"), (trail[4], "there is no model")):
        with pytest.raises(NotFound, match=words), told_if_pruned(state, stored.record.model):
            models.size(stored.record.model)


def test_a_head_is_never_pruned_rightly(state: StateStore, models: ModelStore):
    trail = ended(state, models, rounds=2)
    state.mark_pruned([trail[-1].record.model], NOON)
    assert verify_trail(state, models, MNIST).ok  # marked, and there
    models.delete(trail[-1].record.model)
    assert "head was pruned" in verify_trail(state, models, MNIST).problems[0]


def test_ten_thousand_rounds_are_read_in_bounded_pages(tmp_path: Path):
    """Nobody asks for more than a page: of the head, of a round, of what pruning and verifying walk over."""
    state, models = Paged(tmp_path / "state.db"), Blobless()
    build_long(state, 10_000)
    assert state.session(MNIST).head.round == 10_000
    assert state.record(MNIST, 9_999).record.round == 9_999
    report = prune(state, models, Rule(10, 100), NOON)
    assert (report.models, report.records) == (9_891, 10_001)
    verified = verify_trail(state, models, MNIST)
    assert (verified.ok, verified.rounds, verified.pruned) == (True, 10_001, 9_891)
    assert len(verified.notes) == 1
    assert state.largest <= 64
    state.close()


class Paged(SqliteState):
    """Notes the largest page of records that anybody asked for."""

    largest = 0

    def raw_records(self, session, after=-1, limit=1000):
        self.largest = max(self.largest, limit)
        return super().raw_records(session, after, limit)


class Blobless(MemoryModels):
    """Has every model of a long session until it is deleted, without their bytes being put one by one."""

    def __init__(self) -> None:
        super().__init__()
        for number in range(10_001):
            blob = blob_of("mnist", number)
            self._publish(digest_of(blob), blob)


def build_long(state: StateStore, rounds: int) -> None:
    """A session of so many rounds, with its pages written as `fedn store copy` writes them."""
    last = genesis()
    rows = [(0, last.digest, last.raw)]
    for _ in range(rounds):
        last = successor(last)
        rows.append((last.record.round, last.digest, last.raw))
    info = session_info(genesis())
    state.import_session(info, rows, TERM)
    state.import_session(replace(info, state="finished", head=head_of(last)), [], TERM)
