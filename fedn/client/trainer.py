"""Runs the user's code: a base model's bytes in, an update's bytes out.

The client's driver calls `AppTrainer` in a worker thread with a verified model file; what comes back goes
into the journal. `apps` made the app, or `package_app` did from a compute package; its helper
(`fedn.helpers`) turns tensors into what it works with, and `results` checks what it returns.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from fedn import plugins
from fedn.client import faults
from fedn.client.apps import load_app
from fedn.client.hyperparameters import Hyperparameters, Values, check_overrides, resolve
from fedn.client.predictions import writing
from fedn.client.results import Report, check_result, predict_result, report_result, train_result, with_before
from fedn.domain.errors import FednError, InvalidInput
from fedn.domain.ids import ClientId
from fedn.domain.messages import Task, TaskKind
from fedn.domain.plan import Scalar
from fedn.helpers.files import layout_of, read_file, seed_file, write_update
from fedn.ports import Helper, ProximalHelper, Trained

_log = logging.getLogger(__name__)
DEFAULT_HELPER = "numpy"


class AppTrainer:
    """Implements `fedn.ports.Trainer` with a user's app.

    The app has ``train(model, config)`` returning (model, examples) or (model, examples, metrics), and
    ``validate(model)`` returning (examples, metrics) or metrics alone. It may have ``check(model)``, a
    preflight check that returns the same or None (else validate() is the check), ``predict(model, output)``
    that writes files into the folder ``output`` and returns examples or (examples, metrics), ``helper``, the
    name of a helper (default numpy), and ``hyperparameters``, the names it knows with their defaults.

    Training and validating never overlap, so an app may keep state without locks of its own.

    Raises:
        InvalidInput: from every method, saying in a sentence what the app did wrong.
    """

    def __init__(
        self,
        app: Any,
        client: ClientId,
        overrides: Values | None = None,
        share_errors: bool = False,
        predictions: Path | None = None,
        called: str = "app",
    ) -> None:
        """``overrides`` go over the plan's hyperparameters; predictions go below ``predictions``."""
        self._app = app
        self._client = client
        self._overrides: Values = overrides or {}
        self._share = share_errors
        self._predictions = predictions
        self._called = called
        self._known: Mapping[str, Scalar] | None = getattr(app, "hyperparameters", None)
        if not isinstance(self._known, Mapping | None):
            raise InvalidInput("app.hyperparameters", "is not a mapping", "give a dict of name to default")
        check_overrides(self._overrides, self._known, self._whose)
        self._helper_name = str(getattr(app, "helper", DEFAULT_HELPER))
        self._helper: Helper = plugins.load("fedn.helpers", self._helper_name)()
        self._one_at_a_time = threading.Lock()

    def train(self, model: memoryview, task: Task, package: memoryview | None = None) -> Trained:
        """One local training of ``model``, a whole file, as an update laid out like it."""
        _no_package(task)
        layout = layout_of(model)
        wanted = self._resolved(task)
        proximal = self._proximal(wanted.proximal_mu)
        what = self._name("train")
        with self._one_at_a_time:
            before = self._before(model, task) if wanted.measure_before_fit else {}
            loaded = self._load(model, task)
            with proximal(loaded):
                result = self._call(what, self._app.train, task, loaded, wanted.config)
            trained, examples, metrics = train_result(what, result)
            tensors = self._call("dump", self._helper.dump, task, trained)
            file = write_update(model, layout, tensors)
            return Trained(file, layout.digest, examples, with_before(what, metrics, before))

    def report(self, model: memoryview, task: Task, package: memoryview | None = None) -> Report:
        """(examples, metrics) of ``model``, a whole file, on the client's own data."""
        _no_package(task)
        wanted = self._resolved(task)
        self._proximal(wanted.proximal_mu)  # what train() would refuse is named now
        if task.kind is TaskKind.CHECK and wanted.measure_before_fit and not self._has("validate"):
            raise no_validate(self._called)
        with self._one_at_a_time:
            match task.kind:
                case TaskKind.CHECK if self._has("check"):
                    return self._run("check", check_result, model, task)
                case TaskKind.CHECK if not self._has("validate"):
                    self._load(model, task)  # at least it goes with the model
                    return 0, {}
                case TaskKind.PREDICT:
                    return self._predict(model, task)
                case _:  # data that does not go with the model shows in validate(), too
                    return self._run("validate", report_result, model, task)

    def seed(self, task: Task) -> bytes:
        """A model to start from: what ``build()`` returns, as a file."""
        if not self._has("build"):
            raise InvalidInput(self._called, "has no build()", "give a model, or add build()")
        with self._one_at_a_time:
            built = self._call(self._name("build"), self._app.build, task)
            return seed_file(self._call("dump", self._helper.dump, task, built))

    def cancel(self, task: Task) -> None:
        """Nothing: a thread can't be ended from outside; what it comes to is not waited for."""

    def hurry(self) -> None:
        """Nothing, for the same reason."""

    def rest(self, away: bool) -> None:
        """Nothing: an app's memory is the client's own."""

    def close(self) -> None:
        """Nothing to close."""

    def _predict(self, model: memoryview, task: Task) -> Report:
        if self._predictions is None:
            remedy = "give it one with --predictions"
            raise InvalidInput("predictions", "this client has no folder for them", remedy)
        with writing(self._predictions, task) as output:
            return self._run("predict", predict_result, model, task, output)

    def _run(
        self, method: str, check: Callable[[str, Any], Report], model: memoryview, task: Task, *more: Any
    ) -> Report:
        if not self._has(method):
            raise InvalidInput(self._called, f"has no {method}()", f"add {method}() to it")
        loaded = self._load(model, task)
        result = self._call(self._name(method), getattr(self._app, method), task, loaded, *more)
        return check(self._name(method), result)

    def _before(self, model: memoryview, task: Task) -> Mapping[str, float]:
        """Metrics of the model that came, on a model of its own: train() gets one that nobody touched."""
        if not self._has("validate"):
            raise no_validate(self._called)
        return self._run("validate", report_result, model, task)[1]

    def _proximal(self, mu: float) -> Callable[[Any], AbstractContextManager[None]]:
        """What holds the training of a model near it; with the numpy helper train() sees to it itself."""
        if mu == 0 or self._helper_name == DEFAULT_HELPER:
            return nullcontext
        if not isinstance(self._helper, ProximalHelper):
            problem = f"{mu:g} can't be used with the helper {self._helper_name}"
            remedy = "use keras or torch; or numpy, with a train() that reads it from config; or set it to 0"
            raise InvalidInput("proximal_mu", problem, remedy)
        return partial(self._helper.proximal, mu=mu)

    def _load(self, model: memoryview, task: Task) -> Any:
        return self._call("load", self._helper.load, task, read_file(model), self._app)

    def _has(self, method: str) -> bool:
        return callable(getattr(self._app, method, None))

    def _name(self, method: str) -> str:
        return f"{self._called}.{method}()"

    def _resolved(self, task: Task) -> Hyperparameters:
        return resolve(task, self._client, self._known, self._overrides, self._whose)

    @property
    def _whose(self) -> str:
        return f"this client's {self._called}" if self._called == "app" else f"the {self._called}"

    def _call(self, what: str, function: Callable[..., Any], task: Task, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except BaseException as error:  # the user's code may raise anything; the thread is its own
            if isinstance(error, FednError) and not what.startswith(f"{self._called}."):
                raise
            context = {"session": task.session, "round": task.round, "client": self._client}
            _log.exception("%s failed", what, extra=context)
            raise faults.raised(what, error, self._share) from error


def no_validate(called: str) -> InvalidInput:
    """What is said where metrics before the training are wanted, and nothing can measure them."""
    problem = f"needs validate(), which the {called} has not"
    return InvalidInput("measure_before_fit", problem, "add it, or start the session without")


def _no_package(task: Task) -> None:
    if task.package:
        problem = "is set, and this client runs an app of its own"
        raise InvalidInput("package", problem, "start it with --data instead of --app to run packages")


__all__ = ["AppTrainer", "load_app", "no_validate"]
