"""From ``--app module:factory`` to the user's object that trains; `trainer` calls it.

The factory is called once, in the client's process, with the client's ``app_options`` as keyword
arguments. What comes back has ``train(model, config)`` and ``validate(model)``.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from fedn.domain.errors import InvalidInput
from fedn.domain.plan import Scalar

_log = logging.getLogger(__name__)


def load_app(target: str, options: Mapping[str, Scalar]) -> Any:
    """Import and call the factory that ``target`` names: ``module:factory`` or ``path/file.py:factory``.

    A module is looked for where Python finds packages, then in the current folder; a file's own folder is
    searched for what it imports.

    Raises:
        InvalidInput: naming ``app`` or the option, when something is missing, unknown or raises.
    """
    factory = find(target, "app")
    _check_options(target, factory, options)
    return _checked(target, _call(target, factory, options))


def find(target: str, field: str) -> Callable[..., Any]:
    """What ``target`` names, ``module:factory`` or ``path/file.py:factory``; it is not called.

    Raises:
        InvalidInput: naming ``field``, when it is not there, is nothing to call or can't be imported.
    """
    source, _, name = target.rpartition(":")
    if not source or not name:
        raise InvalidInput(field, f"{target!r} names no factory", "give module:factory or file.py:factory")
    module = _import(source, field)
    try:
        found = attrgetter(name)(module)
    except AttributeError:
        raise InvalidInput(field, f"{source} has no {name}", "give the name of a function in it") from None
    if not callable(found):
        raise InvalidInput(field, f"{target} is of type {type(found).__name__}", "give a function or a class")
    return found  # type: ignore[no-any-return]


def _import(source: str, field: str) -> ModuleType:
    try:
        return _import_file(Path(source), field) if source.endswith(".py") else _import_module(source)
    except InvalidInput:
        raise
    except Exception as error:  # the user's module may raise anything
        raise _trouble(field, f"{source} can't be imported", error) from error


def _import_module(name: str) -> ModuleType:
    _search_also(Path.cwd())
    return importlib.import_module(name)


def _import_file(path: Path, field: str) -> ModuleType:
    if not path.is_file():
        raise InvalidInput(field, f"{path} is not a file", "give the path of an existing Python file")
    spec = importlib.util.spec_from_file_location(f"fedn_app_{path.stem}", path.resolve())
    assert spec is not None
    assert spec.loader is not None
    _search_also(path.resolve().parent)
    module = importlib.util.module_from_spec(spec)
    # Registered first: dataclasses in the file look their module up while it is executed.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _search_also(folder: Path) -> None:
    # Last, so that a file of the user's never stands in for an installed package.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _check_options(target: str, factory: Callable[..., Any], options: Mapping[str, Scalar]) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return  # built in C, without a signature; calling it will tell
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for name in options:
        if name not in named and not takes_any:
            remedy = f"known are {', '.join(named)}" if named else "it takes none"
            raise InvalidInput(f"app_options.{name}", f"is not an option of {target}", remedy)
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in options:
            raise InvalidInput(f"app_options.{name}", f"is missing; {target} needs it", f"give {name}=value")


def _call(target: str, factory: Callable[..., Any], options: Mapping[str, Scalar]) -> Any:
    try:
        return factory(**options)
    except Exception as error:  # the user's code may raise anything
        raise _trouble("app", f"{target} can't be called", error) from error


def _checked(target: str, app: Any) -> Any:
    for method in ("train", "validate"):
        if not callable(getattr(app, method, None)):
            problem = f"{target} returned an object of type {type(app).__name__} without {method}()"
            raise InvalidInput("app", problem, "return an object with train() and validate()")
    return app


def _trouble(field: str, what: str, error: Exception) -> InvalidInput:
    _log.error("%s", what, exc_info=error)
    remedy = "see the traceback in the log"
    return InvalidInput(field, f"{what}: {type(error).__name__}: {error}", remedy)
