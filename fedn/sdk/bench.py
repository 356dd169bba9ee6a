"""The one model that all owners of a `fedn.fit` in this process work on, one after the other.

Before each task it is made as it was at first, then gets the weights that came. A Keras model is put back in
place, since building another one would cost its compilation every time; others are copied.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from fedn import plugins
from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput
from fedn.helpers.frameworks import framework
from fedn.ports import ProximalHelper, Tensors
from fedn.sdk import models


class Bench:
    """Lends ``model``, with weights, to one task at a time.

    Raises InvalidModel when the model can't be turned into tensors.
    """

    def __init__(self, model: Any, helper: str) -> None:
        self.helper = models.known_helper(model, helper)
        self.model = model
        self._one_at_a_time = threading.Lock()
        self._fresh, self._seed = _KINDS.get(self.helper, _copied)(model)

    @contextmanager
    def lent(self, tensors: Tensors, seed: int = 0) -> Iterator[Any]:
        """The model with these weights, its randomness and its framework's begun at ``seed``."""
        with self._one_at_a_time:
            self._seed(seed)
            yield models.build_with(self._fresh, tensors, self.helper)

    def tensors(self, model: Any) -> dict[str, Array]:
        """Copies of what travels of a model that was lent."""
        return models.tensors_of(model, self.helper)

    def finished(self, tensors: Tensors) -> Any:
        """The given model as it was at first, but for these weights; for a dict of arrays a new one."""
        with self._one_at_a_time:
            if isinstance(self.model, Mapping):
                return dict(models.build_with(dict, tensors, self.helper))
            if self.helper == "keras":
                self._fresh()
            return models.load_into(self.model, tensors, self.helper)

    def proximal(self, model: Any, mu: float) -> AbstractContextManager[None]:
        """What holds training near the weights that came. Raises InvalidInput if the helper has no such."""
        if mu == 0 or self.helper == "numpy":
            return nullcontext()
        helper = plugins.make("fedn.helpers", self.helper)
        if not isinstance(helper, ProximalHelper):
            remedy = "use keras or torch, or set it to 0"
            raise InvalidInput("proximal_mu", f"can't be used with the helper {self.helper}", remedy)
        return helper.proximal(model, mu)


Ways = tuple[Callable[[], Any], Callable[[int], object]]
"""How to get the model as it was at first, and how to begin its randomness at a seed."""


def _copied(model: Any) -> Ways:
    """For dicts of arrays and what plug-ins' helpers know: nobody knows where they have randomness."""
    return lambda: copy.deepcopy(model), lambda seed: None


def _torch(model: Any) -> Ways:
    return lambda: copy.deepcopy(model), framework("torch", "torch").manual_seed


def _sklearn(model: Any) -> Ways:
    """An estimator draws from the ``random_state`` it was given; without one, from the seed."""
    own = model.get_params().get("random_state", 0) is not None
    states = {"random_state": 0}

    def fresh() -> Any:
        made = copy.deepcopy(model)
        return made if own else made.set_params(**states)

    return fresh, lambda seed: states.update(random_state=seed % 2**32)


def _keras(model: Any) -> Ways:
    """The very model: weights, what the optimizer remembers and random generators are put back."""
    keras = framework("keras", "keras")
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)
    kept = [*model.weights, *(optimizer.variables if optimizer is not None else ())]
    first = [np.array(keras.ops.convert_to_numpy(variable)) for variable in kept]
    weights = {id(weight) for weight in model.weights}
    generators = [variable for variable in model.variables if id(variable) not in weights]

    def fresh() -> Any:
        for variable, value in zip(kept, first, strict=True):
            variable.assign(value)
        return model

    def begin(seed: int) -> None:
        keras.utils.set_random_seed(seed % 2**32)
        for number, generator in enumerate(generators):
            generator.assign(np.array([seed % 2**32, number], dtype=generator.dtype))

    return fresh, begin


_KINDS: Mapping[str, Callable[[Any], Ways]] = {"keras": _keras, "sklearn": _sklearn, "torch": _torch}
