"""The example-weighted mean, streamed: Σ w·x and Σ w, divided once at the end.

A combiner folds verified updates with `Mean`; the reducer merges the combiners' parts with `PartMerger`
and hands the mean to `fedn.aggregation.write`. Because sums add, the hierarchy equals flat FedAvg
(McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedn.aggregation.blocks import decode, float_blocks, scratch_for
from fedn.aggregation.faults import blamed, checked
from fedn.domain.errors import InvalidInput
from fedn.domain.model import Layout
from fedn.ports import Aggregator, Vector

AGGREGATOR = "aggregator"
"""The plan field that is to blame for bad sums."""


class Mean(Aggregator):
    """Σ w·x. An aggregator of your own may begin here: change the weight, or carry more sums."""

    mergeable = True

    def zero(self, layout: Layout) -> Vector:
        return np.zeros(self.elements(layout), np.float64)

    def accumulate(self, total: Vector, data: memoryview, layout: Layout, weight: int) -> None:
        """Add weight · x in place; the numbers must have passed `check_finite`."""
        scratch = scratch_for(layout)
        for block in float_blocks(layout):
            values = decode(data, block, scratch)
            np.multiply(values, float(weight), out=values)
            target = total[block.first : block.first + block.elements]
            np.add(target, values, out=target)

    def merge(self, total: Vector, part: Vector) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            np.add(total, part, out=total)

    def report(self, total: Vector, weight: int) -> Vector:
        if weight <= 0:
            raise InvalidInput("weight", "nothing was summed", "wait for at least one update")
        with np.errstate(invalid="ignore"):
            return np.divide(total, float(weight), out=total)


def elements_of(aggregator: Aggregator, layout: Layout) -> int:
    """The length of its vector. Raises InvalidInput unless that is a length."""
    with blamed(AGGREGATOR, aggregator):
        elements = aggregator.elements(layout)
    if type(elements) is not int or elements < 0:
        raise InvalidInput(AGGREGATOR, f"its vector has {elements!r} elements", "give a whole number")
    return elements


def empty_sum(aggregator: Aggregator, layout: Layout) -> Vector:
    """Its zero. Raises InvalidInput unless that is a float64 vector of its length."""
    with blamed(AGGREGATOR, aggregator):
        zero = aggregator.zero(layout)
    return checked(AGGREGATOR, aggregator, zero, elements_of(aggregator, layout))


@dataclass(slots=True)
class _Sum:
    total: Vector
    weight: int


class PartMerger:
    """Merges the combiners' parts of one round into one mean, in any order.

    'weighted' keeps one running sum however many parts come. 'simple' keeps one per combiner, so that
    every combiner's mean can count the same. A first part's array is adopted and added to in place.
    """

    def __init__(self, layout: Layout, averaging: str, aggregator: Aggregator | None = None) -> None:
        """Raises InvalidInput: 'simple' needs plain sums, and is for the mean alone."""
        if averaging not in ("weighted", "simple"):
            raise InvalidInput("averaging", f"{averaging!r} is unknown", "choose one of weighted, simple")
        self._aggregator = aggregator or Mean()
        self._simple = averaging == "simple"
        if self._simple and type(self._aggregator) is not Mean:
            raise InvalidInput("averaging", "'simple' averages means alone", "use the aggregator 'mean'")
        self.elements = elements_of(self._aggregator, layout)
        self._outcome = layout.float_elements
        self._sums: dict[str, _Sum] = {}
        self._torn = False

    @property
    def weight(self) -> int:
        """Σ examples of what is merged."""
        return sum(item.weight for item in self._sums.values())

    def merge(self, combiner: str, part: Vector, weight: int) -> None:
        """Add the vector of one part, shape (elements,), and its Σ w; weight 0 is ignored.

        A second part of an aggregator whose parts don't merge spoils the round: see `report`.

        Raises:
            InvalidInput: the part has another length than the aggregator's, or the aggregator failed.
        """
        if weight == 0:
            return
        if part.shape != (self.elements,):
            raise InvalidInput("part", f"from {combiner} holds {part.size} numbers, not {self.elements}")
        key = combiner if self._simple else ""
        known = self._sums.get(key)
        if known is None:
            self._sums[key] = _Sum(np.require(part, np.float64, ["C", "W"]), weight)
            return
        if not self._aggregator.mergeable:
            self._torn = True
            return
        with blamed(AGGREGATOR, self._aggregator):
            self._aggregator.merge(known.total, part)
        known.weight += weight

    def report(self) -> Vector:
        """The mean, shape (layout.float_elements,); the sums are used up.

        Raises:
            InvalidInput: nothing was merged, parts came that don't merge, or the aggregator failed.
        """
        if self._torn:
            raise InvalidInput(AGGREGATOR, "its parts don't merge, and the round came in several")
        # By name, not by arrival: the same parts then give the same bits.
        sums = [self._sums.pop(key) for key in sorted(self._sums)]
        if not sums:
            raise InvalidInput("parts", "no part holds an update", "wait for at least one update")
        with blamed(AGGREGATOR, self._aggregator):
            mean = self._aggregator.report(sums[0].total, sums[0].weight)
            for item in sums[1:]:
                self._aggregator.merge(mean, self._aggregator.report(item.total, item.weight))
            if self._simple:
                mean = self._aggregator.report(mean, len(sums))
        return checked(AGGREGATOR, self._aggregator, mean, self._outcome)
