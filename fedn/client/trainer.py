"""Runs the user's code: a base model's bytes in, an update's bytes out.

The client's driver calls `AppTrainer` in a worker thread with a verified model file; what comes back goes
into the journal. `apps` made the app; its helper (`fedn.helpers`) turns tensors into what it works with.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

from fedn import plugins
from fedn.client.apps import load_app
from fedn.domain.errors import FednError, InvalidInput
from fedn.domain.ids import ClientId, derived_seed
from fedn.domain.messages import Task
from fedn.domain.plan import Scalar
from fedn.domain.update import MAX_EXAMPLES, check_metrics, finite_metrics
from fedn.helpers.files import layout_of, read_file, write_update
from fedn.ports import Helper, Trained

_log = logging.getLogger(__name__)
DEFAULT_HELPER = "numpy"
RESERVED = ("round", "seed")
"""Given to every train() beside the plan's hyperparameters."""


class AppTrainer:
    """Implements `fedn.ports.Trainer` with a user's app.

    The app has ``train(model, config)`` returning (model, examples) or (model, examples, metrics), and
    ``validate(model)`` returning (examples, metrics) or metrics alone. It may have ``helper``, the name of
    a helper (default numpy), and ``hyperparameters``, the names it knows with their defaults.

    Training and validating never overlap, so an app may keep state without locks of its own.

    Raises:
        InvalidInput: from every method, saying in a sentence what the app did wrong.
    """

    def __init__(self, app: Any, client: ClientId) -> None:
        self._app = app
        self._client = client
        self._known: Mapping[str, Scalar] | None = getattr(app, "hyperparameters", None)
        if not isinstance(self._known, Mapping | None):
            raise InvalidInput("app.hyperparameters", "is not a mapping", "give a dict of name to default")
        self._helper: Helper = plugins.load("fedn.helpers", str(getattr(app, "helper", DEFAULT_HELPER)))()
        self._one_at_a_time = threading.Lock()

    def train(self, model: memoryview, task: Task) -> Trained:
        """One local training of ``model``, a whole file, as an update laid out like it."""
        layout = layout_of(model)
        config = self._config(task)
        with self._one_at_a_time:
            loaded = self._call("load", self._helper.load, task, read_file(model), self._app)
            result = self._call("app.train()", self._app.train, task, loaded, config)
            trained, examples, metrics = _train_result(result)
            tensors = self._call("dump", self._helper.dump, task, trained)
            return Trained(write_update(model, layout, tensors), layout.digest, examples, metrics)

    def validate(self, model: memoryview, task: Task) -> tuple[int, Mapping[str, float]]:
        """(examples, metrics) of ``model``, a whole file, on the client's own data."""
        with self._one_at_a_time:
            loaded = self._call("load", self._helper.load, task, read_file(model), self._app)
            return _validate_result(self._call("app.validate()", self._app.validate, task, loaded))

    def _config(self, task: Task) -> Mapping[str, Scalar]:
        values = json.loads(task.config or "{}")
        for name in RESERVED:
            if name in values:
                raise InvalidInput(f"config.{name}", "is set by the system", "choose another name")
        if (known := self._known) is not None:
            values = dict(known) | {name: _checked(name, value, known) for name, value in values.items()}
        seed = derived_seed(task.seed, task.round, self._client)
        return MappingProxyType({**values, "round": task.round, "seed": seed})

    def _call(self, what: str, function: Callable[..., Any], task: Task, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except BaseException as error:  # the user's code may raise anything; the thread is its own
            if isinstance(error, FednError) and not what.startswith("app."):
                raise
            context = {"session": task.session, "round": task.round, "client": self._client}
            _log.exception("%s failed", what, extra=context)
            problem = f"raised {type(error).__name__}: {error}"
            raise InvalidInput(what, problem, "see the traceback in this client's log") from error


def _checked(name: str, value: Scalar, known: Mapping[str, Scalar]) -> Scalar:
    if name not in known:
        remedy = f"known are {', '.join(known)}" if known else "it takes none"
        raise InvalidInput(f"config.{name}", "is not a hyperparameter of this client's app", remedy)
    default = known[name]
    if type(default) is float and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        problem = f"{value!r} is of type {type(value).__name__}, not {type(default).__name__}"
        raise InvalidInput(f"config.{name}", problem, f"give a value like {default!r}")
    return value


def _train_result(result: Any) -> tuple[Any, int, Mapping[str, float]]:
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        remedy = "return (model, examples) or (model, examples, metrics)"
        raise InvalidInput("app.train()", f"returned {_described(result)}", remedy)
    metrics = result[2] if len(result) == 3 else {}
    return result[0], _examples("app.train()", result[1]), _metrics("app.train()", metrics)


def _validate_result(result: Any) -> tuple[int, Mapping[str, float]]:
    if isinstance(result, Mapping):
        return 1, _metrics("app.validate()", result)
    if not isinstance(result, tuple) or len(result) != 2:
        remedy = "return (examples, metrics) or a dict of metrics"
        raise InvalidInput("app.validate()", f"returned {_described(result)}", remedy)
    return _examples("app.validate()", result[0]), _metrics("app.validate()", result[1])


def _described(result: Any) -> str:
    return f"{len(result)} values" if isinstance(result, tuple) else f"one {type(result).__name__}"


def _examples(what: str, value: Any) -> int:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not 1 <= int(value) <= MAX_EXAMPLES:
        problem = f"returned {str(value)[:80]!r} as the number of examples"
        raise InvalidInput(what, problem, f"give a whole number from 1 to {MAX_EXAMPLES}")
    return int(value)


def _metrics(what: str, metrics: Any) -> Mapping[str, float]:
    if not isinstance(metrics, Mapping):
        problem = f"returned metrics of type {type(metrics).__name__}"
        raise InvalidInput(what, problem, "give a dict of name to number")
    for name, value in metrics.items():
        if not isinstance(name, str) or not isinstance(value, Real):
            problem = f"returned {str(value)[:80]!r} as metric {str(name)[:80]!r}"
            raise InvalidInput(what, problem, "metrics are numbers under names")
    return finite_metrics(check_metrics(metrics))


__all__ = ["AppTrainer", "load_app"]
