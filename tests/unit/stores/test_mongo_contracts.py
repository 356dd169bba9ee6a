"""The contracts of the ports on a real MongoDB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mongod import MongoSet, replica_set

from fedn.ports import IdentityStore, StateStore
from fedn.stores import open_state
from fedn.testing.contracts.identity_store import IdentityStoreContract
from fedn.testing.contracts.leadership import LeadershipContract
from fedn.testing.contracts.state_store import StateStoreContract


@pytest.fixture(scope="module")
def mongo() -> Iterator[MongoSet]:
    with replica_set() as made:
        yield made


@pytest.fixture
def opened(mongo: MongoSet) -> Iterator[StateStore]:
    state = open_state(mongo.emptied("contracts"))
    yield state
    state.close()


class TestMongoState(StateStoreContract):
    @pytest.fixture
    def store(self, opened: StateStore) -> StateStore:
        return opened


class TestMongoLeadership(LeadershipContract):
    @pytest.fixture
    def store(self, opened: StateStore) -> StateStore:
        return opened


class TestMongoIdentity(IdentityStoreContract):
    @pytest.fixture
    def store(self, opened: StateStore) -> IdentityStore:
        return opened.identity
