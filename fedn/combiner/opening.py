"""Makes what a part needs to open: its base model read, its aggregator found, both kept until it closes."""

from __future__ import annotations

from functools import partial

from fedn import plugins
from fedn.combiner.materials import pin, unpin
from fedn.combiner.runs import RoundRun
from fedn.combiner.staging import PartSum
from fedn.domain.errors import InvalidInput
from fedn.domain.model import layout_of
from fedn.domain.round import RoundSpec
from fedn.ports import Aggregator
from fedn.stores.cache import ModelCache


class Opening:
    """What all parts of a combiner are opened with."""

    def __init__(self, models: ModelCache) -> None:
        self._models = models
        self._aggregators: dict[str, Aggregator] = {}

    def run(self, spec: RoundSpec) -> RoundRun:
        """A new run with an empty sum; its model is in the cache and stays there until it is closed."""
        with self._models.map(spec.model) as file:
            layout = layout_of(file)
        if layout.digest != spec.layout:
            raise InvalidInput("layout", "is not the base model's", "restart the reducer; this is a fault")
        aggregator = self._aggregator(spec.aggregator)
        pin(self._models, spec)
        return RoundRun(PartSum(layout, aggregator), partial(unpin, self._models, spec))

    def _aggregator(self, name: str) -> Aggregator:
        if name not in self._aggregators:  # looking it up reads every package's metadata
            self._aggregators[name] = plugins.make("fedn.aggregators", name)
        return self._aggregators[name]
