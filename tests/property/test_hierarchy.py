"""The hierarchy equals flat averaging, whatever the topology, the order and the weights.

The oracle is exact arithmetic on fractions, from the definition of the mean; nothing of it comes from
the code under test.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedn.aggregation.mean import Mean, PartMerger
from fedn.domain.model import Layout, parse_layout

ELEMENTS = 5
RELATIVE = 1e-12
"""Against the sum of magnitudes, since a mean of opposite numbers may cancel to nothing."""


@dataclass(frozen=True)
class Client:
    """An update: its numbers, its examples, and the (combiner, part) that it reaches."""

    values: tuple[float, ...]
    examples: int
    part: tuple[str, int]


def make_layout(dtype: str) -> Layout:
    width = {"F32": 4, "F64": 8}[dtype]
    cut, end = 2 * width, ELEMENTS * width
    entries = {
        "a": {"dtype": dtype, "shape": [2], "data_offsets": [0, cut]},
        "steps": {"dtype": "I32", "shape": [1], "data_offsets": [cut, cut + 4]},
        "b": {"dtype": dtype, "shape": [ELEMENTS - 2], "data_offsets": [cut + 4, end + 4]},
    }
    header = json.dumps(entries).encode()
    return parse_layout(len(header).to_bytes(8, "little") + header, 8 + len(header) + end + 4)


def data_of(client: Client, dtype: str) -> memoryview:
    values = np.array(client.values, {"F32": "<f4", "F64": "<f8"}[dtype])
    return memoryview(values[:2].tobytes() + b"\xff\xff\xff\x7f" + values[2:].tobytes())


values = st.floats(-1e6, 1e6, width=32)
weights = st.one_of(st.integers(1, 1000), st.integers(1, 2**40))
clients = st.builds(
    Client,
    st.tuples(*[values] * ELEMENTS),
    weights,
    st.tuples(st.sampled_from(["east", "north", "south", "west"]), st.integers(1, 3)),
)
federations = st.lists(clients, min_size=1, max_size=30)
dtypes = st.sampled_from(["F32", "F64"])


def run_hierarchy(
    federation: list[Client], dtype: str, averaging: str, order: list[tuple[str, int]]
) -> np.ndarray:
    """Fold every client at its part, then merge the parts in ``order``."""
    layout, mean = make_layout(dtype), Mean()
    sums = {part: mean.zero(layout) for part in order}
    totals = dict.fromkeys(order, 0)
    for client in federation:
        mean.accumulate(sums[client.part], data_of(client, dtype), layout, client.examples)
        totals[client.part] += client.examples
    merger = PartMerger(layout, averaging)
    for combiner, part in order:
        merger.merge(combiner, sums[combiner, part], totals[combiner, part])
    return merger.report()


def exact_mean(pairs: list[tuple[list[Fraction], Fraction]]) -> list[Fraction]:
    total = sum(weight for _, weight in pairs)
    return [sum(x[i] * weight for x, weight in pairs) / total for i in range(ELEMENTS)]


def flat_oracle(federation: list[Client]) -> list[Fraction]:
    return exact_mean([([Fraction(v) for v in c.values], Fraction(c.examples)) for c in federation])


def simple_oracle(federation: list[Client]) -> list[Fraction]:
    combiners = sorted({client.part[0] for client in federation})
    means = [flat_oracle([c for c in federation if c.part[0] == name]) for name in combiners]
    return exact_mean([(mean, Fraction(1)) for mean in means])


def assert_close(got: np.ndarray, expected: list[Fraction], federation: list[Client]) -> None:
    for i, want in enumerate(expected):
        scale = max(abs(client.values[i]) for client in federation)
        assert abs(Fraction(float(got[i])) - want) <= Fraction(RELATIVE) * Fraction(scale)


@given(federations, dtypes, st.data())
def test_weighted_hierarchy_is_flat_averaging(
    federation: list[Client], dtype: str, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(sorted({client.part for client in federation})))
    arrival = data.draw(st.permutations(federation))
    got = run_hierarchy(arrival, dtype, "weighted", order)
    assert_close(got, flat_oracle(federation), federation)


@given(federations, dtypes, st.data())
def test_simple_averaging_counts_every_combiner_once(
    federation: list[Client], dtype: str, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(sorted({client.part for client in federation})))
    got = run_hierarchy(federation, dtype, "simple", order)
    assert_close(got, simple_oracle(federation), federation)


@given(federations, st.sampled_from(["weighted", "simple"]), st.data())
def test_parts_may_come_in_any_order(federation: list[Client], averaging: str, data: st.DataObject) -> None:
    parts = sorted({client.part for client in federation})
    shuffled = data.draw(st.permutations(parts))
    one, other = (run_hierarchy(federation, "F32", averaging, order) for order in (parts, shuffled))
    scale = np.max([np.abs(client.values) for client in federation], axis=0)
    assert (np.abs(one - other) <= RELATIVE * scale).all()


@given(federations, st.sampled_from(["weighted", "simple"]))
def test_equal_updates_have_themselves_as_mean(federation: list[Client], averaging: str) -> None:
    same = [Client(federation[0].values, c.examples, c.part) for c in federation]
    got = run_hierarchy(same, "F64", averaging, sorted({c.part for c in same}))
    np.testing.assert_allclose(got, same[0].values, rtol=1e-12)


@pytest.mark.parametrize(("averaging", "expected"), [("simple", 7.0), ("weighted", 4.0)])
def test_ones_and_a_thirteen(averaging: str, expected: float) -> None:
    """Examples (1, 1, 1) behind one combiner and (13) behind another: 7 by combiner, 4 by example."""
    ones = [Client((1.0,) * ELEMENTS, 1, ("east", 1)) for _ in range(3)]
    thirteen = Client((13.0,) * ELEMENTS, 1, ("west", 1))
    got = run_hierarchy([*ones, thirteen], "F32", averaging, [("west", 1), ("east", 1)])
    assert got.tolist() == [expected] * ELEMENTS


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_clients_lose_nothing_to_rounding(seed: int) -> None:
    layout, mean = make_layout("F32"), Mean()
    total = mean.zero(layout)
    examples = np.random.default_rng(seed).integers(1, 2**40, 1000).tolist()
    federation = [Client((n % 97 + 0.5,) * ELEMENTS, n, ("east", 1)) for n in examples]
    for client in federation:
        mean.accumulate(total, data_of(client, "F32"), layout, client.examples)
    assert_close(mean.report(total, sum(examples)), flat_oracle(federation), federation)
