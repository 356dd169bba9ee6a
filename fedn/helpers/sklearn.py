"""scikit-learn estimators to tensors and back: linear models and multi-layer perceptrons.

The tensors carry scikit-learn's own names: ``coef_``, ``intercept_``, ``classes_`` for linear models,
``coefs_.0``, ``intercepts_.0``, … for perceptrons. Everything else about an estimator (penalty, solver,
layer sizes) is the app's business: its ``build()`` returns a fresh estimator, and the helper fits it out
so that ``predict`` and ``partial_fit`` go on from the model's weights. What an optimizer remembers
between batches (Adam's moments, a decaying learning rate's clock) starts anew each round.
scikit-learn takes a second to import, so that waits until a helper is made. Its optimizers can't be reached
from outside, so there is no ``proximal``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fedn.aggregation.dtypes import Array
from fedn.domain.errors import InvalidModel
from fedn.helpers.files import check_tensor
from fedn.helpers.frameworks import framework, fresh
from fedn.ports import Tensors

_REMEDY = "use a linear model or a multi-layer perceptron, or the numpy helper with tensors of your own"
_UNFITTED = (
    "in build(), call its partial_fit() or fit(), if only on zeros of the data's shape, dtype and classes; "
    "or give --model FILE"
)
_RESEED = "seed the session with a model of the estimator that app.build() returns"


class SklearnHelper:
    """Implements `fedn.ports.Helper` for scikit-learn estimators.

    Raises:
        InvalidInput: scikit-learn is not installed.
    """

    def __init__(self) -> None:
        framework("sklearn", "sklearn")

    def load(self, tensors: Tensors, app: Any) -> Any:
        """``app.build()``, fitted with copies of ``tensors``.

        Raises:
            InvalidModel: no ``build()``, an estimator of another kind, or tensors that do not fit it.
        """
        estimator = fresh(app, "sklearn", "estimator")
        if _kind(estimator) == "linear":
            _fit_linear(estimator, tensors)
        else:
            _fit_perceptron(estimator, tensors)
        return estimator

    def dump(self, model: Any) -> dict[str, Array]:
        """The fitted weights of ``model``.

        Raises:
            InvalidModel: an estimator of another kind, one not fitted, or classes that are no numbers.
        """
        linear = _kind(model) == "linear"
        if not hasattr(model, "coef_" if linear else "coefs_"):
            problem = f"{type(model).__name__} is not fitted, so it has no weights yet"
            raise InvalidModel("model", problem, _UNFITTED)
        tensors = _linear_tensors(model) if linear else _perceptron_tensors(model)
        if hasattr(model, "classes_"):
            tensors["classes_"] = _numeric_classes(model.classes_)
        return {name: np.array(check_tensor(name, value)) for name, value in tensors.items()}


def _kind(estimator: Any) -> str:
    from sklearn.linear_model import SGDRegressor
    from sklearn.linear_model._base import LinearClassifierMixin, LinearModel
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    if isinstance(estimator, MLPClassifier | MLPRegressor):
        return "perceptron"
    if isinstance(estimator, LinearClassifierMixin | LinearModel | SGDRegressor):
        if getattr(estimator, "average", False):
            problem = "has average=..., whose running averages are not part of a model"
            raise InvalidModel("model", f"{type(estimator).__name__} {problem}", "set average=False")
        return "linear"
    raise InvalidModel("model", f"{type(estimator).__name__} can't be turned into tensors", _REMEDY)


def _numeric_classes(classes: Any) -> Array:
    array = np.asarray(classes)
    if array.ndim != 1 or array.dtype.kind not in "iubf" or not np.array_equal(array, np.trunc(array)):
        problem = f"are not whole numbers, one for each class ({array.dtype}, shape {list(array.shape)})"
        raise InvalidModel("tensor 'classes_'", problem, "encode the labels as 0, 1, 2, …")
    # Whole numbers are never averaged: every model of a session keeps the seed model's classes.
    return array.astype(np.int64)


def _linear_tensors(model: Any) -> dict[str, Any]:
    return {"coef_": model.coef_, "intercept_": np.asarray(model.intercept_)}


def _fit_linear(estimator: Any, tensors: Tensors) -> None:
    _check_names(tensors, ["coef_", "intercept_"], estimator)
    coef, intercept = np.array(tensors["coef_"]), np.array(tensors["intercept_"])
    rows = coef.shape[:-1]
    if coef.ndim not in (1, 2) or intercept.shape not in ((), rows, (1,)):
        problem = f"of shape {list(intercept.shape)} does not go with coef_ of shape {list(coef.shape)}"
        raise InvalidModel("tensor 'intercept_'", problem, _RESEED)
    try:
        _set_classes(estimator, tensors, outputs=math.prod(rows))
        _set(estimator, coef_=coef, intercept_=intercept if intercept.ndim else intercept[()])
        estimator.n_features_in_ = coef.shape[-1]
        if hasattr(estimator, "partial_fit"):
            _set(estimator, t_=1.0, n_iter_=1)
        estimator.predict(np.zeros((1, coef.shape[-1])))
    except AttributeError as error:  # a few classifiers predict from more than their coefficients
        problem = f"{type(estimator).__name__} can't be rebuilt from its coefficients ({error})"
        raise InvalidModel("model", problem, _REMEDY) from error


def _perceptron_tensors(model: Any) -> dict[str, Any]:
    pairs = zip(model.coefs_, model.intercepts_, strict=True)
    tensors: dict[str, Any] = {}
    for layer, (coef, intercept) in enumerate(pairs):
        tensors |= {f"coefs_.{layer}": coef, f"intercepts_.{layer}": intercept}
    return tensors


def _fit_perceptron(estimator: Any, tensors: Tensors) -> None:
    layers = len({name.rpartition(".")[2] for name in tensors if "." in name})
    names = [f"{kind}_.{layer}" for layer in range(max(layers, 1)) for kind in ("coefs", "intercepts")]
    _check_names(tensors, names, estimator)
    coefs = [np.array(tensors[f"coefs_.{layer}"]) for layer in range(layers)]
    intercepts = [np.array(tensors[f"intercepts_.{layer}"]) for layer in range(layers)]
    _check_layers(estimator, coefs, intercepts)
    _set_classes(estimator, tensors, outputs=coefs[-1].shape[1])
    _set(
        estimator, coefs_=coefs, intercepts_=intercepts, n_features_in_=coefs[0].shape[0],
        n_outputs_=coefs[-1].shape[1], n_layers_=layers + 1, out_activation_=_out_activation(estimator),
    )  # fmt: skip
    _start_training(estimator)


def _start_training(estimator: Any) -> None:
    """The bookkeeping that ``partial_fit`` expects of an estimator that was fitted before."""
    early = bool(estimator.early_stopping)
    _set(
        estimator, n_iter_=0, t_=0, loss_curve_=[], _no_improvement_count=0,
        _best_coefs=[coef.copy() for coef in estimator.coefs_],
        _best_intercepts=[intercept.copy() for intercept in estimator.intercepts_],
        best_loss_=None if early else np.inf, validation_scores_=[] if early else None,
        best_validation_score_=-np.inf if early else None,
    )  # fmt: skip


def _out_activation(estimator: Any) -> str:
    if hasattr(estimator, "classes_"):
        return "softmax" if len(estimator.classes_) > 2 else "logistic"
    return "exp" if getattr(estimator, "loss", "") == "poisson" else "identity"


def _check_layers(estimator: Any, coefs: Sequence[Array], intercepts: Sequence[Array]) -> None:
    for layer, (coef, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
        if coef.ndim != 2 or intercept.shape != coef.shape[1:]:
            problem = f"{list(intercept.shape)} does not go with coefs_.{layer} of shape {list(coef.shape)}"
            raise InvalidModel(f"tensor 'intercepts_.{layer}'", f"of shape {problem}", _RESEED)
    for layer, (below, above) in enumerate(pairwise(coefs), start=1):
        if below.shape[1] != above.shape[0]:
            problem = f"takes {above.shape[0]} numbers, the layer below gives {below.shape[1]}"
            raise InvalidModel(f"tensor 'coefs_.{layer}'", problem, _RESEED)
    hidden = [coef.shape[1] for coef in coefs[:-1]]
    wanted = np.atleast_1d(estimator.hidden_layer_sizes).tolist()
    if hidden != wanted:
        problem = f"has hidden layers {hidden}, the estimator of app.build() has {wanted}"
        raise InvalidModel("model", problem, _RESEED)


def _set_classes(estimator: Any, tensors: Tensors, outputs: int) -> None:
    from sklearn.base import is_classifier
    from sklearn.preprocessing import LabelBinarizer

    if not is_classifier(estimator):
        return
    classes = _numeric_classes(tensors["classes_"])
    if outputs != (len(classes) if len(classes) > 2 else 1):
        problem = f"names {len(classes)} classes for {outputs} outputs"
        raise InvalidModel("tensor 'classes_'", problem, _RESEED)
    estimator.classes_ = classes
    if _kind(estimator) == "perceptron":
        estimator._label_binarizer = LabelBinarizer().fit(classes)


def _check_names(tensors: Tensors, names: Sequence[str], estimator: Any) -> None:
    from sklearn.base import is_classifier

    wanted = [*names, "classes_"] if is_classifier(estimator) else list(names)
    if set(wanted) != set(tensors):
        problem = f"holds {', '.join(sorted(tensors))}; {type(estimator).__name__} needs {', '.join(wanted)}"
        raise InvalidModel("model", problem, _RESEED)


def _set(estimator: Any, **attributes: Any) -> None:
    for name, value in attributes.items():
        setattr(estimator, name, value)
