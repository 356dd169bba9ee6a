"""Keras models to tensors and back, on any backend: Sequential, functional and subclassed.

A tensor is named after its place: the layers on the way to it, then the variable, such as
``encoder/dense_1/kernel``. Keras counts its automatic names up for as long as a process lives (dense_7), so
these are counted anew among the children of each layer, in Keras' own order; names given by hand stay.

What travels is what training changes: the variables that are trained, and the others (moving statistics) of
layers that are not frozen. Whatever has ``trainable = False`` stays at home and is as ``build()`` made it. So
do the states of random generators, metrics, and all that an optimizer remembers.
Keras and its backend take seconds to import, so that waits until a helper is made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput, InvalidModel
from fedn.helpers.files import check_tensor, widened
from fedn.helpers.frameworks import check_fit, framework, fresh
from fedn.helpers.proximal_keras import proximal
from fedn.ports import Tensors


class KerasHelper:
    """Implements `fedn.ports.ProximalHelper` for ``keras.Model``.

    Raises:
        InvalidInput: Keras or its backend is not installed.
    """

    def __init__(self) -> None:
        framework("keras", "keras")

    def load(self, tensors: Tensors, app: Any) -> Any:
        """``app.build()`` with copies of ``tensors`` in its variables.

        Raises:
            InvalidModel: no ``build()``, a model without weights yet, or tensors that do not fit it.
        """
        model = fresh(app, "keras", "keras.Model")
        variables = _travelling(model, "app.build()")
        check_fit(tensors, {name: (tuple(v.shape), v.dtype) for name, v in variables.items()})
        for name, variable in variables.items():
            variable.assign(np.array(widened(tensors[name])))  # a backend may keep the memory it is given
        return model

    def dump(self, model: Any) -> dict[str, Array]:
        """Copies of the variables that travel; bfloat16 as ``ml_dtypes.bfloat16``.

        Raises:
            InvalidModel: no Keras model, without weights yet, or with a dtype that no file holds.
        """
        to_numpy = framework("keras", "keras").ops.convert_to_numpy
        variables = _travelling(model, "model")
        return {name: check_tensor(name, to_numpy(variable)) for name, variable in variables.items()}

    def proximal(self, model: Any, mu: float) -> AbstractContextManager[None]:
        """See `fedn.helpers.proximal_keras`."""
        return proximal(model, mu)

    def save(self, model: Any, path: Path) -> None:
        """Write the whole model, frozen layers and all, as Keras does.

        Raises:
            InvalidInput: ``path`` does not end in .keras.
        """
        if path.suffix != ".keras":
            raise InvalidInput("path", f"{path.name!r} does not end in .keras", "name it like model.keras")
        model.save(path)


def _travelling(model: Any, field: str) -> dict[str, Any]:
    """The variables that leave this machine by name, in Keras' order."""
    keras = framework("keras", "keras")
    if not isinstance(model, keras.Model):
        raise InvalidModel(field, f"gave a {type(model).__name__}, not a keras.Model", "return the model")
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for path, layer in _layers(model, ""):
        _check_built(layer, path, field)
        own = [*layer._trainable_variables, *layer._non_trainable_variables]
        statistics = len(layer._non_trainable_variables)
        travels = [v.trainable for v in layer._trainable_variables] + [layer.trainable] * statistics
        for variable, name, leaves in zip(own, _names(own), travels, strict=True):
            if leaves and id(variable) not in seen:  # what is used in two places is named by the first
                found[path + name] = variable
            seen.add(id(variable))
    if not found or not model.trainable:
        problem = "has nothing to train: every layer is frozen or without weights"
        raise InvalidModel(field, problem, "leave at least one layer trainable")
    return found


def _layers(layer: Any, path: str) -> Iterator[tuple[str, Any]]:
    """``layer`` and all below it, parents first, each with the path to it."""
    yield path, layer
    children = layer._flatten_layers(include_self=False, recursive=False)
    for child, name in zip(children, _names(children), strict=True):
        yield from _layers(child, f"{path}{name}/")


def _check_built(layer: Any, path: str, field: str) -> None:
    has_build = type(layer).build is not framework("keras", "keras").Layer.build
    if has_build and layer.trainable and not layer.built:
        which = f"has layer {path.rstrip('/')!r} that has" if path else "was never built and has"
        remedy = "start it with keras.Input(shape), or call the model on an example in build()"
        raise InvalidModel(field, f"{which} no weights yet", remedy)


def _names(things: Sequence[Any]) -> list[str]:
    """A name for each of a layer's children or variables: the same in every process, and no two alike."""
    stems = [_stem(thing) for thing in things]
    names = [""] * len(things)
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    # Names given by hand come first, so that counting makes way for them.
    for index in sorted(range(len(things)), key=lambda index: stems[index][1]):
        stem = name = stems[index][0]
        while name in taken:
            numbers[stem] += 1
            name = f"{stem}_{numbers[stem]}"
        names[index] = name
        taken.add(name)
    return names


def _stem(thing: Any) -> tuple[str, bool]:
    """A name without Keras' number, and whether Keras made it, which it does from the class.

    ``Bidirectional`` puts a word before the name of what it wraps.
    """
    kind = _letters(type(thing).__name__)
    for stem in (thing.name, re.sub(r"_\d+$", "", thing.name)):
        wrapped = re.sub("^(forward|backward)_", "", stem)
        if kind in (_letters(stem), _letters(wrapped)):
            return stem, True
    return thing.name, False


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
