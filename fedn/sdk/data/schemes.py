"""The schemes by which examples are dealt to simulated clients; `dealing` checks what they are given.

Each answers with one array, for every example the client that has it, so that nothing is dealt twice or
left over. ``shares`` are the fractions that clients are to have; they sum to 1.
"""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput
from fedn.sdk.data.checks import MAX_LABELS, IntArray, classes, whole

Shares = npt.NDArray[np.float64]

MIN_ALPHA, MAX_ALPHA = 1e-4, 1e6


def in_order(order: IntArray, shares: Shares) -> IntArray:
    """The first examples of ``order`` to the first client, and so on."""
    owners = np.empty(len(order), np.int64)
    owners[order] = _runs(len(order), shares)
    return owners


def by_dirichlet(
    labels: Array, shares: Shares, alpha: float, least: int, random: np.random.Generator
) -> IntArray:
    """Each label in proportions of its own, drawn from Dirichlet(alpha × clients × shares)."""
    concentration = np.maximum(_bounded(alpha) * len(shares) * shares, MIN_ALPHA)
    owners = np.empty(len(labels), np.int64)
    for members in _members(labels):
        owners[random.permutation(members)] = _runs(len(members), random.dirichlet(concentration))
    _fill_up(owners, len(shares), least, random)
    return owners


def by_label(labels: Array, shares: Shares, each: int, random: np.random.Generator) -> IntArray:
    """At most ``each`` labels per client; who has the same label divides its examples by their shares."""
    members = _members(labels)
    _check_enough(each, len(members), len(shares))
    owners = np.empty(len(labels), np.int64)
    for holding, examples in zip(_holders(len(members), len(shares), each, random), members, strict=True):
        mix = shares[holding] / shares[holding].sum()
        owners[random.permutation(examples)] = holding[_runs(len(examples), mix)]
    return owners


def by_key(keys: Array, shares: Shares, alike: bool) -> IntArray:
    """The largest keys first, each to the client that has least for its share; no chance in it.

    Clients that are ``alike`` come in the order of their first keys.
    """
    _, places = np.unique(keys, return_inverse=True)
    counts = np.bincount(places)
    emptiest = [(0.0, client) for client in range(len(shares))]
    owner_of = np.empty(len(counts), np.int64)
    for place in np.argsort(-counts, kind="stable").tolist():
        load, client = emptiest[0]
        owner_of[place] = client
        heapq.heapreplace(emptiest, (load + int(counts[place]) / shares[client], client))
    if alike:
        _, first = np.unique(owner_of, return_index=True)
        owner_of = np.argsort(np.argsort(first))[owner_of]
    return owner_of[places]


def _runs(total: int, shares: Shares) -> IntArray:
    """0 0 0 1 1 2 …: each client as often as its share of ``total``, in whole numbers.

    What rounding down leaves over goes to the largest fractions.
    """
    exact = shares * total
    sizes = np.floor(exact).astype(np.int64)
    # Fractions that are equal but for the last bits are a tie, which the first one wins on every machine.
    fractions = np.round(exact - sizes, 9)
    sizes[np.argsort(-fractions, kind="stable")[: total - int(sizes.sum())]] += 1
    return np.repeat(np.arange(len(shares)), sizes)


def _members(labels: Array) -> list[IntArray]:
    """For each distinct label, in order, the indices of its examples."""
    distinct, places = classes(labels)
    return groups(places, len(distinct))


def groups(owners: IntArray, count: int) -> list[IntArray]:
    """For each number below ``count``, where in ``owners`` it stands, ascending."""
    order = np.argsort(owners, kind="stable").astype(np.int64)
    return np.split(order, np.cumsum(np.bincount(owners, minlength=count))[:-1])


# --- dirichlet -------------------------------------------------------------------------------------


def _bounded(alpha: float) -> float:
    try:
        number = float(alpha)
    except (TypeError, ValueError):
        number = float("nan")
    if not MIN_ALPHA <= number <= MAX_ALPHA:  # not so for NaN either
        raise InvalidInput("alpha", f"{alpha!r} is out of bounds", f"give {MIN_ALPHA:f} to {MAX_ALPHA:.0f}")
    return number


def _fill_up(owners: IntArray, clients: int, least: int, random: np.random.Generator) -> None:
    """Move examples, drawn at random, from the largest clients to those with fewer than ``least``."""
    sizes = np.bincount(owners, minlength=clients)
    needs = np.maximum(least - sizes, 0)
    given = _given(sizes, int(needs.sum()), least)
    hands = groups(owners, clients)
    donors = np.flatnonzero(given)
    moved = [random.permutation(hands[donor])[: given[donor]] for donor in donors.tolist()]
    if moved:
        owners[random.permutation(np.concatenate(moved))] = np.repeat(np.arange(clients), needs)


def _given(sizes: IntArray, need: int, least: int) -> IntArray:
    """How many each client gives up so that ``need`` come together, and the largest are as even as can be."""
    low, high = least, int(sizes.max())
    while low < high:  # the highest level above which there are at least as many as are needed
        level = (low + high + 1) // 2
        low, high = (level, high) if np.maximum(sizes - level, 0).sum() >= need else (low, level - 1)
    given = np.maximum(sizes - low, 0)
    surplus = int(given.sum()) - need
    given[np.flatnonzero(given)[:surplus]] -= 1
    return given


# --- by label --------------------------------------------------------------------------------------


def _check_enough(each: int, labels: int, clients: int) -> None:
    field = "labels_per_client"
    whole(field, each, 1, MAX_LABELS)
    if each > labels:
        raise InvalidInput(
            field, f"{each} are more than the {labels} labels of the data", f"give at most {labels}"
        )
    if each * clients < labels:
        problem = f"{clients} clients with {each} each leave some of the {labels} labels to nobody"
        raise InvalidInput(field, problem, f"give at least {-(-labels // clients)}")


def _holders(labels: int, clients: int, each: int, random: np.random.Generator) -> list[IntArray]:
    """For each label, its clients. Each client takes those that the fewest have, at random among equals."""
    holders: list[list[int]] = [[] for _ in range(labels)]
    taken = np.zeros(labels, np.int64)
    for client in random.permutation(clients).tolist():
        chosen = np.lexsort((random.random(labels), taken))[:each]
        taken[chosen] += 1
        for label in chosen.tolist():
            holders[label].append(client)
    return [np.array(clients_of) for clients_of in holders]
