"""Server optimizers: from the clients' mean to the next global model, one block at a time.

`fedn.aggregation.write` calls them, `memory` keeps what they remember. Each implements
`fedn.ports.ServerOptimizer` and is registered under the entry-point group ``fedn.server_optimizers``. All
follow Reddi et al., "Adaptive Federated Optimization", 2021: the pseudo-gradient is Δ = mean - base.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from fedn.ports import Vector


class Sgd:
    """next = base + η·m with m = β·m + Δ; without momentum m = Δ, and with η = 1 exactly the mean.

    Algorithm 1 of the paper with SGD on the server; the momentum is that of Hsu et al., "Measuring the
    Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019 (FedAvgM).
    """

    def __init__(self, learning_rate: float = 1.0, momentum: float = 0.0) -> None:
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.slots: Mapping[str, float] = {"m": 0.0} if momentum else {}

    def step(self, base: Vector, mean: Vector, memory: Mapping[str, Vector], number: int) -> Vector:
        # base + (mean - base) is not mean in floating point, and FedAvg should be FedAvg to the bit.
        if self.learning_rate == 1.0 and not self.momentum:
            return mean
        stepped = np.subtract(mean, base)
        if self.momentum:
            memory["m"][:] *= self.momentum
            memory["m"][:] += stepped
            stepped[:] = memory["m"]
        stepped *= self.learning_rate
        stepped += base
        return stepped


class _Adaptive(ABC):
    """next = base + η·m / (√v + τ) with m = β₁·m + (1 - β₁)·Δ: algorithm 2 of the paper.

    β₁ is ``momentum``, τ is ``epsilon``. m starts at 0 and v at τ²; there is no bias correction.
    """

    def __init__(self, learning_rate: float = 1.0, momentum: float = 0.0, epsilon: float = 1e-3) -> None:
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.epsilon = epsilon
        # Without momentum m is Δ, and need not be kept.
        self.slots: Mapping[str, float] = ({"m": 0.0} if momentum else {}) | {"v": epsilon**2}

    def step(self, base: Vector, mean: Vector, memory: Mapping[str, Vector], number: int) -> Vector:
        delta = np.subtract(mean, base)
        v = memory["v"]
        self._scale(v, np.square(delta))
        if self.momentum:
            delta *= 1 - self.momentum
            memory["m"][:] *= self.momentum
            memory["m"][:] += delta
            delta[:] = memory["m"]
        root = np.sqrt(v)
        root += self.epsilon
        delta *= self.learning_rate
        delta /= root
        delta += base
        return delta

    @abstractmethod
    def _scale(self, v: Vector, square: Vector) -> None:
        """The next v from Δ², in place."""


class Adagrad(_Adaptive):
    """v = v + Δ²."""

    def _scale(self, v: Vector, square: Vector) -> None:
        v += square


class _Decaying(_Adaptive):
    def __init__(
        self,
        learning_rate: float = 1.0,
        momentum: float = 0.0,
        beta2: float = 0.99,
        epsilon: float = 1e-3,
    ) -> None:
        super().__init__(learning_rate, momentum, epsilon)
        self.beta2 = beta2


class Adam(_Decaying):
    """v = β₂·v + (1 - β₂)·Δ²."""

    def _scale(self, v: Vector, square: Vector) -> None:
        v *= self.beta2
        square *= 1 - self.beta2
        v += square


class Yogi(_Decaying):
    """v = v - (1 - β₂)·Δ²·sign(v - Δ²)."""

    def _scale(self, v: Vector, square: Vector) -> None:
        sign = np.sign(v - square)
        square *= 1 - self.beta2
        square *= sign
        v -= square
