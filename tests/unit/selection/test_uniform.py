"""A draw that the seed alone decides."""

from __future__ import annotations

from collections import Counter

import pytest

from fedn.domain.ids import ClientId
from fedn.selection.uniform import Uniform

CLIENTS = [ClientId(f"client-{number}") for number in range(20)]


@pytest.mark.parametrize("limit", [0, 20, 21])
def test_all_take_part_where_the_limit_allows(limit: int) -> None:
    assert sorted(Uniform().select(CLIENTS, limit, 7)) == sorted(CLIENTS)


def test_the_seed_decides_and_the_order_does_not() -> None:
    chosen = Uniform().select(CLIENTS, 5, 7)
    assert len(set(chosen)) == 5
    assert chosen == Uniform().select(list(reversed(CLIENTS)), 5, 7)
    assert chosen != Uniform().select(CLIENTS, 5, 8)


def test_one_more_client_takes_at_most_one_place() -> None:
    before = set(Uniform().select(CLIENTS[:-1], 5, 7))
    assert len(before & set(Uniform().select(CLIENTS, 5, 7))) >= 4


def test_everyone_has_the_same_chance() -> None:
    drawn = Counter(client for seed in range(2000) for client in Uniform().select(CLIENTS, 5, seed))
    # 500 expected for each; the standard deviation is about 19.
    assert set(drawn) == set(CLIENTS)
    assert all(400 < count < 600 for count in drawn.values())


def test_nobody_can_be_drawn_from_nobody() -> None:
    assert list(Uniform().select([], 3, 1)) == []
