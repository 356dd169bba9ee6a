"""What a plan, or an app, names: plain functions on numpy arrays, found by `fedn.plugins`.

An exporter, which is a plug-in too, is in `fedn.ports.observing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy.typing as npt

from fedn.domain.ids import ClientId
from fedn.domain.model import Layout
from fedn.ports.buffers import Tensors, Vector


class Aggregator(Protocol):
    """Four verbs, after TensorFlow Federated's aggregation core: accumulate, merge, can report, report.

    The intermediate is one flat float64 vector per part, such as Σ w·x in layout order. It never surfaces,
    and nothing else travels from combiner to reducer. One object serves any number of vectors and threads:
    it remembers nothing of them.
    """

    @property
    def mergeable(self) -> bool:
        """Whether parts merge: `merge` of two combiners' parts is what one combiner with all updates has.

        Where they don't, a session runs at one combiner, and its rounds come in one part.
        """

    def elements(self, layout: Layout) -> int:
        """The length of the vector; unless a subclass says otherwise that of the mean."""
        return layout.float_elements

    def zero(self, layout: Layout) -> Vector:
        """An empty sum, shape (elements(layout),)."""

    def accumulate(self, total: Vector, data: memoryview, layout: Layout, weight: int) -> None:
        """Add an update of ``weight`` examples in place; ``data`` is its data buffer (without the header).

        Its numbers are finite, its layout is checked, and ``weight`` is at least 1.
        """

    def merge(self, total: Vector, part: Vector) -> None:
        """Add another sum to the running total in place."""

    def report(self, total: Vector, weight: int) -> Vector:
        """The mean, shape (layout.float_elements,), which may lie in ``total``; that is used up.

        ``weight`` is Σ examples. Raises InvalidInput when it is 0.
        """


class ServerOptimizer(Protocol):
    """From the mean of the clients' models to the next global model, elementwise on float64 blocks.

    Built with those of ``learning_rate``, ``momentum``, ``beta2`` and ``epsilon`` that its constructor
    names. What it remembers between rounds is in its slots alone, which are kept with the trail.
    """

    @property
    def slots(self) -> Mapping[str, float]:
        """Names of what is remembered of every averaged element, with its value before the first step."""

    def step(self, base: Vector, mean: Vector, memory: Mapping[str, Vector], number: int) -> Vector:
        """The new values of a block, in its shape, in float64.

        ``base``, ``mean`` and each slot's vector in ``memory`` are the same block; those of ``memory`` are
        updated in place. ``number`` counts the session's steps from 1. The outcome depends on these
        arguments alone: a block is stepped more than once, and blocks may be cut anywhere.
        """


class Helper(Protocol):
    """Tensors to a framework's model and back, called without arguments to make one.

    Names, their order, shapes and dtypes survive the round trip and are the same in every process; what a
    model does not train may stay at home. bfloat16 comes as float32 and goes as ``ml_dtypes.bfloat16``.
    Raises InvalidModel naming the tensor or the app's method. Tested by
    `fedn.testing.contracts.helper.HelperContract`.
    """

    def load(self, tensors: Tensors, app: Any) -> Any:
        """What the app's train() and validate() receive, with copies of ``tensors``."""

    def dump(self, model: Any) -> dict[str, npt.NDArray[Any]]:
        """The tensors of what train() returned, as copies."""


@runtime_checkable
class ProximalHelper(Helper, Protocol):
    """A helper that can add FedProx's proximal term to a training that knows nothing of it."""

    def proximal(self, model: Any, mu: float) -> AbstractContextManager[None]:
        """Inside, gradients get mu · (w - w0) added before every optimizer step; w0 is w at entry.

        mu = 0 changes nothing. Raises InvalidInput when it is left without a step on ``model``.
        """


@runtime_checkable
class SavingHelper(Helper, Protocol):
    """A helper that can write a model as its framework does."""

    def save(self, model: Any, path: Path) -> None:
        """Raises InvalidInput for a path that the framework does not take."""


class ClientSelector(Protocol):
    """Which of the clients that could take part do."""

    def select(self, clients: Sequence[ClientId], limit: int, seed: int) -> Sequence[ClientId]:
        """At most ``limit`` of ``clients`` (all if 0), deterministic by ``seed``."""
