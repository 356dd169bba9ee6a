from __future__ import annotations

import pytest

from fedn.stores.memory import MemoryModels, MemoryState
from fedn.testing.contracts.model_store import ModelStoreContract
from fedn.testing.contracts.state_store import StateStoreContract


class TestMemoryState(StateStoreContract):
    @pytest.fixture
    def store(self) -> MemoryState:
        return MemoryState()


class TestMemoryModels(ModelStoreContract):
    @pytest.fixture
    def store(self) -> MemoryModels:
        return MemoryModels()
