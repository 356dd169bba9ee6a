"""A compute package's Python functions as the app that `trainer` knows how to run; made in a worker.

The package's own folder comes first among the places where Python looks for modules.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

from fedn.client import faults
from fedn.domain.errors import InvalidInput
from fedn.packages.manifest import EntryPoint, Manifest

_log = logging.getLogger(__name__)
CALLED = "package"


class PackageApp:
    """Has those of train, validate, check, predict and build that the package has as Python functions.

    ``startup`` is called at once with the owner's ``data``; what it returns the others get in its place.

    Raises:
        InvalidInput: a function is not there, or something raised.
    """

    def __init__(self, manifest: Manifest, folder: Path, data: str, share_errors: bool) -> None:
        self.helper = manifest.helper
        self.hyperparameters = dict(manifest.hyperparameters)
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        points = {name: point for name, point in manifest.entry_points.items() if point.kind == "python"}
        functions = {name: _function(name, point, share_errors) for name, point in points.items()}
        given: Any = data
        if startup := functions.pop("startup", None):
            given = _guarded(f"{CALLED}.startup()", partial(startup, data), share_errors)
        if "build" in functions:
            self.build = functions["build"]
        if "train" in functions:
            self.train = lambda model, config: functions["train"](model, given, config)
        if "validate" in functions:
            self.validate = lambda model: functions["validate"](model, given)
        if "check" in functions:
            self.check = lambda model: functions["check"](model, given)
        if "predict" in functions:
            self.predict = lambda model, output: functions["predict"](model, given, output)


def _function(name: str, point: EntryPoint, share: bool) -> Callable[..., Any]:
    source, _, attribute = point.target.partition(":")
    what = f"{CALLED}: {name} ({point.target})"
    module = _guarded(what, partial(import_module, source), share)
    try:
        function = attrgetter(attribute)(module)
    except AttributeError:
        raise InvalidInput(what, "is not there", f"name a function of {source} in fedn.yaml") from None
    if not callable(function):
        raise InvalidInput(what, f"is of type {type(function).__name__}", "name a function")
    return function  # type: ignore[no-any-return]


def _guarded(what: str, call: Callable[[], Any], share: bool) -> Any:
    try:
        return call()
    except BaseException as error:  # the user's code may raise anything
        _log.exception("%s failed", what)
        raise faults.raised(what, error, share) from error
