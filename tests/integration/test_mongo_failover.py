"""A replica set of three loses its primary, by SIGKILL, while rounds are committed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from mongod import MongoSet, replica_set

from fedn.domain.errors import StoreUnavailable
from fedn.domain.ids import SessionId
from fedn.domain.round import StoredRecord, head_of
from fedn.identity.audit import verify_audit
from fedn.stores import open_state
from fedn.stores.memory import MemoryModels
from fedn.stores.mongo import MongoState
from fedn.stores.trail import verify_trail
from fedn.testing.contracts.samples import blob_of, genesis, note_of, session_info, successor

MNIST = SessionId("mnist")
FURTHER = 20


@pytest.fixture(scope="module")
def trio() -> Iterator[MongoSet]:
    with replica_set(3) as made:
        yield made


class Stream(threading.Thread):
    """Commits one round after the other, each until it is acknowledged, with an audit entry after it."""

    def __init__(self, state: MongoState) -> None:
        super().__init__()
        self.acknowledged = [genesis()]
        self.refused = 0
        self.error: BaseException | None = None
        self._state = state
        self._more = threading.Condition()
        self._done = threading.Event()

    def run(self) -> None:
        try:
            self._state.add_session(session_info(self.acknowledged[0]), self.acknowledged[0])
            term = self._state.take_term()
            while not self._done.is_set():
                following = successor(self.acknowledged[-1])
                self._commit(following, term)
                with self._more:
                    self.acknowledged.append(following)
                    self._more.notify_all()
        except BaseException as error:
            self.error = error
            with self._more:
                self._more.notify_all()

    def _commit(self, following: StoredRecord, term: int) -> None:
        while True:
            try:
                assert self._state.commit_round(following, term) == head_of(following)
                self._state.identity.append_audit(note_of("committed", str(following.record.round)))
                return
            except StoreUnavailable:
                self.refused += 1

    def further(self, rounds: int) -> None:
        """Wait until so many more are acknowledged."""
        with self._more:
            wanted = len(self.acknowledged) + rounds
            assert self._more.wait_for(lambda: self.error or len(self.acknowledged) >= wanted, 60.0)
        assert self.error is None

    def end(self) -> None:
        self._done.set()
        self.join()


def test_nothing_that_was_acknowledged_is_lost_with_the_primary(trio: MongoSet):
    url = f"{trio.url('net')}?replicaSet=rs0"
    with closing(open_state(url)) as state:
        assert isinstance(state, MongoState)
        stream = Stream(state)
        stream.start()
        try:
            for _ in range(2):
                stream.further(FURTHER)
                dead = trio.primary()
                dead.kill()
                stream.further(FURTHER)
                assert trio.primary() is not dead
                dead.start()
        finally:
            stream.end()
    with closing(open_state(url)) as state:
        rounds = len(stream.acknowledged)
        assert state.records(MNIST, limit=10_000) == stream.acknowledged
        assert state.session(MNIST).head == head_of(stream.acknowledged[-1])
        models = MemoryModels()
        for number in range(rounds):
            models.put([blob_of(MNIST, number)])
        assert verify_trail(state, models, MNIST).ok
        audit = verify_audit(state.identity)
        assert (audit.ok, audit.problem) == (True, "")
        told = [entry.entry.subject for entry in state.identity.audit(limit=10_000)]
        assert sorted(set(map(int, told))) == list(range(1, rounds))
