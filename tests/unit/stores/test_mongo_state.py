"""What the state store in MongoDB promises beyond the contract, on a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
from mongod import MongoSet, replica_set

from fedn.domain.errors import Conflict, Damaged, InvalidInput, NotFound, StaleTerm, StoreUnavailable
from fedn.domain.identity import Token
from fedn.domain.ids import ClientId, CombinerName, SessionId
from fedn.domain.round import Head, StoredRecord, head_of
from fedn.domain.update import Absence
from fedn.identity.audit import verify_audit
from fedn.ports import CombinerInfo, MetricRow
from fedn.stores import open_state
from fedn.stores.memory import MemoryModels
from fedn.stores.mongo import MongoState
from fedn.stores.trail import verify_trail
from fedn.testing.contracts.audit_log import AGAIN, ONCE
from fedn.testing.contracts.samples import (
    TERM,
    build_trail,
    genesis,
    join_token,
    joining,
    note_of,
    session_info,
    successor,
)  # fmt: skip
from fedn.testing.contracts.state_store import committing, model, package, row, together

MNIST = SessionId("mnist")
NAME = "kept"


@pytest.fixture(scope="module")
def mongo() -> Iterator[MongoSet]:
    with replica_set(flags=("--setParameter", "enableTestCommands=1")) as made:
        yield made


@pytest.fixture
def url(mongo: MongoSet) -> str:
    return mongo.emptied(NAME)


@pytest.fixture
def store(url: str) -> Iterator[MongoState]:
    with closing(MongoState(url)) as state:
        yield state


@pytest.fixture
def rival(url: str) -> Iterator[MongoState]:
    """Another process's store, as far as the server can tell."""
    with closing(MongoState(url)) as state:
        yield state


@pytest.fixture
def first(store: MongoState) -> StoredRecord:
    record = genesis()
    store.add_session(session_info(record), record)
    return record


@contextmanager
def failing(mongo: MongoSet, commands: list[str], mode: dict[str, int], **how: Any) -> Iterator[None]:
    """The server fails these commands, as often as ``mode`` says."""
    with mongo.client() as client:
        client.admin.command(
            "configureFailPoint", "failCommand", mode=mode,
            data={"failCommands": commands, "appName": "fedn", **how},
        )  # fmt: skip
        try:
            yield
        finally:
            client.admin.command("configureFailPoint", "failCommand", mode="off")


def test_everything_is_there_after_reopening(url: str):
    models = MemoryModels()
    with closing(MongoState(url)) as state:
        trail = build_trail(state, models)
        state.add_metrics([row(MNIST, 1)], TERM)
        before = state.session(MNIST), state.metrics(MNIST), state.take_term()
    with closing(MongoState(url)) as state:
        assert (state.session(MNIST), state.metrics(MNIST), state.take_term() - 1) == before
        assert state.records(MNIST) == trail
        assert verify_trail(state, models, MNIST).ok


# --- two at once


def test_two_reducers_never_commit_the_same_round(store: MongoState, rival: MongoState, first: StoredRecord):
    term, last = store.take_term(), first
    for number in range(8):
        rivals = [successor(last, committed_at=float(k)) for k in range(6)]
        stores = [store, rival] * 3
        outcomes = together([committing(*pair, term) for pair in zip(stores, rivals, strict=True)])
        winners = [rivals[k] for k, outcome in enumerate(outcomes) if isinstance(outcome, Head)]
        assert len(winners) == 1
        assert outcomes.count("trail_conflict") == 5
        last = winners[0]
        assert store.session(MNIST).head == rival.session(MNIST).head == head_of(last)
        assert last.record.round == number + 1
    assert len(store.records(MNIST)) == 9


def test_after_a_new_term_not_one_commit_of_the_old_one_comes(
    store: MongoState, rival: MongoState, first: StoredRecord
):
    last = first
    for _ in range(6):
        stream = Stream(store, last)
        stream.begun.wait()
        rival.take_term()
        head = rival.session(MNIST).head
        stream.join()
        last = stream.last
        assert rival.session(MNIST).head == head == head_of(last)


class Stream(threading.Thread):
    """Commits one round after the other until its term is over."""

    def __init__(self, store: MongoState, last: StoredRecord) -> None:
        super().__init__()
        self.last, self.begun = last, threading.Event()
        self._store, self._term = store, store.take_term()
        self.start()

    def run(self) -> None:
        with suppress(StaleTerm):
            while True:
                following = successor(self.last)
                self._store.commit_round(following, self._term)
                self.last = following
                self.begun.set()


def test_stores_never_share_a_token_nor_fork_the_chain(store: MongoState, rival: MongoState):
    for number in range(5):
        store.identity.add_token(join_token(f"{number:016x}"))

    def join(number: int, state: MongoState, name: str) -> str:
        token = state.identity.token(f"{number:016x}")
        try:
            state.identity.enroll(joining(token, f"{name}-{number}"), 100.0, note_of("joined", name))
        except Exception as error:
            return type(error).__name__
        return "joined"

    for number in range(5):
        outcomes = together([
            lambda state=state, name=name, number=number: join(number, state, name)
            for state, name in ((store, "a"), (rival, "b"), (store, "c"), (rival, "d"))
        ])  # fmt: skip
        assert sorted(outcomes) == ["Unauthenticated"] * 3 + ["joined"]
    assert len(store.identity.members()) == 5
    report = verify_audit(rival.identity)
    assert (report.problem, report.entries) == ("", 5)


def test_two_who_join_at_once_are_not_mistaken_for_each_other(store: MongoState, rival: MongoState):
    tokens = [join_token(letter * 16, uses=0) for letter in "ab"]
    for token in tokens:
        store.identity.add_token(token)

    def joined(state: MongoState, token: Token, member: str, name: str) -> str:
        try:
            state.identity.enroll(joining(token, member, name=name), 100.0)
        except Conflict as error:
            return error.code
        return "joined"

    for number in range(10):
        ann, bob = f"ann-{number}", f"bob-{number}"
        outcomes = together([
            lambda ann=ann, bob=bob: joined(store, tokens[0], ann, bob),
            lambda ann=ann, bob=bob: joined(rival, tokens[1], bob, "somebody"),
        ])  # fmt: skip
        assert sorted(outcomes) == ["conflict", "joined"]


def test_what_is_added_by_two_at_once_is_there_once(store: MongoState, rival: MongoState):
    info, combiner = package(b"a", 1.0), CombinerInfo(CombinerName("north"), "localhost:1", "i1", 1.0)
    for one in (store, rival) * 2:
        one.take_term()
    together([
        call
        for one in (store, rival, store, rival)
        for call in (
            lambda one=one: one.add_package(info),
            lambda one=one: one.add_model(model(b"m", 1.0)),
            lambda one=one: one.put_combiner(combiner),
        )
    ])  # fmt: skip
    assert (store.packages(), store.models(), store.combiners()) == ([info], [model(b"m", 1.0)], [combiner])


# --- faults


@pytest.mark.parametrize(
    ("commands", "how"),
    [
        # The commit went through, and its answer was lost.
        (["commitTransaction"], {"writeConcernError": {"code": 64, "errmsg": "waited in vain"}}),
        (["commitTransaction"], {"closeConnection": True}),
        (["update"], {"closeConnection": True}),
        (["insert"], {"errorCode": 112}),
        (["findAndModify"], {"errorCode": 10107}),
    ],
)
def test_a_commit_that_meets_a_fault_happens_once(
    mongo: MongoSet, store: MongoState, first: StoredRecord, commands: list[str], how: dict[str, Any]
):
    term, second = store.take_term(), successor(first)
    with failing(mongo, commands, {"times": 2}, **how):
        assert store.commit_round(second, term) == head_of(second)
    assert store.records(MNIST) == [first, second]


@pytest.mark.parametrize("change", [*ONCE, *AGAIN])
def test_a_change_whose_entry_fails_halfway_does_not_happen(mongo: MongoSet, store: MongoState, change: str):
    members = store.identity

    def held() -> object:
        return members.tokens(), members.members(), members.audit()

    members.add_token(join_token())
    members.enroll(joining(join_token()), 100.0)
    before = held()
    # Each change writes to its own collection first; the insert into the audit log comes after it.
    skipped = 1 if change == "add_token" else 0
    with (
        failing(mongo, ["insert"], {"skip": skipped}, errorCode=8),
        pytest.raises(StoreUnavailable, match="did not answer"),
    ):
        (ONCE | AGAIN)[change](members, note_of(change))
    assert held() == before
    (ONCE | AGAIN)[change](members, note_of(change))
    assert [stored.entry.event for stored in members.audit()] == [change]


def test_of_writes_that_fail_together_the_reason_is_said(
    mongo: MongoSet, store: MongoState, first: StoredRecord
):
    with mongo.client() as client:
        client[NAME].command("collMod", "metrics", validator={"round": 1})
        try:
            with pytest.raises(StoreUnavailable, match="Document failed validation"):
                store.add_metrics([row(MNIST, 1), row(MNIST, 2)], TERM)
        finally:
            client[NAME].command("collMod", "metrics", validator={})
    assert store.metrics(MNIST) == []


# --- values


def test_a_record_longer_than_a_document_is_kept_byte_for_byte(store: MongoState, first: StoredRecord):
    absent = tuple(Absence(ClientId(f"client-{k}"), "x" * 200) for k in range(80_000))
    second = successor(first, lost=absent)
    assert len(second.raw) > 17 * 2**20
    store.commit_round(second, term := store.take_term())
    third = successor(second)
    store.commit_round(third, term)
    assert store.commit_round(second, term) == head_of(third)
    assert store.raw_records(MNIST, after=0) == [(1, second.digest, second.raw), (2, third.digest, third.raw)]
    store.set_session_state(MNIST, "finished", "", term)
    store.remove_session(MNIST)
    store.add_session(session_info(first), first)
    store.commit_round(successor(first), term)
    assert store.record(MNIST, 1) == successor(first)


def test_metrics_of_another_process_are_not_left_of_a_session_that_goes(
    mongo: MongoSet, store: MongoState, rival: MongoState, first: StoredRecord
):
    store.set_session_state(MNIST, "finished", "", TERM)
    some = threading.Event()

    def write() -> None:
        try:
            for number in range(10_000):
                rival.add_metrics([row(MNIST, number)], TERM)
                some.set()
        except NotFound:
            return
        finally:
            some.set()
        raise AssertionError("the session is there still")

    def remove() -> None:
        assert some.wait(60)
        store.remove_session(MNIST)

    together([write, remove])
    with mongo.client() as client:
        assert client[NAME]["metrics"].count_documents({}) == 0


def test_names_of_metrics_mean_nothing_to_the_database(store: MongoState, first: StoredRecord):
    metrics = {"a.b": 1.0, "$set": 2.0, "": 3.0, "\x00": 4.0, "é": 5.0, "_id": 6.0}
    store.add_metrics([MetricRow(MNIST, 1, "train", ClientId("a.$b\x00"), 10, metrics)], TERM)
    assert [dict(one.metrics) for one in store.metrics(MNIST)] == [metrics]
    assert store.forget_metrics(ClientId("a.$b\x00")) == 1


def test_what_no_document_holds_is_refused(store: MongoState, first: StoredRecord):
    for metric in (MetricRow(MNIST, 2**64, "train", ClientId("a"), 1, {}),
                   MetricRow(MNIST, 1, "train", ClientId("\ud800"), 1, {})):  # fmt: skip
        with pytest.raises(InvalidInput, match="can't be kept"):
            store.add_metrics([metric], TERM)
    assert store.metrics(MNIST) == []


@pytest.mark.parametrize(
    ("change", "question", "words"),
    [
        ({"raw": b"changed"}, "record", "does not match its digest"),
        ({"raw": "a text"}, "record", "does not match its digest"),
        ({"plan": "{"}, "session", "the stored session mnist can't be read"),
        ({"head_round": None}, "session", "can't be read"),
    ],
)
def test_changed_documents_are_damaged_when_they_are_read(
    mongo: MongoSet, store: MongoState, first: StoredRecord, change: dict[str, Any], question: str, words: str
):
    with mongo.client() as client:
        client[NAME][f"{question}s"].update_one({}, {"$set": change})
    with pytest.raises(Damaged, match=words):
        store.record(MNIST, 0) if question == "record" else store.session(MNIST)


# --- reading only, closed, gone


def test_tools_read_beside_the_writer_and_write_nothing(mongo: MongoSet, store: MongoState, url: str):
    with closing(open_state(url, read_only=True)) as tool:
        build_trail(store, MemoryModels())
        assert tool.records(MNIST) == store.records(MNIST)
        for write in (
            tool.take_term,
            lambda: tool.leadership.take("a", 1.0),
            lambda: tool.identity.append_audit(note_of()),
            lambda: tool.commit_round(successor(genesis()), 1),
        ):
            with pytest.raises(StoreUnavailable, match="open for reading only"):
                write()
    empty = mongo.url()
    with pytest.raises(NotFound, match="holds no state store"):
        open_state(empty, read_only=True)
    with mongo.client() as client:
        assert empty.rpartition("/")[2] not in client.list_database_names()


def test_a_closed_store_says_so(store: MongoState):
    store.close()
    for call in (store.sessions, store.take_term, store.identity.tokens):
        with pytest.raises(StoreUnavailable, match="is closed"):
            call()


def test_a_server_that_comes_back_is_found_again(mongo: MongoSet, url: str, first: StoredRecord):
    with closing(MongoState(f"{url}?serverSelectionTimeoutMS=500")) as store:
        term = store.take_term()
        mongo.servers[0].kill()
        with pytest.raises(StoreUnavailable, match=r"did not answer: 127\.0\.0\.1:\d+"):
            store.session(MNIST)
        mongo.servers[0].start()
        mongo.primary()
        following = successor(first)
        assert patient(lambda: store.commit_round(following, term)) == head_of(following)
        assert patient(lambda: store.records(MNIST)) == [first, following]


def patient(call: Callable[[], Any]) -> Any:
    """As the reducer's: again while the store says that it is away."""
    while True:
        with suppress(StoreUnavailable):
            return call()
