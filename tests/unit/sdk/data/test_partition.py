"""Every example goes to exactly one client, as the scheme says, the same again for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedn
from fedn.domain.errors import InvalidInput
from fedn.sdk.data import SCHEMES, partition, split_arrays

DIGITS = np.arange(1000) % 10
SHUFFLED = np.random.default_rng(0).permutation(DIGITS)


@st.composite
def asked(draw):
    """Labels and arguments that go together, of every scheme."""
    labels = draw(st.lists(st.integers(-3, 8) | st.just(2**40), min_size=1, max_size=200))
    if draw(st.booleans()):
        labels = [f"label {value}" for value in labels]
    scheme = draw(st.sampled_from(SCHEMES))
    distinct = len({*labels})
    limit = distinct if scheme == "by_key" else len(labels)
    clients = draw(st.integers(1, min(limit, 20)))
    more = {}
    if scheme == "dirichlet":
        more["alpha"] = 10 ** draw(st.floats(-4, 6))
        more["min_examples"] = draw(st.integers(0, len(labels) // clients))
    else:
        more["min_examples"] = 0
    if scheme == "by_label":
        more["labels_per_client"] = draw(st.integers(-(-distinct // clients), distinct))
    if scheme == "by_key":
        more["key"] = labels
    if draw(st.booleans()):
        more["sizes"] = draw(st.lists(st.floats(0.01, 100), min_size=clients, max_size=clients))
    return labels, (clients, scheme), more | {"seed": draw(st.integers(0, 2**64 - 1))}


@given(asked())
def test_it_is_a_partition_and_the_same_again(given_):
    labels, (clients, scheme), more = given_
    parts = partition(labels, clients, scheme, **more)
    assert len(parts) == clients
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part in parts:
        assert part.dtype == np.int64
        assert part.tolist() == sorted(part.tolist())
        assert len(part) >= more["min_examples"]
    again = partition(np.array(labels), clients, scheme, **more)
    assert [part.tolist() for part in again] == [part.tolist() for part in parts]


@given(st.integers(1, 500), st.integers(1, 20), st.sampled_from(["even", "contiguous"]))
def test_equal_shares_differ_by_one_at_most(examples, clients, scheme):
    sizes = [len(part) for part in partition(examples, clients, scheme, min_examples=0)]
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.integers(1, 90), min_size=1, max_size=30), st.sampled_from(["even", "contiguous"]))
def test_sizes_given_as_counts_are_met_exactly(counts, scheme):
    parts = partition(sum(counts), len(counts), scheme, sizes=counts)
    assert [len(part) for part in parts] == counts


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=20), st.integers(2000, 5000))
def test_shares_are_met_to_the_nearest_example(shares, examples):
    sizes = [len(part) for part in partition(examples, len(shares), sizes=shares)]
    assert np.abs(np.array(sizes) - examples * np.array(shares) / sum(shares)).max() < 1


def test_contiguous_keeps_the_order_and_even_does_not():
    assert [part.tolist() for part in partition(7, 3, "contiguous")] == [[0, 1, 2], [3, 4], [5, 6]]
    (first, *_) = partition(1000, 10, "even")
    assert len({*(first // 100)}) == 10


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("even", [[4, 6, 10], [0, 1, 3, 8], [2, 5, 7, 9, 11]]),
        ("dirichlet", [[1, 2, 4, 5, 7, 8, 9, 11], [0, 3, 6], [10]]),
        ("by_label", [[2, 4, 10, 11], [0, 3, 5, 8], [1, 6, 7, 9]]),
    ],
)
def test_what_a_seed_deals_stays_what_it_is(scheme, expected):
    """Pinned: another machine, or another release of numpy, that dealt otherwise would show here."""
    parts = partition([0, 1, 2] * 4, 3, scheme, seed=7, sizes=[3, 4, 5])
    assert [part.tolist() for part in parts] == expected


def test_seeds_differ():
    deals = {tuple(partition(100, 2, seed=seed)[0].tolist()) for seed in range(20)}
    assert len(deals) == 20


# --- dirichlet -------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.1, 0.5, 3.0, 100.0])
def test_dirichlet_shares_have_the_mean_and_variance_of_the_distribution(alpha):
    """Each of K shares of a label: mean 1/K, variance (1/K)(1 - 1/K) / (K·alpha + 1)."""
    clients, labels, each = 8, 600, 400
    parts = partition(np.repeat(np.arange(labels), each), clients, "dirichlet", alpha=alpha, min_examples=0)
    shares = np.stack([np.bincount(part // each, minlength=labels) for part in parts]) / each
    mean = 1 / clients
    variance = mean * (1 - mean) / (clients * alpha + 1)
    assert shares.mean(axis=1) == pytest.approx(mean, abs=5 * np.sqrt(variance / labels))
    assert shares.var() == pytest.approx(variance, rel=0.08)


def test_dirichlet_has_uneven_sizes_as_its_mean():
    parts = partition(np.repeat(np.arange(2000), 50), 3, "dirichlet", alpha=0.5, sizes=[6, 3, 1])
    assert [len(part) / 100_000 for part in parts] == pytest.approx([0.6, 0.3, 0.1], abs=0.02)


def test_dirichlet_becomes_even_and_becomes_one_client_for_each_label():
    def most(alpha: float) -> float:
        parts = partition(SHUFFLED, 10, "dirichlet", alpha=alpha, min_examples=0)
        counts = np.stack([np.bincount(SHUFFLED[part], minlength=10) for part in parts])
        return float(np.mean(counts.max(axis=0)))

    assert most(1e6) == 10
    assert most(1e-4) == 100


def test_clients_that_were_dealt_too_little_are_filled_up_from_the_largest():
    bare = partition(SHUFFLED, 20, "dirichlet", alpha=0.01, min_examples=0)
    full = partition(SHUFFLED, 20, "dirichlet", alpha=0.01, min_examples=30)
    sizes = np.array([len(part) for part in bare])
    assert sizes.min() == 0
    assert [len(part) for part, size in zip(full, sizes, strict=True) if size < 30] == [30] * sum(sizes < 30)
    kept = [len(np.intersect1d(*pair)) for pair in zip(bare, full, strict=True)]
    gave = sizes - kept > 0
    # Whoever gave some still has as much as those who gave nothing, but for the one that rounding costs.
    left = np.array([len(part) for part in full])
    assert left[gave].min() >= left[~gave].max() - 1
    exactly = partition(SHUFFLED, 20, "dirichlet", alpha=0.01, min_examples=50)
    assert {len(part) for part in exactly} == {50}


# --- by label, by key ------------------------------------------------------------------------------


@given(st.integers(1, 30), st.integers(1, 10), st.integers(0, 99))
def test_by_label_gives_few_labels_to_each_and_each_label_to_as_many(clients, each, seed):
    if clients * each < 10:
        with pytest.raises(InvalidInput, match=r"labels_per_client: .* to nobody"):
            partition(SHUFFLED, clients, "by_label", labels_per_client=each, seed=seed)
        return
    parts = partition(SHUFFLED, clients, "by_label", labels_per_client=each, seed=seed)
    held = [{*SHUFFLED[part].tolist()} for part in parts]
    assert {len(labels) for labels in held} == {each}
    holders = [sum(label in labels for labels in held) for label in range(10)]
    assert max(holders) - min(holders) <= 1


@given(st.lists(st.sampled_from("abcdefgh"), min_size=8, max_size=100), st.integers(1, 8))
def test_by_key_divides_no_key(keys, clients):
    distinct = len({*keys})
    if clients > distinct:
        with pytest.raises(InvalidInput, match=r"clients: .* which are not divided"):
            partition(len(keys), clients, "by_key", key=keys)
        return
    parts = partition(len(keys), clients, "by_key", key=keys)
    held = [{keys[index] for index in part} for part in parts]
    assert sum(map(len, held)) == distinct
    # Largest first to the emptiest: no client is above the mean by more than one key (Graham, 1969).
    largest = max(keys.count(key) for key in keys)
    assert max(map(len, parts)) <= len(keys) / clients + largest


def test_by_key_makes_one_client_for_each_key_in_order():
    parts = partition(6, scheme="by_key", key=["north", "west", "east", "north", "west", "north"])
    assert [part.tolist() for part in parts] == [[2], [0, 3, 5], [1, 4]]


def test_by_key_deals_by_shares():
    parts = partition(1000, 2, "by_key", key=np.arange(1000) // 10, sizes=[4, 1])
    assert [len(part) for part in parts] == [800, 200]


# --- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "clients", "scheme", "more", "words"),
    [
        (100, None, "even", {}, "clients: is missing"),
        (100, 0, "even", {}, "clients: 0 is out of bounds"),
        (100, 2.0, "even", {}, "clients: 2.0 is no whole number"),
        (100, 20_000, "even", {}, "clients: 20000 is out of bounds"),
        (5, 6, "even", {}, "clients: 6 with at least 1 each need more than the 5"),
        (100, 11, "dirichlet", {}, "labels: are needed by dirichlet"),
        (DIGITS, 101, "dirichlet", {"min_examples": 10}, "clients: 101 with at least 10"),
        (0, 1, "even", {}, "examples: 0 is out of bounds"),
        (10**12, 1, "even", {}, "examples: .* out of bounds"),
        ([], 1, "even", {}, "labels: is empty"),
        (np.eye(3), 1, "even", {}, r"labels: has shape \(3, 3\)"),
        ([1, None], 1, "even", {}, "labels: has dtype object"),
        (np.arange(20_000), 2, "dirichlet", {}, "labels: has 20000 distinct values"),
        (100, 2, "evenly", {}, "scheme: 'evenly' is unknown — give one of even, contiguous"),
        (DIGITS, 2, "dirichlet", {"alpha": 0}, "alpha: 0 is out of bounds"),
        (DIGITS, 2, "dirichlet", {"alpha": float("nan")}, "alpha: nan"),
        (DIGITS, 2, "dirichlet", {"alpha": "small"}, "alpha: 'small'"),
        (DIGITS, 2, "by_label", {"labels_per_client": 11}, "labels_per_client: 11 are more than the 10"),
        (DIGITS, 4, "by_label", {}, "labels_per_client: 4 clients with 2 each .* — give at least 3"),
        ([0, 1, 1, 1], 2, "by_label", {"labels_per_client": 1, "min_examples": 2}, "min_examples: client"),
        (100, 2, "by_key", {}, "key: is missing"),
        (100, 2, "by_key", {"key": [1, 2]}, "key: has 2 values for 100 examples"),
        (100, 2, "even", {"key": range(100)}, "key: is not used by even"),
        (100, 2, "even", {"sizes": [1]}, r"sizes: has shape \(1,\) for 2 clients"),
        (100, 2, "even", {"sizes": [1, 0]}, "sizes: has a number that is not above 0"),
        (100, 2, "even", {"sizes": [1, float("inf")]}, "sizes: has a number"),
        (100, 2, "even", {"sizes": ["a", "b"]}, "sizes: .* are no numbers"),
        (100, 2, "even", {"sizes": [1e-300, 1e300]}, "sizes: differ too much"),
        (100, 2, "even", {"sizes": [1, 1e6]}, "min_examples: client 1 of 2 would have 0 with even, not 1"),
        (100, 2, "even", {"seed": -1}, "seed: -1 is out of bounds"),
        (100, 2, "even", {"min_examples": -1}, "min_examples: -1 is out of bounds"),
    ],
)
def test_bad_input_is_named(labels, clients, scheme, more, words):
    with pytest.raises(InvalidInput, match=words):
        partition(labels, clients, scheme, **more)


# --- arrays ----------------------------------------------------------------------------------------


def test_arrays_are_split_alike():
    arrays = {"x": np.arange(20.0).reshape(10, 2), "y": [f"label {n}" for n in range(10)]}
    shares = split_arrays(arrays, fedn.data.partition(10, 3))
    assert sum(len(share["y"]) for share in shares) == 10
    for share in shares:
        assert [f"label {int(x[0] // 2)}" for x in share["x"]] == share["y"].tolist()
    shares[0]["x"][:] = -1
    assert arrays["x"].min() == 0


@pytest.mark.parametrize(
    ("arrays", "parts", "words"),
    [
        ({"x": [1, 2], "y": [1]}, [[0]], r"arrays: differ in their number of examples \(x 2, y 1\)"),
        ({}, [[0]], "arrays: are missing"),
        ({"x": [1, 2]}, [[0], [2]], "parts: that of client 2 has an index beyond the 2 examples"),
        ({"x": [1, 2]}, [[-1]], "parts: that of client 1"),
        ({"x": [1, 2]}, [[0.5]], "parts: that of client 1 has shape"),
        ({"x": [1, 2]}, [], "clients: 0 is out of bounds"),
    ],
)
def test_parts_of_other_data_are_refused(arrays, parts, words):
    with pytest.raises(InvalidInput, match=words):
        split_arrays(arrays, parts)
