"""An aggregator and a server optimizer of our own, as small as they come."""

import numpy as np

from fedn.aggregation.mean import Mean


class Capped(Mean):
    """The weighted mean in which no client counts for more than ``cap`` examples.

    The vector has one number more than the model: the examples that counted. Sums add, so parts merge.
    """

    cap = 1000

    def elements(self, layout):
        return layout.float_elements + 1

    def accumulate(self, total, data, layout, weight):
        counted = min(weight, self.cap)
        super().accumulate(total, data, layout, counted)
        total[-1] += counted

    def report(self, total, weight):
        return np.divide(total[:-1], total[-1], out=total[:-1])


class Steady:
    """A moving average of the clients' steps, scaled up as long as it has seen only a few."""

    def __init__(self, learning_rate=1.0, momentum=0.5):
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.slots = {"m": 0.0}

    def step(self, base, mean, memory, number):
        m = memory["m"]
        m += (1 - self.momentum) * (mean - base - m)
        return base + self.learning_rate * m / (1 - self.momentum**number)
