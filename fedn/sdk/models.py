"""Whose framework a model is of, its tensors, and tensors back into a model of the same kind.

A helper (`fedn.helpers`, or a plug-in's) does the translation; here it is found by what the model is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedn import plugins
from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidModel
from fedn.ports import Helper, Tensors

FRAMEWORKS = ("keras", "torch", "sklearn")
"""Packages whose classes are known, each with a helper of the same name."""


def helper_of(model: object, field: str = "model") -> str:
    """The name of the helper for ``model``; '' for what is no model that is known.

    A dict of arrays is numpy's.
    """
    if isinstance(model, Mapping):
        return "numpy"
    packages = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    return next((name for name in FRAMEWORKS if name in packages), "")


def known_helper(model: object, name: str = "") -> str:
    """``name``, or the helper that goes with ``model``.

    Raises:
        InvalidModel: nobody said which, and it is no model that is known.
    """
    if found := name or helper_of(model):
        return found
    problem = f"is of type {type(model).__name__}, which is of no framework that is known"
    remedy = "give a Keras, PyTorch or scikit-learn model, a dict of arrays, or say which helper it takes"
    raise InvalidModel("model", problem, remedy)


def tensors_of(model: object, helper: str = "") -> dict[str, Array]:
    """Copies of what travels of a model, by name.

    Raises:
        InvalidInput: no such helper, or its framework is not installed.
        InvalidModel: the model is not one of the helper's, has no weights yet, or nothing to train.
    """
    return _made(known_helper(model, helper)).dump(model)


def load_into(model: Any, tensors: Tensors, helper: str = "") -> Any:
    """``model`` itself, now with these weights; what did not travel stays as it is.

    Raises:
        InvalidInput, InvalidModel: as `tensors_of`, or the tensors do not fit the model.
    """
    name = known_helper(model, helper)
    if name == "numpy":
        _check_names(model, tensors)
        model.update({key: value.copy() for key, value in tensors.items()})
        return model
    return _made(name).load(tensors, _Builder(lambda: model))


def _check_names(given: Mapping[str, Any], tensors: Tensors) -> None:
    """A dict that holds other arrays would be a mixture of two models; an empty one is filled."""
    if not given or given.keys() == tensors.keys():
        return
    lacking = ", ".join(sorted(tensors.keys() - given.keys()))
    foreign = ", ".join(sorted(str(name) for name in given.keys() - tensors.keys()))
    problems = [f"lacks {lacking}"] if lacking else []
    problems += [f"has {foreign}, which the weights have not"] if foreign else []
    raise InvalidModel("model", " and ".join(problems), "give a dict of the same names, or an empty one")


def build_with(build: Callable[[], Any], tensors: Tensors, helper: str) -> Any:
    """What ``build`` returns, with these weights; raises as `load_into`."""
    return _made(helper).load(tensors, _Builder(build))


def _made(helper: str) -> Helper:
    made: Helper = plugins.make("fedn.helpers", helper)
    return made


@dataclass(frozen=True, slots=True)
class _Builder:
    """An app, as far as a helper knows one."""

    build: Callable[[], Any]
