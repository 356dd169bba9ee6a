"""Server optimizers: from the clients' mean to the next global model, one block at a time.

`fedn.aggregation.write` calls them. Each is a class with one `step`, registered under the entry-point group
``fedn.server_optimizers`` and built with ``learning_rate=``.
"""

from __future__ import annotations

import numpy as np

from fedn.ports import Vector


class Sgd:
    """next = base + learning_rate · (mean - base); with learning rate 1.0 exactly the mean.

    Source: Reddi et al., "Adaptive Federated Optimization", 2021, algorithm 1 with SGD on the server.
    """

    def __init__(self, learning_rate: float = 1.0) -> None:
        self.learning_rate = learning_rate

    def step(self, base: Vector, mean: Vector) -> Vector:
        # base + (mean - base) is not mean in floating point, and FedAvg should be FedAvg to the bit.
        if self.learning_rate == 1.0:
            return mean
        stepped = np.subtract(mean, base)
        stepped *= self.learning_rate
        stepped += base
        return stepped
