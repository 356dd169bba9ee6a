from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from fedn.domain.ids import Digest
from fedn.stores.identity_memory import MemoryIdentity
from fedn.stores.memory import MemoryModels, MemoryState
from fedn.testing.contracts.identity_store import IdentityStoreContract
from fedn.testing.contracts.model_store import ModelStoreContract
from fedn.testing.contracts.state_store import StateStoreContract


class TestMemoryState(StateStoreContract):
    @pytest.fixture
    def store(self) -> MemoryState:
        return MemoryState()


class TestMemoryIdentity(IdentityStoreContract):
    @pytest.fixture
    def store(self) -> Iterator[MemoryIdentity]:
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)  # threads meet everywhere, so that a missing lock shows
        yield MemoryState().identity
        sys.setswitchinterval(before)


class TestMemoryModels(ModelStoreContract):
    @pytest.fixture
    def store(self) -> MemoryModels:
        return MemoryModels()

    def spoil(self, store: MemoryModels, digest: Digest, blob: bytes) -> None:
        store._blobs[digest] = blob
