"""`partition` and `split_arrays`: checks what a user asks for, and lets `schemes` deal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, SupportsIndex, get_args

import numpy as np
import numpy.typing as npt

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput
from fedn.sdk.data.checks import (
    MAX_CLIENTS,
    MAX_EXAMPLES,
    MAX_SEED,
    IntArray,
    check_parts,
    one_each,
    shares_of,
    whole,
)
from fedn.sdk.data.schemes import by_dirichlet, by_key, by_label, groups, in_order

Scheme = Literal["even", "contiguous", "dirichlet", "by_label", "by_key"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)


def partition(
    labels_or_n: SupportsIndex | npt.ArrayLike,
    clients: int | None = None,
    scheme: Scheme = "even",
    *,
    alpha: float = 0.5,
    labels_per_client: int = 2,
    key: npt.ArrayLike | None = None,
    sizes: Sequence[float] | Array | None = None,
    seed: int = 0,
    min_examples: int = 1,
) -> list[IntArray]:
    """Deal examples to simulated clients: for each its indices, ascending. Every index is dealt once.

    Args:
        labels_or_n: one label per example, shape (examples,); their number will do for even, contiguous and
            by_key.
        clients: how many, up to 10,000. by_key makes one client per key without it.
        scheme:
            even: at random.
            contiguous: in the order of the data.
            dirichlet: each label is dealt in proportions drawn from Dirichlet(alpha): the smaller alpha, the
                fewer clients have most of it. Who is dealt less than ``min_examples`` gets what is missing
                from the largest clients. (Yurochkin et al., "Bayesian Nonparametric Federated Learning of
                Neural Networks", 2019, section 4.)
            by_label: each client has at most ``labels_per_client`` labels. Each label is with as many
                clients as any other, give or take one, and divided among them.
            by_key: examples of one key stay together; clients become about as large as ``sizes`` has them.
        alpha: 0.0001 to 1,000,000; for dirichlet.
        labels_per_client: for by_label.
        key: one value per example, such as a site's name; for by_key.
        sizes: uneven shares, one positive number per client. even and contiguous deal these to the nearest
            example, dirichlet has them as its mean, by_label divides each label by them.
        seed: the same seed deals the same again.
        min_examples: no client has fewer.

    Raises:
        InvalidInput: naming the argument, also where the data is too little for what is asked.
    """
    if scheme not in SCHEMES:
        raise InvalidInput("scheme", f"{scheme!r} is unknown", f"give one of {', '.join(SCHEMES)}")
    labels, total = _examples(labels_or_n, scheme)
    keys = _keys(key, scheme, total)
    count = _clients(clients, keys, total, min_examples)
    shares = shares_of(sizes, count)
    random = np.random.Generator(np.random.PCG64(whole("seed", seed, 0, MAX_SEED)))
    deal: dict[Scheme, Callable[[], IntArray]] = {
        "even": lambda: in_order(random.permutation(total), shares),
        "contiguous": lambda: in_order(np.arange(total), shares),
        "dirichlet": lambda: by_dirichlet(labels, shares, alpha, min_examples, random),
        "by_label": lambda: by_label(labels, shares, labels_per_client, random),
        "by_key": lambda: by_key(keys, shares, alike=sizes is None),
    }
    parts = groups(deal[scheme](), count)
    _check_sizes(parts, scheme, min_examples)
    return parts


def split_arrays(
    arrays: Mapping[str, npt.ArrayLike], parts: Sequence[npt.ArrayLike]
) -> list[dict[str, Array]]:
    """Each client's share of every array, copied: ``array[part]``, by name.

    Args:
        arrays: each of shape (examples, …).
        parts: index arrays, as `partition` makes them.

    Raises:
        InvalidInput: when the arrays differ in length, or an index is beyond them.
    """
    known = {name: np.asarray(array) for name, array in arrays.items()}
    indices = check_parts(parts, common_length(known))
    return [{name: array[part] for name, array in known.items()} for part in indices]


def common_length(arrays: Mapping[str, Array]) -> int:
    """How many examples all ``arrays`` have. Raises InvalidInput when they differ, or there are none."""
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len({*lengths.values()}) != 1:
        shown = ", ".join(f"{name} {length}" for name, length in list(lengths.items())[:10])
        problem = f"differ in their number of examples ({shown})" if lengths else "are missing"
        raise InvalidInput("arrays", problem, "choose some that belong together")
    return next(iter(lengths.values()))


def _examples(labels_or_n: Any, scheme: Scheme) -> tuple[Array, int]:
    if not isinstance(labels_or_n, int | np.integer):
        labels = one_each("labels", labels_or_n)
        return labels, len(labels)
    if scheme in ("dirichlet", "by_label"):
        raise InvalidInput("labels", f"are needed by {scheme}, not just their number", "give one per example")
    return np.empty(0), whole("examples", labels_or_n, 1, MAX_EXAMPLES)


def _keys(key: Any, scheme: Scheme, total: int) -> Array:
    if scheme != "by_key":
        if key is not None:
            raise InvalidInput("key", f"is not used by {scheme}", "leave it out, or choose by_key")
        return np.empty(0)
    if key is None:
        raise InvalidInput("key", "is missing; by_key needs it", "give one value for each example")
    keys = one_each("key", key)
    if len(keys) != total:
        raise InvalidInput("key", f"has {len(keys)} values for {total} examples", "give one for each example")
    return keys


def _clients(clients: int | None, keys: Array, total: int, min_examples: int) -> int:
    least = whole("min_examples", min_examples, 0, total)
    distinct = len(np.unique(keys))
    if clients is None:
        if not distinct:
            raise InvalidInput("clients", "is missing", "say how many there are to be")
        return whole("clients", distinct, 1, MAX_CLIENTS)
    count = whole("clients", clients, 1, MAX_CLIENTS)
    if distinct and count > distinct:
        problem = f"{count} are more than the {distinct} keys, which are not divided"
        raise InvalidInput("clients", problem, f"give at most {distinct}")
    if count * least > total:
        problem = f"{count} with at least {least} each need more than the {total} examples there are"
        raise InvalidInput("clients", problem, "give fewer clients, or a lower min_examples")
    return count


def _check_sizes(parts: list[IntArray], scheme: Scheme, least: int) -> None:
    for number, part in enumerate(parts, 1):
        if len(part) < least:
            problem = f"client {number} of {len(parts)} would have {len(part)} with {scheme}, not {least}"
            raise InvalidInput("min_examples", problem, "lower it, give fewer clients, or more even sizes")
