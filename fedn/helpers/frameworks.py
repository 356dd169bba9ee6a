"""What the helpers for frameworks share: finding the library, asking for a model, comparing layouts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from fedn.domain.errors import InvalidInput, InvalidModel
from fedn.ports import Tensors

NEED_BUILD = frozenset({"keras", "sklearn", "torch"})
"""Our helpers that put a model's tensors into what ``app.build()`` returns."""
_RESEED = "seed the session with a model of the kind that app.build() returns"


def framework(module: str, helper: str) -> Any:
    """Import a library that only the extra of the helper's name installs.

    Raises:
        InvalidInput: it can't be imported; names the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        problem = f"{helper!r} needs {module}, which can't be imported: {error}"
        raise InvalidInput("helper", problem, f"pip install '.[{helper}]' in fedn's source tree") from error


def fresh(app: Any, helper: str, kind: str) -> Any:
    """What ``app.build()`` returns.

    Raises:
        InvalidModel: the app has no such method.
    """
    build = getattr(app, "build", None)
    if not callable(build):
        problem = f"has no build(), which the {helper} helper needs"
        raise InvalidModel("app", problem, f"add a method that returns a fresh {kind}")
    return build()


def check_fit(tensors: Tensors, wanted: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
    """Compare a model's tensors with the (shape, dtype) that ``app.build()`` has under each name.

    Any float width goes into any other; whole numbers and booleans must be of the same dtype.

    Raises:
        InvalidModel: naming the first tensor that is missing, left over, or of another shape or dtype.
    """
    for name, (shape, dtype) in wanted.items():
        if name not in tensors:
            raise _bad(name, "is in the model of app.build(), but not in the model that is to be trained")
        value = tensors[name]
        if value.shape != shape:
            raise _bad(name, f"has shape {list(value.shape)}, the model of app.build() has {list(shape)}")
        if _averaged(value.dtype.name) != _averaged(dtype):
            raise _bad(name, f"has dtype {value.dtype.name}, the model of app.build() has {dtype}")
    if extra := [name for name in tensors if name not in wanted]:
        raise _bad(extra[0], "is not in the model of app.build(), or frozen there")


def _averaged(dtype: str) -> str:
    return "float" if "float" in dtype else dtype


def _bad(name: str, problem: str) -> InvalidModel:
    return InvalidModel(f"tensor {name[:80]!r}", problem, _RESEED)


def check_mu(mu: float) -> None:
    """Raise InvalidInput unless ``mu``, the strength of FedProx, is a finite number from 0 on."""
    if not (isinstance(mu, int | float) and math.isfinite(mu) and mu >= 0):
        raise InvalidInput("proximal_mu", f"is {mu!r}", "give a number from 0 on")


def no_step(mu: float) -> InvalidInput:
    """What to say when a training with FedProx could not have had it."""
    problem = f"ran with proximal_mu = {mu}, but no optimizer of the framework made a step on the model given"
    remedy = "train that very model with such an optimizer, or set proximal_mu to 0"
    return InvalidInput("app.train()", problem, remedy)


def in_use() -> InvalidModel:
    """What to say when a model is trained with FedProx twice at a time."""
    problem = "is in training with FedProx already"
    return InvalidModel("model", problem, "return a fresh model from every call of app.build()")
