"""How a framework's own models are trained, validated and evaluated on (x, y), where nobody says how.

Keras: ``fit`` and ``evaluate`` of a compiled model. scikit-learn: ``partial_fit`` and ``score``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidInput
from fedn.domain.ids import derived_seed

Train = Callable[..., Any]
"""``train(model, data, config)`` returns (model, examples) or (model, examples, metrics)."""
Validate = Callable[..., Any]
"""``validate(model, data)`` returns (examples, metrics) or metrics alone."""


@dataclass(frozen=True, slots=True)
class Functions:
    """What an owner does with a model and its data.

    ``known`` are the hyperparameters that train() reads; None where nobody knows.
    """

    train: Train
    validate: Validate | None
    known: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """An owner's examples: those to train on, and those held out, which may be none."""

    x: Array
    y: Array
    held_x: Array
    held_y: Array

    @property
    def judged(self) -> tuple[Array, Array]:
        """Those held out; all, if none are."""
        return (self.held_x, self.held_y) if len(self.held_x) else (self.x, self.y)


def split(owner: str, data: Any, share: float, seed: int) -> Split:
    """Hold out ``share`` of (x, y), always the same examples for the same owner and seed.

    Raises:
        InvalidInput: naming the owner, when the data is no pair of arrays of one length.
    """
    field = f"data of {owner}"
    x, y = _pair(field, data)
    if share and len(x) < 2:
        raise InvalidInput(field, "is one example: none can be held out", "set validation_split to 0")
    held = min(len(x) - 1, max(1, round(len(x) * share))) if share else 0
    order = np.random.default_rng(derived_seed(seed, "held out", owner)).permutation(len(x))
    kept, out = np.sort(order[held:]), np.sort(order[:held])
    return Split(x[kept], y[kept], x[out], y[out])


def functions_of(helper: str, model: Any) -> Functions | None:
    """Those of the framework; None if it has none for such a model, or says not how."""
    if helper == "keras" and model.compiled:
        return Functions(_train_keras, _validate_keras, ("epochs", "batch_size"))
    if helper == "sklearn" and hasattr(model, "partial_fit"):
        return Functions(_train_sklearn, _validate_sklearn, ("epochs",))
    return None


def missing(helper: str, model: Any) -> InvalidInput:
    """What is said where `functions_of` has none."""
    give, kind = "give train(model, data, config)", type(model).__name__
    if helper != "sklearn":
        remedy = give + ("; or compile it" if helper == "keras" else "")
        return InvalidInput("train", f"is missing, and there is no usual way for this {helper} model", remedy)
    from sklearn.base import is_regressor

    other = "SGDRegressor()" if is_regressor(model) else 'SGDClassifier(loss="log_loss")'
    problem = f"is missing, and {kind} has no partial_fit, which training round by round takes"
    return InvalidInput("train", problem, f"use an estimator that has it, such as {other}, or {give}")


def check_config(functions: Functions, model: Any, config: Any) -> None:
    """Raises InvalidInput naming a hyperparameter that training as the framework does would ignore."""
    known = functions.known
    if known is None or not isinstance(config, Mapping):
        return
    for name in config:
        if name not in known:
            problem = f"is not used by the built-in training of {type(model).__name__}"
            remedy = f"known are {', '.join(known)}; set it on the model, or give train"
            raise InvalidInput(f"config.{str(name)[:80]}", problem, remedy)


def evaluation(helper: str, model: Any, data: Any) -> Callable[[Any], Mapping[str, float]]:
    """``evaluate(model)`` on (x, y); raises InvalidInput where the framework does not say how."""
    x, y = _pair("evaluate", data)
    if helper == "keras" and model.compiled:
        return lambda trained: _evaluate_keras(trained, x, y)
    if helper == "sklearn":
        return lambda trained: _score(trained, x, y)
    raise InvalidInput("evaluate", "can't be data for such a model", "give a function: evaluate(model)")


def _pair(field: str, data: Any) -> tuple[Array, Array]:
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InvalidInput(field, "is not (x, y)", "give two arrays, or functions that know the data")
    x, y = np.asarray(data[0]), np.asarray(data[1])
    if x.ndim == 0 or y.ndim == 0 or not len(x) == len(y) > 0:
        problem = f"has arrays of shapes {list(x.shape)} and {list(y.shape)}"
        raise InvalidInput(field, problem, "give as many labels as examples, and at least one")
    return x, y


# --- Keras -----------------------------------------------------------------------------------------


def _train_keras(model: Any, data: Split, config: Mapping[str, Any]) -> Any:
    history = model.fit(
        data.x, data.y, epochs=int(config["epochs"]), batch_size=int(config["batch_size"]), verbose=0
    ).history
    return model, len(data.x), {name: float(values[-1]) for name, values in history.items()}


def _validate_keras(model: Any, data: Split) -> Any:
    return len(data.held_x), _evaluate_keras(model, data.held_x, data.held_y)


def _evaluate_keras(model: Any, x: Array, y: Array) -> dict[str, float]:
    return {name: float(value) for name, value in model.evaluate(x, y, verbose=0, return_dict=True).items()}


# --- scikit-learn ----------------------------------------------------------------------------------


def _train_sklearn(model: Any, data: Split, config: Mapping[str, Any]) -> Any:
    for _ in range(int(config["epochs"])):
        model.partial_fit(data.x, data.y)
    return model, len(data.x)


def _validate_sklearn(model: Any, data: Split) -> Any:
    return len(data.held_x), _score(model, data.held_x, data.held_y)


def _score(model: Any, x: Array, y: Array) -> dict[str, float]:
    from sklearn.base import is_classifier

    return {"accuracy" if is_classifier(model) else "r2": float(model.score(x, y))}


def begun(model: Any, data: Mapping[str, Split]) -> Any:
    """A scikit-learn estimator that was fitted before as it is; else with the shapes of the owners' data.

    A linear model then begins at zero, a perceptron at random, after a step on zeros. Of the data nothing is
    looked at but which labels there are.
    """
    if hasattr(model, "coef_") or hasattr(model, "coefs_"):
        return model
    from sklearn.base import is_classifier

    first = next(iter(data.values())).x
    shape, dtype = first.shape[1:], first.dtype if first.dtype.kind == "f" else np.dtype(np.float64)
    if is_classifier(model):
        labels = np.unique(np.concatenate([np.concatenate([one.y, one.held_y]) for one in data.values()]))
        model.partial_fit(np.zeros((len(labels), *shape), dtype), labels, classes=labels)
    else:
        model.partial_fit(np.zeros((1, *shape), dtype), np.zeros(1))
    for name in ("coef_", "intercept_"):
        if hasattr(model, name):
            setattr(model, name, np.zeros_like(getattr(model, name)))
    return model
