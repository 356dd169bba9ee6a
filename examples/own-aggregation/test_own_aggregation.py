"""The contracts that every aggregator and server optimizer keeps, and what ours does beyond them."""

import numpy as np
import pytest
from own_aggregation import Capped, Steady

from fedn.testing.contracts.aggregator import AggregatorContract, layout_for, reported
from fedn.testing.contracts.server_optimizer import ServerOptimizerContract


class TestCapped(AggregatorContract):
    @pytest.fixture
    def aggregator(self):
        return Capped()

    def test_a_client_with_many_examples_counts_as_the_cap(self, aggregator):
        updates = [(np.array([1.0]), 500), (np.array([4.0]), 1_000_000)]
        assert reported(aggregator, layout_for("F32", 1), updates).tolist() == [3.0]


class TestSteady(ServerOptimizerContract):
    @pytest.fixture
    def optimizer(self):
        return Steady(0.5, 0.9)

    def test_the_first_step_is_not_held_back(self):
        after = Steady(1.0, 0.9).step(np.zeros(1), np.ones(1), {"m": np.zeros(1)}, 1)
        assert after == pytest.approx(1.0)
